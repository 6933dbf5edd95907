"""Speak a video of any length.

Ten seconds are the most that networks are trained on: attention has met no further position, and its memory grows with
the square of the length. Up to there a video is read in one piece. A longer one is read in windows of ten seconds,
evenly placed, which overlap by two seconds or more; in the middle of an overlap, one mel fades into the other within a
second. So each frame was read with half a second at least around it, and memory does not grow with the length.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.lip_to_speech import LipToSpeechOutput
from model.segment_sampling import SegmentSettings
from model.transforms import TransformSettings, transform
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME

Array = np.ndarray[Any, Any]

WINDOW = SegmentSettings().max_frames
"""Video frames, as are the others."""
OVERLAP = 50
FADE = 25


@torch.no_grad()
def speak(
    network: Callable[[Tensor, Tensor, Tensor], LipToSpeechOutput],
    roi: Array,
    reference: Tensor,
    pictures: TransformSettings,
    device: torch.device,
) -> Tensor:
    """The mel of a whole video.

    Args:
        network: a `LipToSpeech` on `device`, in evaluation mode.
        roi: uint8 (T, R, R) lip regions as stored, at 25 frames a second.
        reference: (1, n_mels, S) of the voice.
        pictures: what the network was trained on.
        device: that it runs on.

    Returns:
        float32 (1, n_mels, 4 T) on `device`.
    """
    reference = reference.to(device)
    starts = window_starts(len(roi))
    whole = torch.zeros(1, reference.shape[1], MEL_FRAMES_PER_VIDEO_FRAME * len(roi), device=device)
    for start, weights in zip(starts, fades(starts, len(roi)), strict=True):
        seen = torch.from_numpy(roi[start : start + WINDOW])[None].to(device)
        lengths = torch.tensor([seen.shape[1]])
        mel = network(transform(seen, lengths, None, pictures), lengths, reference).mel.float()
        first = MEL_FRAMES_PER_VIDEO_FRAME * start
        here = slice(first, first + mel.shape[2])
        whole[..., here] += mel * torch.from_numpy(weights[here]).to(device)
    return whole


def window_starts(frames: int) -> list[int]:
    """First frames of the windows that a video of so many frames is read in: evenly placed, `OVERLAP` or more."""
    count = max(1, -(-(frames - OVERLAP) // (WINDOW - OVERLAP)))
    return [round(start) for start in np.linspace(0, max(frames - WINDOW, 0), count)]


def fades(starts: list[int], frames: int) -> Array:
    """float32 (windows, 4 T): how much of each window is heard in each mel frame. They sum to 1 in every one."""
    times = (np.arange(MEL_FRAMES_PER_VIDEO_FRAME * frames) + 0.5) / MEL_FRAMES_PER_VIDEO_FRAME
    seams = [(first + WINDOW + second) / 2 for first, second in pairwise(starts)]
    begun = [np.ones_like(times), *(np.clip((times - seam) / FADE + 0.5, 0, 1) for seam in seams), np.zeros_like(times)]
    return np.stack([since - until for since, until in pairwise(begun)]).astype(np.float32)
