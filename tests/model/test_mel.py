"""The mel is the published one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.mel import MelSettings, log_mel, log_mel_batch, mel_filter_bank


@pytest.mark.parametrize("clip", range(6))
def test_mel_equals_the_published_one(reference: Path, clip: int) -> None:
    arrays = np.load(reference / "a_audio_mel.npz")
    frames = 4 * int(arrays[f"num_v_frames_{clip}"])
    expected = arrays[f"mel_{clip}"][0, :, :frames]
    mel = log_mel(torch.from_numpy(arrays[f"wav_{clip}"]))[:, :frames]
    assert np.abs(mel.numpy() - expected).max() < 1e-4


def test_filter_bank_is_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    expected = librosa.filters.mel(sr=16_000, n_fft=1024, n_mels=80, fmin=55, fmax=7500)
    np.testing.assert_allclose(mel_filter_bank().numpy(), expected, atol=1e-8)


def test_mel_is_what_librosa_makes_of_the_same_settings() -> None:
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


def test_mel_of_silence_is_minus_one_throughout() -> None:
    assert (log_mel(torch.zeros(6400)) == -1).all()


def test_mel_does_not_depend_on_loudness() -> None:
    wav = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    scaled = log_mel(wav * torch.tensor([[0.01], [30.0]]))
    torch.testing.assert_close(scaled, log_mel(wav), atol=1e-5, rtol=0)
    torch.testing.assert_close(log_mel(wav[1]), log_mel(wav)[1], atol=1e-6, rtol=0)


def test_mel_has_one_frame_a_hop_and_one_more() -> None:
    assert log_mel(torch.randn(640 * 7)).shape == (80, 29)
    assert log_mel(torch.randn(3, 2, 640)).shape == (3, 2, 80, 5)


def test_mel_refuses_too_few_samples_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"512 samples .* more than 512"):
        log_mel(torch.randn(512))


def test_mel_settings_are_used() -> None:
    wav = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    assert log_mel(wav, MelSettings(n_mels=40)).shape == (40, 101)
    assert not torch.equal(log_mel(wav, MelSettings(preemphasis=0.0)), log_mel(wav))


def test_mel_of_a_waveform_in_a_batch_is_that_of_it_alone() -> None:
    lengths = torch.tensor([16_000, 3200, 513, 640, 15_999, 8001])
    wav = torch.randn(6, 16_000, generator=torch.Generator().manual_seed(0))
    wav *= torch.tensor([1.0, 0.01, 5.0, 300.0, 0.1, 1.0])[:, None]  # peaks of their own
    wav[1, 3200:] = 1e4  # beyond the length: counts for nothing
    wav[5, 8001:] = torch.nan
    mels = log_mel_batch(wav, lengths)
    assert mels.shape == (6, 80, 101)
    for mel, alone, length in zip(mels, wav, lengths.tolist(), strict=True):
        frames = length // 160 + 1
        # products of another shape may add in another order
        torch.testing.assert_close(mel[:, :frames], log_mel(alone[:length]), atol=1e-5, rtol=0)
        assert (mel[:, frames:] == -1).all()


def test_mel_in_a_batch_equals_the_published_one(reference: Path) -> None:
    arrays = np.load(reference / "a_audio_mel.npz")
    waves = [torch.from_numpy(arrays[f"wav_{clip}"]) for clip in range(6)]
    mels = log_mel_batch(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor([*map(len, waves)]))
    for clip, mel in enumerate(mels):
        expected = arrays[f"mel_{clip}"][0]
        assert np.abs(mel[:, : expected.shape[1]].numpy() - expected).max() < 1e-4


def test_silent_waveform_in_a_batch_is_minus_one_and_leaves_the_others_alone() -> None:
    wav = torch.randn(2, 6400, generator=torch.Generator().manual_seed(0))
    wav[0] = 0
    mels = log_mel_batch(wav, torch.tensor([6400, 6400]))
    assert (mels[0] == -1).all()
    torch.testing.assert_close(mels[1], log_mel(wav[1]), atol=1e-5, rtol=0)


def test_mel_batch_refuses_a_waveform_too_short_or_too_long_and_names_it() -> None:
    wav = torch.randn(3, 3200)
    with pytest.raises(ValueError, match=r"waveforms \[1\] have \[512\] samples: expected more than 512"):
        log_mel_batch(wav, torch.tensor([3200, 512, 513]))
    with pytest.raises(ValueError, match=r"waveforms \[0, 2\] have \[3201, 0\] samples: .* at most 3200"):
        log_mel_batch(wav, torch.tensor([3201, 3200, 0]))
    with pytest.raises(ValueError, match=r"512 samples are too few"):
        log_mel_batch(wav[:, :512], torch.tensor([512, 512, 512]))
    with pytest.raises(ValueError, match=r"lengths \(2,\): expected \(B, L\) and \(B,\)"):
        log_mel_batch(wav, torch.tensor([3200, 3200]))


def test_mel_is_what_one_call_of_stft_with_its_own_padding_gives() -> None:
    wav = torch.randn(2, 12_345, generator=torch.Generator().manual_seed(0))
    scaled = wav.double() / wav.double().abs().amax(dim=1, keepdim=True) * 0.9
    emphasised = torch.cat([scaled[:, :1], scaled[:, 1:] - 0.97 * scaled[:, :-1]], dim=1).float().clamp(-1.0, 1.0)
    spectrum = torch.stft(
        emphasised, 1024, 160, 640, torch.hann_window(640), center=True, pad_mode="reflect", return_complex=True
    )
    mel = mel_filter_bank() @ (spectrum.real.square() + spectrum.imag.square()).sqrt()
    floor = np.log(1e-5)
    # to the bit: shards built earlier hold the same mel
    assert torch.equal(log_mel(wav), (mel.clamp_min(1e-5).log() - floor) / (-floor / 2) - 1)


def test_mel_is_not_touched_by_autocast() -> None:
    wav = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    exact = log_mel(wav)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(log_mel(wav), exact)


def test_mel_has_gradients_after_a_first_use_in_inference_mode() -> None:
    settings = MelSettings(fmax=6999.0)  # that no other test has used
    with torch.inference_mode():
        log_mel(torch.ones(2000), settings)
    wav = torch.randn(2000, requires_grad=True)
    log_mel(wav, settings).sum().backward()
    assert wav.grad is not None
