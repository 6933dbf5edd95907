"""The mel is the published one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.mel import MelSettings, log_mel, mel_filter_bank


@pytest.mark.parametrize("clip", range(6))
def test_the_mel_equals_the_published_one(reference: Path, clip: int) -> None:
    arrays = np.load(reference / "a_audio_mel.npz")
    frames = 4 * int(arrays[f"num_v_frames_{clip}"])
    expected = arrays[f"mel_{clip}"][0, :, :frames]
    mel = log_mel(torch.from_numpy(arrays[f"wav_{clip}"]))[:, :frames]
    assert np.abs(mel.numpy() - expected).max() < 1e-4


def test_the_filter_bank_is_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    expected = librosa.filters.mel(sr=16_000, n_fft=1024, n_mels=80, fmin=55, fmax=7500)
    np.testing.assert_allclose(mel_filter_bank().numpy(), expected, atol=1e-8)


def test_the_whole_mel_is_what_librosa_makes_of_the_recipe() -> None:
    librosa = pytest.importorskip("librosa")
    random = np.random.default_rng(0)
    wav = (random.normal(0, 0.1, 16_000) * np.hanning(16_000)).astype(np.float32)
    scaled = librosa.effects.preemphasis(wav / np.abs(wav).max() * 0.9, coef=0.97, zi=[0.0]).clip(-1, 1)
    mel = librosa.feature.melspectrogram(
        y=scaled, sr=16_000, n_fft=1024, hop_length=160, win_length=640, power=1.0, n_mels=80, fmin=55, fmax=7500,
        pad_mode="reflect",
    )  # fmt: skip
    floor = np.log(1e-5)
    expected = (np.log(np.maximum(mel, 1e-5)) - floor) / (-floor / 2) - 1
    assert np.abs(log_mel(torch.from_numpy(wav)).numpy() - expected).max() < 1e-4


def test_silence_is_minus_one_throughout() -> None:
    assert (log_mel(torch.zeros(6400)) == -1).all()


def test_loudness_does_not_matter_since_each_waveform_is_scaled_to_its_peak() -> None:
    wav = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    scaled = log_mel(wav * torch.tensor([[0.01], [30.0]]))
    torch.testing.assert_close(scaled, log_mel(wav), atol=1e-5, rtol=0)
    torch.testing.assert_close(log_mel(wav[1]), log_mel(wav)[1], atol=1e-6, rtol=0)


def test_the_length_is_one_frame_a_hop_and_one_more() -> None:
    assert log_mel(torch.randn(640 * 7)).shape == (80, 29)
    assert log_mel(torch.randn(3, 2, 640)).shape == (3, 2, 80, 5)


def test_too_few_samples_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"512 samples .* more than 512"):
        log_mel(torch.randn(512))


def test_settings_are_used() -> None:
    wav = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    assert log_mel(wav, MelSettings(n_mels=40)).shape == (40, 101)
    assert not torch.equal(log_mel(wav, MelSettings(preemphasis=0.0)), log_mel(wav))
