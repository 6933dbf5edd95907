"""Magnitudes under a mel: never negative, with that very mel, nearer it than the published ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.mel import mel_filter_bank
from model.vocoders.mel_to_wav import mel_constraint, nonnegative, transposed
from tests.model.test_griffin_lim import magnitude_of, voice


def mel_of(magnitude: Tensor) -> Tensor:
    return mel_filter_bank() @ magnitude


def mel_misfit(magnitude: Tensor, mel: Tensor) -> float:
    """At the level that suits the magnitudes best, since the published one is arbitrary."""
    found = mel_of(magnitude)
    level = (found * mel).sum() / found.square().sum()
    return float((level * found - mel).norm() / mel.norm())


def test_nonnegative_inversion_reaches_a_mel_that_magnitudes_can_have() -> None:
    spectra = {
        "noise": torch.rand(1, 513, 50, generator=torch.Generator().manual_seed(0)),
        "voice": magnitude_of(voice()[None]),
        "one line": torch.zeros(1, 513, 1).index_fill(1, torch.tensor(100), 1.0),
    }
    for name, spectrum in spectra.items():
        mel = mel_of(spectrum)
        magnitude = nonnegative(mel, updates=200)
        assert (magnitude >= 0).all(), name
        assert (mel_of(magnitude) - mel).norm() < 1e-3 * mel.norm(), name


def test_nonnegative_inversion_comes_nearer_with_more_updates() -> None:
    mel = mel_of(magnitude_of(voice()[None]))
    misfits = [mel_misfit(nonnegative(mel, updates), mel) for updates in (0, 1, 5, 20)]
    assert misfits == sorted(misfits, reverse=True)
    assert misfits[-1] < 0.01 * mel_misfit(transposed(mel), mel)


def test_level_is_that_of_the_magnitudes_themselves() -> None:
    spectrum = magnitude_of(voice()[None])[:, 4:480]
    whole = torch.nn.functional.pad(spectrum, (0, 0, 4, 33))  # what no band covers cannot be known
    found = nonnegative(mel_of(whole))
    assert float(found.norm() / whole.norm()) == pytest.approx(1, abs=0.2)


def test_silence_and_bins_outside_every_band_are_zero() -> None:
    assert (nonnegative(torch.zeros(1, 80, 3)) == 0).all()
    covered = mel_filter_bank().sum(dim=0) > 0
    magnitude = nonnegative(torch.ones(1, 80, 3))
    assert (magnitude[:, ~covered] == 0).all()
    assert (magnitude[:, covered] > 0).all()


def test_mel_constraint_brings_the_mel_and_keeps_the_phase() -> None:
    mel = mel_of(magnitude_of(voice(0.5)[None]))
    spectrum = torch.randn(1, 51, 513, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    constrain = mel_constraint(mel)
    obeying = spectrum
    for _ in range(100):
        obeying = constrain(obeying.clone())
    assert (mel_of(obeying.abs().transpose(1, 2)) - mel).norm() < 1e-3 * mel.norm()
    turned = (obeying / spectrum)[obeying.abs() > 1e-6]
    assert turned.imag.abs().max() < 1e-4 * turned.abs().max()
