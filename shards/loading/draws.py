"""Draw the part of each clip that an epoch uses: one by one when it is read, and how long all of them are, to plan."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol, runtime_checkable

import numpy as np

from shards.loading.index_view import ClipIndex, IndexedClip, clips_of

Array = np.ndarray[Any, Any]

_AT_ONCE = 4096

Segment = tuple[int, int, str | None]
"""The part of a clip that is used: its first video frame, the one after its last, and its text, None if unknown."""

Draw = Callable[[IndexedClip, Random], Segment | None]
"""Chooses the segment of a clip that is used, or None: not this time. Its Random is seeded by (seed, epoch, key), and
belongs to this clip. It is called when an epoch is planned and when the clip is read, and has to choose the same."""


@runtime_checkable
class DrawsMany(Protocol):
    """A `Draw` that also says how long the segments of many clips are, without choosing them one by one."""

    def __call__(self, clip: IndexedClip, random: Random) -> Segment | None:
        """As `Draw`."""

    def lengths(self, index: ClipIndex, rows: Array, seed: str) -> Array:
        """int64 (rows,) video frames of the segment of each row (ascending) of the index, 0: not this time; each drawn
        from a Random that is seeded by `seed`, a space and the key."""


class Whole:
    """Every clip as it is."""

    def __call__(self, clip: IndexedClip, random: Random) -> Segment:
        return 0, clip.frames, clip.text

    def lengths(self, index: ClipIndex, rows: Array, seed: str) -> Array:
        return index.frames[rows].astype(np.int64)


whole = Whole()


def segment_lengths(index: ClipIndex, rows: Array, draw: Draw, seed: str) -> Array:
    """int64 (len(index),) video frames of the segments that are drawn of rows (ascending), 0 where none is.

    Raises:
        ValueError: a segment that lies outside of its clip.
    """
    found = np.zeros(len(index), np.int64)
    if isinstance(draw, DrawsMany):
        found[rows] = draw.lengths(index, rows, seed)
        return found
    random = Random()
    for first in range(0, len(rows), _AT_ONCE):
        some = rows[first : first + _AT_ONCE]
        for row, clip in zip(some.tolist(), clips_of(index, some), strict=True):
            random.seed(f"{seed} {clip.key}")
            segment = draw(clip, random)
            if segment is not None:
                found[row] = length_of(segment, clip)
    return found


def length_of(segment: Segment, clip: IndexedClip) -> int:
    """Video frames of a segment (`ValueError`: it lies outside of its clip)."""
    start, stop, _ = segment
    if not 0 <= start < stop <= clip.frames:
        raise ValueError(f"{clip.key}: frames {start} to {stop} were drawn of a clip of {clip.frames}")
    return stop - start
