"""Clips sound the same in any batch, and long ones are synthesized without a seam."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.checkpoint import Checkpoint, save_checkpoint
from model.lip_to_speech import LipToSpeechOutput
from model.losses import mel_l1, mel_l1_per_clip
from model.mel import clip_mels, log_mel
from model.synthesis import SlidingWindow, Synthesizer
from model.tokenizer import train_tokenizer
from model.transforms import TransformSettings, transform
from tests.model.networks import small_asr, small_lip_to_speech

TRANSFORMS = TransformSettings(crop_radius=12, size=32)
CPU = torch.device("cpu")
WINDOW = SlidingWindow()


def crops_of(frames: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (frames, 34, 34), dtype=np.uint8)


def waveforms_of(mel: Tensor, lengths: Tensor, keys: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return Synthesizer(small_lip_to_speech(), TRANSFORMS, CPU).waveforms(mel, lengths, keys)


def mel_of(network: Callable[..., LipToSpeechOutput], frames: int) -> Tensor:
    return Synthesizer(network, TRANSFORMS, CPU).clip(crops_of(frames), torch.zeros(80, 50))[0]


@pytest.mark.parametrize("frames", [1, 5, 250, 251, 300, 449, 451, 1000, 1777])
def test_sliding_window_covers_a_clip_and_fades_one_window_into_the_next(frames: int) -> None:
    starts = WINDOW.starts(frames)
    weights = WINDOW.weights(starts, frames)
    assert (starts[0], starts[-1]) == (0, max(frames - WINDOW.size, 0))
    assert len(starts) == 1 or max(np.diff(starts)) <= WINDOW.size - WINDOW.overlap
    assert np.allclose(weights.sum(axis=0), 1, atol=1e-6)  # float32
    assert weights.min() >= 0
    assert (np.count_nonzero(weights, axis=0) <= 2).all()
    for start, weight in zip(starts, weights, strict=True):
        used = np.flatnonzero(weight) // 4
        assert start + (12 if start else 0) <= used[0], "a window is not used near its ends"
        assert used[-1] < start + WINDOW.size - (12 if start < starts[-1] else 0)


def test_long_clip_is_synthesized_as_if_in_one_piece_where_context_does_not_matter() -> None:
    seen: list[Tensor] = []

    def by_brightness(video: Tensor, lengths: Tensor, reference: Tensor) -> LipToSpeechOutput:
        """A frame's mel depends on the frame alone."""
        seen.append(video)
        level = video.mean(dim=(1, 3, 4)).repeat_interleave(4, dim=1)
        mel = level[:, None] * torch.linspace(0.5, 1.5, 80)[:, None]
        return LipToSpeechOutput(mel, torch.zeros(1), torch.zeros(1))

    mel = mel_of(by_brightness, 700)
    assert [video.shape[2] for video in seen] == [250] * 4
    assert mel.shape == (80, 2800)
    starts = WINDOW.starts(700)
    whole = torch.cat(
        [video[:, :, : after - start] for video, start, after in zip(seen, starts, [*starts[1:], 700], strict=True)],
        dim=2,
    )
    expected = by_brightness(whole, torch.tensor([700]), torch.zeros(1, 80, 50)).mel[0]
    assert torch.allclose(mel, expected, atol=1e-5)  # two shares of float32


def test_windows_that_disagree_are_crossed_without_a_jump() -> None:
    levels = iter([0.0, 1.0])

    def by_window(video: Tensor, lengths: Tensor, reference: Tensor) -> LipToSpeechOutput:
        return LipToSpeechOutput(torch.full((1, 80, 4 * video.shape[2]), next(levels)), torch.zeros(1), torch.zeros(1))

    mel = mel_of(by_window, 400)[0]
    steps = mel.diff()
    assert (float(mel[0]), float(mel[-1])) == (0, 1)
    assert float(steps.max()) <= 1 / (4 * WINDOW.crossfade) + 1e-6
    assert float(steps.min()) >= 0


