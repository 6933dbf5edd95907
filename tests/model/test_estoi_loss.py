"""ESTOI loss: of mels, as ESTOI is of their waveforms."""

import warnings

import numpy as np
import pytest
import torch
from pystoi import stoi
from pystoi.utils import row_col_normalize
from torch import Tensor

from model.estoi_loss import (
    _normalized_runs,
    _third_octaves,
    estoi_loss,
    run_frames,
    third_octave_bank,
    waveform_estoi_loss,
)
from model.mel import MelSettings, analyzed_wave, band_centres, log_mel
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


def _analyzed(*wavs: Tensor) -> Tensor:
    """(B, samples), pre-emphasized."""
    reach, batch = MelSettings().n_fft // 2, torch.stack(wavs)
    return analyzed_wave(batch, torch.full((len(batch),), batch.shape[1]))[:, reach:-reach]


def test_waveform_estoi_loss_is_one_minus_estoi() -> None:
    generator = torch.Generator().manual_seed(9)
    for seed, level, hum in ((0, 0.1, 0.0), (1, 0.8, 0.0), (2, 1.6, 0.0), (3, 0.8, 0.3)):
        speech, noise = _syllables(seed), 0.1 * torch.randn(160 * FRAMES, generator=generator)
        speech = speech + hum * (2 * torch.pi * 40 * torch.arange(len(speech)) / SAMPLE_RATE).sin()
        noisy = speech + level * noise
        loss = waveform_estoi_loss(_analyzed(noisy), _analyzed(speech), torch.tensor([len(speech)]))
        expected = 1 - float(stoi(speech.numpy(), noisy.numpy(), SAMPLE_RATE, extended=True))
        assert float(loss) == pytest.approx(expected, abs=0.04)


def test_waveform_estoi_loss_does_not_look_past_lengths() -> None:
    generated, target = (_analyzed(*(_syllables(seed) for seed in seeds)) for seeds in ((6, 7), (4, 5)))
    lengths = torch.tensor([160 * FRAMES, 12_000])
    found = waveform_estoi_loss(generated, target, lengths)
    generated[1, 12_000:], target[1, 12_000:] = 0.5, -0.5
    padded = generated.clone().requires_grad_(True)
    again = waveform_estoi_loss(padded, target, lengths)
    again.backward()
    assert float(again.detach()) == float(found)
    assert padded.grad is not None
    assert not padded.grad[1, 12_000:].any()
    assert padded.grad[1, :11_000].any()


def test_waveform_estoi_loss_of_clips_shorter_than_a_run_is_0_with_a_gradient_of_0() -> None:
    for samples, length in ((300, 300), (24_000, 5000)):
        generated = torch.zeros(1, samples, requires_grad=True)
        loss = waveform_estoi_loss(generated, torch.full((1, samples), 0.1), torch.tensor([length]))
        loss.backward()
        assert float(loss.detach()) == 0
        assert generated.grad is not None
        assert not generated.grad.any()


def test_gradient_of_waveform_estoi_loss_is_bounded() -> None:
    speech = _analyzed(_syllables(8))
    lengths = torch.tensor([speech.shape[1]])
    for given in (torch.zeros_like(speech), 1e-6 * speech, speech.flip(1), 1000 * speech):
        for target in (speech, torch.zeros_like(speech)):
            generated = given.clone().requires_grad_(True)
            waveform_estoi_loss(generated, target, lengths).backward()
            assert generated.grad is not None
            assert generated.grad.isfinite().all()


def test_estoi_loss_is_nearly_0_of_equal_mels_and_about_1_of_unrelated_ones() -> None:
    one, other = (_mel(_syllables(seed))[None] for seed in (1, 2))
    lengths = torch.tensor([FRAMES])
    assert float(estoi_loss(one, one, lengths)) == pytest.approx(0, abs=1e-3)
    assert float(estoi_loss(one, other, lengths)) == pytest.approx(1, abs=0.2)


def test_estoi_loss_does_not_ask_how_loud_a_band_is() -> None:
    mel = _mel(_syllables(3))[None]
    louder = mel + torch.linspace(0.0, 0.3, 80)[:, None]
    assert float(estoi_loss(louder, mel, torch.tensor([FRAMES]))) < 0.03


