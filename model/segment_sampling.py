"""Segment sampling: which words of a clip are read, which window is generated, which mel frames are the reference.

docs/method.md, Segments, Speaker reference, Text. Words are chosen clip by clip, before anything is read; windows are
chosen for a batch, on tensors. A window is a start and a size for each clip, and one gather takes it out of whatever
runs along the same time: pictures or features (fill 0), the mel at four frames a picture (fill -1: silence).

    windows = draw_windows(lengths, generator)                               # training; whole_windows in evaluation
    features = take_window(features, *windows, length=50)                    # (B, T, C) -> (B, 50, C)
    target = take_window(mel, *windows.scaled(4), length=200, dim=2, fill=-1.0)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.constants import FPS

Word = tuple[str, float, float]
"""A word, its start and its end in seconds from frame 0."""

WINDOW_FRAMES = 50
"""Video frames that are generated in training; also mel frames of a speaker reference."""

SPEAKER_FRAMES_PADDED = 100
"""Mel frames of a speaker reference in training, with the zeros that follow it."""

ROUNDING = 1e-6
"""Of times in frames: they are written in hundredths of a second."""


@dataclass(frozen=True)
class SegmentSettings:
    """How much of a clip is used in training. The defaults are the published ones; `min_frames` is ours.

    Attributes:
        fps: frames a second.
        min_words, max_words: of a run, ends included; a clip of fewer words gives all.
        min_frames: shorter runs are widened within the clip; the networks want a few frames, the mel a few samples.
        max_frames: no segment is longer.
        window_frames: video frames of a segment that are generated.
        reference_frames: mel frames of a speaker reference.
        reference_padded: mel frames of it with the zeros that follow, in training.
        speaker_reference: in training, of the segment itself (`self`), as published: it then gives away how loud and
            noisy this very recording is; or of another clip of the speaker that is read at about the same time, if
            there is one (`other`).
    """

    fps: int = FPS
    min_words: int = 4
    max_words: int = 20
    min_frames: int = 5
    max_frames: int = 250
    window_frames: int = WINDOW_FRAMES
    reference_frames: int = WINDOW_FRAMES
    reference_padded: int = SPEAKER_FRAMES_PADDED
    speaker_reference: Literal["self", "other"] = "self"

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            found = f"runs of {self.min_words} to {self.max_words} words"
            raise ValueError(f"{found}: expected 1 <= min_words <= max_words")
        if not 1 <= self.min_frames <= self.max_frames or self.fps < 1:
            found = f"min_frames to max_frames: {self.min_frames} to {self.max_frames} frames, fps {self.fps}"
            raise ValueError(f"{found}: expected 1 or more, and max_frames no fewer than min_frames")
        if self.window_frames < 1 or not 1 <= self.reference_frames <= self.reference_padded:
            raise ValueError(
                f"window_frames {self.window_frames}, reference_frames {self.reference_frames}, reference_padded "
                f"{self.reference_padded}: expected 1 or more, and a reference that fits into its padding"
            )


class Segment(NamedTuple):
    """A part of a clip, in video frames; its text is None where it is not known, so that it has no part in CTC."""

    start_frame: int
    stop_frame: int
    text: str | None


def whole_clip(text: str | None, frames: int, settings: SegmentSettings = SegmentSettings()) -> Segment:
    """A clip used whole. Longer than `max_frames`, it is cut at its end, and its text is no longer known."""
    stop = min(frames, settings.max_frames)
    return Segment(0, stop, text if stop == frames else None)


def draw_words(
    words: Sequence[Word], frames: int, random: Random, settings: SegmentSettings = SegmentSettings()
) -> Segment:
    """Draw a run of words of a clip with word times.

    From floor(fps start) of the first to ceil(fps end) of the last word. A run longer than `max_frames` loses words
    at its end until it fits. A single word that does not fit is cut and gives no text: so does a clip without words,
    which is used as `whole_clip`. A word belongs to the clip if its middle does: corpora let last words end a little
    late.

    Args:
        words: in order of time.
        frames: video frames of the clip.
        random: seeded by what is drawn for (run, epoch, clip); two numbers are taken.
        settings: the ranges.
    """
    words = [word for word in words if settings.fps * (word[1] + word[2]) / 2 < frames]
    count = min(random.randint(settings.min_words, settings.max_words), len(words))
    first = int(random.random() * (len(words) - count + 1))
    if not words:
        return whole_clip(None, frames, settings)
    # times are written in hundredths: 0.28 * 25 is 7, not the 7.000000000000001 that would round up to 8
    start = min(math.floor(settings.fps * words[first][1] + ROUNDING), frames - 1)
    stops = [min(math.ceil(settings.fps * end - ROUNDING), frames) for _, _, end in words[first : first + count]]
    while len(stops) > 1 and stops[-1] - start > settings.max_frames:
        stops.pop()
    whole = stops[-1] - start <= settings.max_frames
    stop = stops[-1] if whole else start + settings.max_frames
    stop = min(max(stop, start + settings.min_frames), frames)
    start = max(min(start, stop - settings.min_frames), 0)
    if not whole:
        return Segment(start, stop, None)
    return Segment(start, stop, " ".join(word for word, _, _ in words[first : first + len(stops)]))


class Windows(NamedTuple):
    """A part of each clip of a batch: int64 (B,) first frames and numbers of frames, never beyond a clip's length."""

    starts: Tensor
    sizes: Tensor

    def scaled(self, factor: int) -> Windows:
        """The same parts at another rate: by 4 from video to mel frames."""
        return Windows(self.starts * factor, self.sizes * factor)