def test_beginning_of_a_long_clip_does_not_depend_on_what_follows_later() -> None:
    synthesizer, crops = Synthesizer(small_lip_to_speech(), TRANSFORMS, CPU), crops_of(WINDOW.size)
    mel, waveform = synthesizer.clip(crops, torch.zeros(80, 50))
    longer, _ = synthesizer.clip(np.concatenate([crops, crops[:100]]), torch.zeros(80, 50))
    # up to half a second before the middle of the overlap, the first window stands alone
    assert torch.equal(mel[..., :600], longer[..., :600])
    assert longer.shape == (80, 1400)
    assert waveform.shape == (640 * WINDOW.size - 160,)


def test_clip_has_the_l1_and_the_waveform_that_it_has_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    mel, true = (torch.rand(3, 80, 40, generator=generator) - 0.5 for _ in range(2))
    lengths, keys = torch.tensor([40, 25, 31]), ["main/a/0", "main/a/1", "main/b/0"]
    l1, waves = mel_l1_per_clip(mel, true, lengths), waveforms_of(mel, lengths, keys)
    assert waves.shape == (3, 39 * 160)
    for number, length in enumerate(lengths.tolist()):
        one = slice(number, number + 1)
        part = mel[one, :, :length], true[one, :, :length], lengths[one]
        assert float(l1[number]) == pytest.approx(float(mel_l1(*part, "masked")), rel=1e-6)
        alone = waveforms_of(part[0], lengths[one], keys[one])[0]
        np.testing.assert_allclose(waves[number, : len(alone)], alone, atol=1e-5)  # float32
        assert not waves[number, len(alone) :].any()


def test_start_phases_are_those_of_the_key() -> None:
    mel, length = torch.rand(1, 80, 30, generator=torch.Generator().manual_seed(1)) - 0.5, torch.tensor([30])
    first, again, other = (waveforms_of(mel, length, [key]) for key in ("main/a/0", "main/a/0", "main/a/1"))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)


def test_clip_mels_are_those_of_each_waveform_alone_and_silence_beyond() -> None:
    wav = torch.rand(2, 6400, generator=torch.Generator().manual_seed(2)) - 0.5
    mels = clip_mels(wav, torch.tensor([6400, 3200]))
    assert mels.shape == (2, 80, 40)
    assert torch.equal(mels[0], log_mel(wav[0])[:, :40])
    assert torch.allclose(mels[1, :, :20], log_mel(wav[1, :3200])[:, :20], atol=1e-5)
    assert (mels[1, :, 20:] == -1).all()


def test_synthesizer_of_a_file_does_what_its_network_does(tmp_path: Path) -> None:
    network = small_lip_to_speech()
    path = tmp_path / "best.pt"
    save_checkpoint(path, Checkpoint(network.settings, network.state_dict(), transforms=TRANSFORMS))
    synthesizer = Synthesizer.from_checkpoint(path)
    crops, lengths = torch.from_numpy(crops_of(12))[None], torch.tensor([12])
    reference = torch.rand(1, 80, 50, generator=torch.Generator().manual_seed(3))
    video = transform(crops, lengths, None, TRANSFORMS)
    with torch.no_grad():
        expected = network(video, lengths, reference)
    for given in (crops, video):
        assert torch.equal(synthesizer.mels(given, lengths, reference).mel, expected.mel)
    assert synthesizer.hypotheses(expected.logits, lengths) is None, "without a tokenizer nothing is read"
    first, again, other = (synthesizer.untrained(seed).mels(video, lengths, reference).mel for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, expected.mel)


def test_hypotheses_are_those_of_the_best_path_or_of_a_beam() -> None:
    """Of "a" two alignments add up to more than the best path, which is empty."""
    tokenizer = train_tokenizer(["a b", "b a"])
    pieces = tokenizer.vocabulary_size
    probabilities = torch.full((1, 2, pieces), 1e-6)
    probabilities[:, :, 0], probabilities[:, :, tokenizer.encode("a")[-1]] = 0.6, 0.4
    synthesizer = Synthesizer(small_lip_to_speech(), TRANSFORMS, CPU, tokenizer)
    found = [synthesizer.hypotheses(probabilities.log(), torch.tensor([2]), beam) for beam in (1, 4)]
    assert found == [[""], ["a"]]


