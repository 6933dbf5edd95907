"""ESTOI loss: of mels, as ESTOI is of their waveforms."""

import warnings

import numpy as np
import pytest
import torch
from pystoi import stoi
from torch import Tensor

from model.estoi_loss import estoi_loss, third_octave_bank
from model.mel import log_mel
from runtime.constants import SAMPLE_RATE

FRAMES = 150


def _syllables(seed: int, frames: int = FRAMES) -> Tensor:
    """float32 (160 frames,): bands of noise whose loudness goes up and down some times a second, each by itself."""
    generator = torch.Generator().manual_seed(seed)
    samples = 160 * frames
    spectrum = torch.fft.rfft(torch.randn(8, samples, generator=generator))
    hz = torch.linspace(0, SAMPLE_RATE / 2, spectrum.shape[1])
    centres = 200.0 * 1.6 ** torch.arange(8)[:, None]
    bands = torch.fft.irfft(spectrum * ((hz / centres).log().abs() < 0.25), samples)
    bands = bands / bands.std(dim=1, keepdim=True)
    loudness = torch.nn.functional.interpolate(
        torch.rand(1, 8, frames // 10, generator=generator).square(), samples, mode="linear"
    )
    speech: Tensor = 0.1 * (bands * loudness[0]).sum(dim=0)
    return speech


def _mel(wav: Tensor) -> Tensor:
    return log_mel(wav)[..., :FRAMES]


def test_estoi_loss_is_nearly_one_minus_the_estoi_of_the_waveforms() -> None:
    speech, noise = _syllables(0), 0.1 * torch.randn(160 * FRAMES, generator=torch.Generator().manual_seed(9))
    losses, expected = [], []
    for level in (0.1, 0.4, 0.8, 1.6):
        noisy = speech + level * noise
        losses.append(float(estoi_loss(_mel(noisy)[None], _mel(speech)[None], torch.tensor([FRAMES]))))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            expected.append(1 - float(stoi(speech.numpy(), noisy.numpy(), SAMPLE_RATE, extended=True)))
    assert losses == sorted(losses)
    assert np.allclose(losses, expected, atol=0.1), (losses, expected)


def test_estoi_loss_is_0_of_equal_mels_and_about_1_of_unrelated_ones() -> None:
    one, other = (_mel(_syllables(seed))[None] for seed in (1, 2))
    lengths = torch.tensor([FRAMES])
    assert float(estoi_loss(one, one, lengths)) == pytest.approx(0, abs=1e-5)
    assert float(estoi_loss(one, other, lengths)) == pytest.approx(1, abs=0.2)


def test_estoi_loss_does_not_ask_how_loud_a_band_is() -> None:
    mel = _mel(_syllables(3))[None]
    louder = mel + torch.linspace(0.0, 0.3, 80)[:, None]
    assert float(estoi_loss(louder, mel, torch.tensor([FRAMES]))) < 0.03


def test_estoi_loss_does_not_look_past_lengths() -> None:
    target = torch.stack([_mel(_syllables(seed)) for seed in (4, 5)])
    generated = torch.stack([_mel(_syllables(seed)) for seed in (6, 7)])
    lengths = torch.tensor([FRAMES, 90])
    found = estoi_loss(generated, target, lengths)
    generated[1, :, 90:], target[1, :, 90:] = 0.9, -0.3
    generated.requires_grad_(True)
    again = estoi_loss(generated, target, lengths)
    again.backward()
    assert float(again.detach()) == float(found)
    assert generated.grad is not None
    assert not generated.grad[1, :, 90:].any()
    assert generated.grad[1, :, :90].any()


def test_estoi_loss_of_clips_shorter_than_a_run_is_0_with_a_gradient_of_0() -> None:
    for frames, length in ((20, 20), (FRAMES, 20)):
        generated = torch.zeros(1, 80, frames, requires_grad=True)
        loss = estoi_loss(generated, torch.full((1, 80, frames), -0.5), torch.tensor([length]))
        loss.backward()
        assert float(loss.detach()) == 0
        assert generated.grad is not None
        assert not generated.grad.any()


@pytest.mark.parametrize("level", [-1.0, 60.0, -60.0])
def test_estoi_loss_of_levels_far_from_speech_is_finite(level: float) -> None:
    generated = torch.full((1, 80, FRAMES), level, requires_grad=True)
    target = _mel(_syllables(8))[None] if level > 0 else torch.full((1, 80, FRAMES), -1.0)
    loss = estoi_loss(generated, target, torch.tensor([FRAMES]))
    loss.backward()
    assert torch.isfinite(loss)
    assert generated.grad is not None
    assert torch.isfinite(generated.grad).all()


def test_third_octaves_take_their_energy_from_the_bands_inside_them() -> None:
    bank = third_octave_bank()
    assert bank.shape == (15, 80)
    places = (bank * torch.arange(80)).sum(dim=1) / bank.sum(dim=1)
    assert (places.diff() > 0).all()
    assert (bank > 0).any(dim=1).all()
    assert not bank[:, -10:].any(), "ESTOI ends at 4.3 kHz"
