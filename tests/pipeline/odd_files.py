"""Build one odd file, and find in the sample what was drawn and sounded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.clip import Corpus, build_sample
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from shards import Sample

Ffmpeg = Callable[..., Path]
"""Arguments of FFmpeg, the last of which is the file that it writes -> that file."""


def sample_of(path: Path, box: tuple[int, int] = (80, 80), **changes: Any) -> Sample:
    line = changes.pop("coordinates", None)
    clip = CorpusClip("main/a/b", "all", "main", "a", path.name, None, None, line, 30, (path.stat().st_size, 0, 0))
    settings = BuildSettings(
        "folder", str(path.parent), **{"lip_box": f"{box[0]},{box[1]}", "transcripts": "optional"} | changes
    )
    return build_sample(clip, settings, Corpus.of(settings))


def flashes_and_clicks(sample: Sample) -> tuple[list[float], list[float]]:
    """Seconds at which the picture is white, and at which clicks begin."""
    bright = sample.roi.reshape(len(sample.roi), -1).mean(axis=1) > 200
    loud = np.abs(sample.wav.astype(float))
    loud = np.convolve(loud > 0.4 * loud.max(), np.ones(160), "full")[: len(loud)] > 0
    begins = np.flatnonzero(np.diff(loud.astype(int), prepend=0) == 1)
    return (np.flatnonzero(bright) / 25).tolist(), (begins / 16_000).tolist()


def square_in(sample: Sample) -> tuple[int, int]:
    """Width and height of the light square in the first region."""
    light = sample.roi[0] > 150
    return int(light.any(axis=0).sum()), int(light.any(axis=1).sum())


def with_square(count: int = 25, size: tuple[int, int] = (120, 160), at: tuple[int, int] = (60, 40)) -> Any:
    """uint8 (count, height, width): a dim picture with a light square of 20 pixels around x, y."""
    frames = np.full((count, *size), 70, np.uint8)
    frames[:, at[1] - 10 : at[1] + 10, at[0] - 10 : at[0] + 10] = 220
    return frames