def test_synthesizer_refuses_a_network_of_another_task() -> None:
    asr = small_asr()
    with pytest.raises(ValueError, match=r"x\.pt: a network of the task asr, and lip2speech was expected"):
        Synthesizer.from_checkpoint(Checkpoint(asr.settings, asr.state_dict()), name="x.pt")


def test_speak_takes_lips_of_any_side_rate_and_color_and_a_voice() -> None:
    speaker = Synthesizer(small_lip_to_speech(), TRANSFORMS, CPU)
    crops = crops_of(40)
    voice = np.random.default_rng(1).normal(0, 0.1, 16_000).astype(np.float32)
    speech = speaker.speak(crops, 25, voice)
    assert (speech.mel.shape, speech.waveform.shape, speech.text) == ((80, 160), (640 * 40 - 160,), None)
    assert np.array_equal(speech.waveform, speaker.clip(crops, speaker.reference(voice))[1])
    in_color = np.repeat(crops[..., None], 3, axis=3)
    assert np.array_equal(speaker.speak(in_color, 25, speaker.reference(voice)).waveform, speech.waveform)
    twice = speaker.speak(crops.repeat(2, axis=0), 50, voice)
    assert np.array_equal(twice.waveform, speech.waveform)
    large = speaker.speak(crops.repeat(3, axis=1).repeat(3, axis=2), 25, voice)
    assert np.abs(large.mel - speech.mel).mean() < 0.1


@pytest.mark.parametrize(
    ("frames", "fps", "voice", "message"),
    [
        (np.zeros((40, 34, 34), np.float32), 25.0, np.ones(16_000), "frames: float32"),
        (np.zeros((40, 34, 30), np.uint8), 25.0, np.ones(16_000), r"frames: uint8 \(40, 34, 30\)"),
        (np.zeros((4, 34, 34), np.uint8), 25.0, np.ones(16_000), "frames: 4 at 25 a second"),
        (np.zeros((40, 34, 34), np.uint8), 0.0, np.ones(16_000), "frames: 40 at 0 a second"),
        (np.zeros((40, 34, 34), np.uint8), 25.0, np.ones(4_000), r"voice: \(4000,\) samples"),
        (np.zeros((40, 34, 34), np.uint8), 25.0, np.zeros(16_000), "voice: nothing but zeros"),
    ],
)
def test_speak_names_what_is_wrong(frames: Any, fps: float, voice: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Synthesizer(small_lip_to_speech(), TRANSFORMS, CPU).speak(frames, fps, voice)


def test_read_joins_the_letters_of_windows_where_they_cross() -> None:
    class Letters:
        """A tokenizer of numbers."""

        def decode(self, pieces: list[int]) -> str:
            return " ".join(map(str, pieces))

    def by_brightness(video: Tensor, lengths: Tensor, reference: Tensor) -> LipToSpeechOutput:
        """Each second of a clip is a letter of its own, by the brightness of its frames."""
        letters = video[0].mean(dim=(0, 2, 3)).round().long()
        logits = torch.nn.functional.one_hot(letters, 60).float()[None]
        return LipToSpeechOutput(torch.zeros(1, 80, 4 * video.shape[2]), logits, torch.zeros(()))

    crops = np.broadcast_to((1 + np.arange(1000) // 25)[:, None, None], (1000, 34, 34)).astype(np.uint8)
    transforms = TransformSettings(crop_radius=12, size=32, mean=0.0, std=1 / 255)
    speaker = Synthesizer(by_brightness, transforms, CPU, Letters())  # type: ignore[arg-type]
    assert speaker.read(crops, torch.zeros(80, 50))[1] == " ".join(str(letter) for letter in range(1, 41))
