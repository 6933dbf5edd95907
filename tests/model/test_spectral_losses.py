"""Losses between waveforms: zero for the same, blind to padding and to phase, with finite gradients in silence."""

from __future__ import annotations

import pytest
import torch

from model.vocoders.spectral_losses import spectral_losses
from tests.model.test_griffin_lim import voice


def test_losses_are_zero_for_the_same_waveform_and_grow_with_the_difference() -> None:
    wav = voice()[None] / 10
    length = torch.tensor([wav.shape[1]])
    noise = torch.randn(wav.shape, generator=torch.Generator().manual_seed(0))
    same, near, far = (spectral_losses(wav + level * noise, wav, length) for level in (0.0, 0.001, 0.1))
    for name in same._fields:
        assert float(getattr(same, name)) < 1e-3
        assert float(getattr(same, name)) < float(getattr(near, name)) < float(getattr(far, name))
    assert float(far.total) == pytest.approx(float(far.stft + far.bands + 2 * far.mel))


def test_losses_do_not_hear_the_sign_of_a_waveform() -> None:
    wav = voice()[None] / 10
    assert float(spectral_losses(-wav, wav, torch.tensor([wav.shape[1]])).total) < 1e-3


def test_losses_of_a_padded_batch_are_those_without_padding() -> None:
    ours, theirs = torch.stack([voice(), voice(pitch=150)]) / 10, torch.stack([voice(pitch=130), voice()]) / 10
    lengths = torch.tensor([16_000, 16_000])
    padded = [torch.nn.functional.pad(x, (0, 3000), value=0.5) for x in (ours, theirs)]
    for expected, found in zip(
        spectral_losses(ours, theirs, lengths), spectral_losses(padded[0], padded[1], lengths), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("samples", [100, 4000])
def test_losses_of_silence_and_of_too_few_samples_have_finite_gradients(samples: int) -> None:
    silent = torch.zeros(1, samples, requires_grad=True)
    spectral_losses(silent, 0.1 * voice(1)[None, :samples], torch.tensor([samples])).total.backward()
    assert silent.grad is not None
    assert silent.grad.isfinite().all()
