"""Long videos are spoken without a seam."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from eval.synthesize.sliding_window import FADE, WINDOW, fades, speak, window_starts
from model.lip_to_speech import LipToSpeechOutput
from model.transforms import TransformSettings
from tests.model.networks import small_lip_to_speech

PICTURES = TransformSettings(crop_radius=12, size=32)


@pytest.mark.parametrize("frames", [1, 5, 250, 251, 300, 449, 451, 1000, 1777])
def test_windows_cover_a_video_and_fade_into_each_other(frames: int) -> None:
    starts = window_starts(frames)
    shares = fades(starts, frames)
    assert (starts[0], starts[-1]) == (0, max(frames - WINDOW, 0))
    assert len(starts) == 1 or max(np.diff(starts)) <= WINDOW - 50
    assert np.allclose(shares.sum(axis=0), 1, atol=1e-6)  # float32
    assert shares.min() >= 0
    assert (np.count_nonzero(shares, axis=0) <= 2).all()
    for start, share in zip(starts, shares, strict=True):
        heard = np.flatnonzero(share) // 4
        assert start + (12 if start else 0) <= heard[0], "a window is not heard near its ends"
        assert heard[-1] < start + WINDOW - (12 if start < starts[-1] else 0)


def speak_with(network: Callable[[Tensor, Tensor, Tensor], LipToSpeechOutput], frames: int) -> Tensor:
    roi = np.random.default_rng(0).integers(0, 256, (frames, 34, 34), dtype=np.uint8)
    return speak(network, roi, torch.zeros(1, 80, 50), PICTURES, torch.device("cpu"))


def test_a_long_video_is_spoken_as_if_in_one_piece_where_context_does_not_matter() -> None:
    seen: list[Tensor] = []

    def by_brightness(video: Tensor, lengths: Tensor, reference: Tensor) -> LipToSpeechOutput:
        """What a frame sounds like depends on itself alone."""
        seen.append(video)
        level = video.mean(dim=(1, 3, 4)).repeat_interleave(4, dim=1)
        mel = level[:, None] * torch.linspace(0.5, 1.5, 80)[:, None]
        return LipToSpeechOutput(mel, torch.zeros(1), torch.zeros(1))

    mel = speak_with(by_brightness, 700)
    assert [video.shape[2] for video in seen] == [250] * 4
    assert mel.shape == (1, 80, 2800)
    starts = window_starts(700)
    whole = torch.cat(
        [video[:, :, : after - start] for video, start, after in zip(seen, starts, [*starts[1:], 700], strict=True)],
        dim=2,
    )
    expected = by_brightness(whole, torch.tensor([700]), torch.zeros(1, 80, 50)).mel
    assert torch.allclose(mel, expected, atol=1e-5)  # two shares of float32


def test_windows_that_disagree_are_crossed_without_a_jump() -> None:
    levels = iter([0.0, 1.0])

    def by_window(video: Tensor, lengths: Tensor, reference: Tensor) -> LipToSpeechOutput:
        return LipToSpeechOutput(torch.full((1, 80, 4 * video.shape[2]), next(levels)), torch.zeros(1), torch.zeros(1))

    mel = speak_with(by_window, 400)[0, 0]
    steps = mel.diff()
    assert (float(mel[0]), float(mel[-1])) == (0, 1)
    assert float(steps.max()) <= 1 / (4 * FADE) + 1e-6
    assert float(steps.min()) >= 0


def test_what_follows_later_in_a_long_video_does_not_change_its_beginning() -> None:
    network = small_lip_to_speech()
    roi = np.random.default_rng(0).integers(0, 256, (WINDOW, 34, 34), dtype=np.uint8)
    mel = speak(network, roi, torch.zeros(1, 80, 50), PICTURES, torch.device("cpu"))
    longer = speak(network, np.concatenate([roi, roi[:100]]), torch.zeros(1, 80, 50), PICTURES, torch.device("cpu"))
    # up to half a second before the middle of the overlap, the first window is heard alone
    assert torch.equal(mel[..., :600], longer[..., :600])
    assert longer.shape == (1, 80, 1400)