def draw_windows(lengths: Tensor, generator: torch.Generator, size: int = WINDOW_FRAMES) -> Windows:
    """Windows of `size` frames placed uniformly, the whole clip where it is shorter.

    The lengths (B,) may lie on any device, and the windows lie on the same. The generator is of the CPU, so that every
    device draws the same.
    """
    sizes = lengths.clamp_max(size)
    uniform = torch.rand(len(lengths), generator=generator, dtype=torch.float64).to(lengths.device, non_blocking=True)
    return Windows((uniform * (lengths - sizes + 1)).long(), sizes)


def first_windows(lengths: Tensor, size: int = WINDOW_FRAMES) -> Windows:
    """The first `size` frames, the whole clip where it is shorter."""
    return Windows(torch.zeros_like(lengths), lengths.clamp_max(size))


def whole_windows(lengths: Tensor) -> Windows:
    """All of each clip: the window of evaluation."""
    return Windows(torch.zeros_like(lengths), lengths)


def loudest_windows(mel: Tensor, lengths: Tensor, size: int = WINDOW_FRAMES) -> Windows:
    """The `size` frames of mels (B, n_mels, S) whose mean level is highest; the whole clip where it is shorter."""
    lengths = lengths.to(mel.device, non_blocking=True)
    sizes = lengths.clamp_max(size)
    level = F.pad(mel.mean(dim=1), (0, max(size - mel.shape[2], 0)))
    loudness = level.unfold(1, size, 1).mean(dim=2)
    starts = torch.arange(loudness.shape[1], device=mel.device)
    outside = starts > (lengths - sizes)[:, None]
    return Windows(loudness.masked_fill(outside, -torch.inf).argmax(dim=1), sizes)


def take_window(
    x: Tensor, starts: Tensor, sizes: Tensor, length: int, *, dim: int = 1, fill: float | bool = 0.0
) -> Tensor:
    """Take each clip's window out of a batch. Gradients flow back to the frames that were taken.

    Args:
        x: (B, ...) with time along `dim`: 1 for (B, T, C), 2 for (B, C, T).
        starts, sizes: (B,) the windows in steps of x, on any device.
        length: steps of the result along `dim`: the largest size, or a fixed number. Longer windows are cut to it.
        fill: what stands beyond a window's own size, and where x has no such step.
    """
    starts, sizes = (values.to(x.device, non_blocking=True) for values in (starts, sizes))
    offset = torch.arange(length, device=x.device)
    position = starts[:, None] + offset
    empty = (offset >= sizes[:, None]) | (position >= x.shape[dim])
    along = [len(x), *(length if axis == dim % x.ndim else 1 for axis in range(1, x.ndim))]
    shape = [len(x), *(length if axis == dim % x.ndim else size for axis, size in enumerate(x.shape) if axis)]
    index = position.clamp_max(x.shape[dim] - 1).view(along).expand(shape)
    return x.gather(dim, index).masked_fill(empty.view(along), fill)


def loudest_reference(mel: Tensor, lengths: Tensor, frames: int = WINDOW_FRAMES) -> Tensor:
    """(B, n_mels, frames): the loudest stretch of each mel (B, n_mels, S), as reference of another clip."""
    return speaker_reference(mel, loudest_windows(mel, lengths, frames), frames)[0]


def own_reference(mel: Tensor, lengths: Tensor, frames: int = WINDOW_FRAMES) -> Tensor:
    """(B, n_mels, frames): the first frames of each mel (B, n_mels, S) of (B,) frames, as published; then zeros."""
    return speaker_reference(mel, first_windows(lengths, frames), frames)[0]


def with_references(own: Tensor, keys: Sequence[str], references: Mapping[str, Tensor]) -> Tensor:
    """(B, n_mels, frames) the references of clips by key; its `own` (B, n_mels, frames) where a clip has none."""
    return torch.stack(
        [references[key].to(own.device) if key in references else own[at] for at, key in enumerate(keys)]
    )


def speaker_reference(mel: Tensor, windows: Windows, length: int = WINDOW_FRAMES) -> tuple[Tensor, Tensor]:
    """A speaker reference: a window of a mel, followed by zeros.

    Published: `draw_windows` of the mel, padded to SPEAKER_FRAMES_PADDED, in training; `first_windows`, unpadded, of
    the very clip that is scored, in evaluation. Better: `loudest_windows` of another clip of the same speaker. A clip
    of fewer mel frames than a window gives what it has, then zeros, as if it were padded in training.

    Returns:
        (B, n_mels, length) of mels (B, n_mels, S), and int64 (B,) how many of its frames are the speaker's.
    """
    return take_window(mel, *windows, length=length, dim=2), windows.sizes.clamp_max(length)
