"""Griffin-Lim is the published one, for each clip of a batch as for the clip alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.mel import MelSettings
from model.vocoders.griffin_lim import draw_uniform, griffin_lim


def voice(seconds: float = 1.0, pitch: float = 120.0) -> Tensor:
    """Harmonics of a gliding pitch that swell and fade four times a second. (L,)"""
    time = torch.arange(int(seconds * 16_000), dtype=torch.float64) / 16_000
    phase = 2 * torch.pi * pitch * (time + 0.1 * time.square())
    harmonics = torch.stack([torch.sin(number * phase) / number for number in range(1, 30)])
    return (harmonics.sum(dim=0) * torch.sin(4 * torch.pi * time).square()).float()


def magnitude_of(wav: Tensor) -> Tensor:
    """(B, L) -> (B, 513, L // 160 + 1)"""
    return torch.stft(wav, 1024, 160, 640, torch.hann_window(640), pad_mode="reflect", return_complex=True).abs()


def misfit(wav: Tensor, magnitude: Tensor) -> float:
    """Spectral convergence: how far a waveform's magnitudes are from the given ones."""
    return float((magnitude_of(wav) - magnitude).norm() / magnitude.norm())


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_griffin_lim_equals_the_published_one_in_its_first_rounds(reference: Path, rounds: int) -> None:
    arrays = np.load(reference / "d_griffin_lim_steps.npz")
    magnitude, uniform = torch.from_numpy(arrays["spec_from_mel"]), torch.from_numpy(arrays["uniform"])
    expected = arrays[f"signal_{rounds}"].reshape(-1)
    signal = griffin_lim(magnitude, uniform, rounds=rounds)[0].numpy()
    # float32 against float32 of other FFTs
    assert np.abs(signal - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("settings", [MelSettings(), MelSettings(n_fft=512, hop_length=128, win_length=400)])
def test_griffin_lim_round_is_what_torch_stft_and_istft_make_of_it(settings: MelSettings) -> None:
    random = torch.Generator().manual_seed(0)
    magnitude = torch.rand(1, settings.n_fft // 2 + 1, 30, generator=random)
    uniform = draw_uniform([1], 30, settings)
    sizes = (settings.n_fft, settings.hop_length, settings.win_length, torch.hann_window(settings.win_length))
    expected = torch.istft(torch.polar(magnitude, 2 * torch.pi * uniform), *sizes)
    for rounds in range(3):
        wav = griffin_lim(magnitude, uniform, rounds=rounds, settings=settings)
        torch.testing.assert_close(wav, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
        spectrum = torch.stft(expected, *sizes, pad_mode="reflect", return_complex=True)
        expected = torch.istft(magnitude * torch.sgn(spectrum), *sizes)


def test_griffin_lim_rounds_approach_the_magnitudes_and_momentum_does_so_faster() -> None:
    magnitude = magnitude_of(voice()[None])
    uniform = draw_uniform([0], magnitude.shape[2])
    slow = [misfit(griffin_lim(magnitude, uniform, rounds=rounds), magnitude) for rounds in (0, 1, 2, 4, 8, 16, 32)]
    assert all(after < before for before, after in pairwise(slow))
    assert slow[-1] < 0.4 * slow[0]
    assert misfit(griffin_lim(magnitude, uniform, rounds=32, momentum=0.99), magnitude) < 0.8 * slow[-1]


def test_momentum_is_that_of_fast_griffin_lim_on_spectra() -> None:
    magnitude, uniform = magnitude_of(voice(0.5)[None]), draw_uniform([0], 51)
    sizes = (1024, 160, 640, torch.hann_window(640))
    consistent = before = magnitude_phase = torch.polar(magnitude, 2 * torch.pi * uniform)
    for number in range(5):
        wav = torch.istft(magnitude_phase, *sizes)
        before, consistent = consistent, torch.stft(wav, *sizes, pad_mode="reflect", return_complex=True)
        leap = consistent + (0.9 * (consistent - before) if number else 0)
        magnitude_phase = magnitude * torch.sgn(leap)
    expected = torch.istft(magnitude_phase, *sizes)
    wav = griffin_lim(magnitude, uniform, rounds=5, momentum=0.9)
    # phases of nearly empty bins turn on the last digit of float32, and five rounds pass that on
    torch.testing.assert_close(wav, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_clip_in_a_padded_batch_sounds_as_it_does_alone(momentum: float) -> None:
    lengths = torch.tensor([101, 2, 60, 3, 1, 0])
    magnitude = magnitude_of(torch.stack([voice(pitch=100 + 20 * number) for number in range(6)]))
    padded = magnitude.where(torch.arange(101) < lengths[:, None, None], torch.nan)
    wav = griffin_lim(padded, draw_uniform(range(6), 101), lengths, rounds=30, momentum=momentum)
    assert wav.shape == (6, 16_000)
    for number, length in enumerate(lengths.tolist()):
        assert (wav[number, max(length - 1, 0) * 160 :] == 0).all()
        if length >= 2:
            clip = magnitude[number : number + 1, :, :length]
            alone = griffin_lim(clip, draw_uniform([number], length), rounds=30, momentum=momentum)
            # the same sums in another order, at most; rounds amplify that
            assert (wav[number, : (length - 1) * 160] - alone[0]).abs().max() < 1e-4 * alone.abs().max()
            assert alone.abs().max() > 0


def test_start_phases_depend_on_the_seed_alone() -> None:
    batch = draw_uniform([3, 4], 20)
    assert torch.equal(draw_uniform([4], 12)[0], batch[1, :, :12])
    assert not torch.equal(batch[0], batch[1])
    assert batch.min() >= 0
    assert batch.max() < 1
    assert abs(float(batch.mean()) - 0.5) < 0.01  # 20,000 draws: a standard error of 0.002


def test_griffin_lim_refuses_one_frame_and_phases_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"1 frame.*at least 2"):
        griffin_lim(torch.ones(1, 513, 1), draw_uniform([0], 1))
    with pytest.raises(ValueError, match=r"\(1, 513, 9\).*\(1, 513, 8\)"):
        griffin_lim(torch.ones(1, 513, 9), draw_uniform([0], 8))