def test_estoi_loss_hardly_hears_noise_in_a_pause() -> None:
    speech, noise = _syllables(0), 0.1 * torch.randn(160 * FRAMES, generator=torch.Generator().manual_seed(9))
    speech[160 * 75 :] = 0
    pause = torch.zeros_like(speech)
    pause[160 * 80 :] = 1
    target, lengths = _mel(speech)[None], torch.tensor([FRAMES])
    in_pause = float(estoi_loss(_mel(speech + pause * noise)[None], target, lengths))
    in_speech = float(estoi_loss(_mel(speech + (1 - pause) * noise)[None], target, lengths))
    assert in_pause < 0.2 < in_speech


def test_runs_are_normalized_as_pystoi_does() -> None:
    frames = run_frames()
    assert frames == 38, "384 ms"
    magnitudes = torch.rand(1, 15, 60, generator=torch.Generator().manual_seed(3)) + 0.1
    found = _normalized_runs(magnitudes, frames)[0].transpose(0, 1)
    segments = np.stack([magnitudes[0, :, start : start + frames].double().numpy() for start in range(0, 23, 2)])
    assert np.allclose(found.numpy(), row_col_normalize(segments), atol=2e-3)


def test_third_octaves_of_white_noise_grow_with_their_width() -> None:
    noise = 0.1 * torch.randn(SAMPLE_RATE * 20, generator=torch.Generator().manual_seed(1))
    energies = _third_octaves(log_mel(noise)[None], torch.ones(1, 2001, dtype=torch.bool), MelSettings()).square()
    assert energies.shape == (1, 15, 2001)
    growth = energies.mean(dim=(0, 2)).log2().diff()
    assert np.allclose(growth[3:].numpy(), 1 / 3, atol=0.1), growth
    assert float(growth.sum()) == pytest.approx(14 / 3, abs=0.5), growth


def test_third_octaves_take_their_energy_from_the_bands_inside_them() -> None:
    bank = third_octave_bank()
    assert bank.shape == (15, 80)
    places = (bank * torch.arange(80)).sum(dim=1) / bank.sum(dim=1)
    assert (places.diff() > 0).all()
    assert (bank > 0).any(dim=1).all()
    centres = band_centres()
    used = centres[(bank > 0).any(dim=0)]
    assert 100 < float(used[0]) < 150
    assert 4000 < float(used[-1]) < 4700, "the highest third octave ends at 4.3 kHz"


def test_estoi_loss_does_not_look_past_lengths() -> None:
    target = torch.stack([_mel(_syllables(seed)) for seed in (4, 5)])
    generated = torch.stack([_mel(_syllables(seed)) for seed in (6, 7)])
    lengths = torch.tensor([FRAMES, 90])
    found = estoi_loss(generated, target, lengths)
    for padding in (0.9, float("nan")):
        generated[1, :, 90:], target[1, :, 90:] = padding, padding
        padded = generated.clone().requires_grad_(True)
        again = estoi_loss(padded, target, lengths)
        again.backward()
        assert float(again.detach()) == float(found)
        assert padded.grad is not None
        assert not padded.grad[1, :, 90:].any()
        assert padded.grad[1, :, :90].any()


def test_estoi_loss_of_clips_shorter_than_a_run_is_0_with_a_gradient_of_0() -> None:
    for frames, length in ((20, 20), (FRAMES, 20)):
        generated = torch.zeros(1, 80, frames, requires_grad=True)
        loss = estoi_loss(generated, torch.full((1, 80, frames), -0.5), torch.tensor([length]))
        loss.backward()
        assert float(loss.detach()) == 0
        assert generated.grad is not None
        assert not generated.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("generated", ["flat", "nearly flat", "flat bands", "silence", "too loud", "too faint"])
def test_gradient_of_estoi_loss_is_bounded(generated: str, dtype: torch.dtype) -> None:
    speech = _mel(_syllables(8))[None]
    flat = speech.mean(dim=2, keepdim=True).expand_as(speech)
    mel = {
        "flat": flat,
        "nearly flat": flat + 1e-4 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(4)),
        "flat bands": torch.cat([flat[:, :6], speech[:, 6:]], dim=1),
        "silence": torch.full_like(speech, -1.0),
        "too loud": torch.full_like(speech, 60.0),
        "too faint": torch.full_like(speech, -60.0),
    }[generated]
    for target in (speech, torch.full_like(speech, -1.0)):
        given = mel.to(dtype).clone().requires_grad_(True)
        loss = estoi_loss(given, target, torch.tensor([FRAMES]))
        loss.backward()
        assert loss.dtype == torch.float32
        assert float(loss.detach()) == pytest.approx(1, abs=1)
        assert given.grad is not None
        assert float(given.grad.float().norm()) < 500
