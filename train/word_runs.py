"""How long the runs of words are that `draw_words` would draw of many clips: what an epoch's plan needs to know.

The same numbers in the same order as there (`model/segment_sampling.py`), all clips of a part of the index at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from model.segment_sampling import ROUNDING, SegmentSettings
from shards.loading.index_view import ClipIndex, WordTimes
from shards.loading.seeded_random import SeededRandoms

Array = np.ndarray[Any, Any]


def word_run_lengths(index: ClipIndex, rows: Array, seed: str, ranges: SegmentSettings, otherwise: Array) -> Array:
    """int64 (rows,) video frames of the segments of clips.

    Args:
        index: of the dataset.
        rows: of the clips, ascending.
        seed: a clip's numbers are drawn from a Random that is seeded by this, a space and its key.
        ranges: of the segments.
        otherwise: (rows,) what stands for clips without words.
    """
    found = otherwise.copy()
    for some, times in _with_times(index, rows):
        has_words = np.diff(times.edges) > 0
        mine, places = rows[some][has_words], np.arange(some.start, some.stop)[has_words]
        seeds = [f"{seed} {key}" for key in index.keys_of(mine)]
        found[places] = _run_lengths(index.frames[mine].astype(np.int64), _taken(times, has_words), seeds, ranges)
    return found


def _with_times(index: ClipIndex, rows: Array) -> Iterator[tuple[slice, WordTimes]]:
    """Parts of ascending rows, and the words of these."""
    if not len(rows):
        return
    for first, times in index.word_times():
        begin, end = np.searchsorted(rows, [first, first + len(times.edges) - 1]).tolist()
        if begin < end:
            chosen = np.zeros(len(times.edges) - 1, bool)
            chosen[rows[begin:end] - first] = True
            yield slice(begin, end), _taken(times, chosen)


def _taken(times: WordTimes, chosen: Array) -> WordTimes:
    """The words of some of the clips: bool (n,)."""
    counts = np.diff(times.edges)
    inside = np.repeat(chosen, counts)
    words = slice(int(times.edges[0]), int(times.edges[-1]))
    edges = np.concatenate([[0], np.cumsum(counts[chosen])])
    return WordTimes(edges, times.start[words][inside], times.end[words][inside])


def _run_lengths(frames: Array, times: WordTimes, seeds: list[str], ranges: SegmentSettings) -> Array:
    fps, everyone = ranges.fps, np.arange(len(frames))
    clip_of = np.repeat(everyone, np.diff(times.edges))
    kept = fps * (times.start + times.end) / 2 < frames[clip_of]
    firsts, starts, ends = np.concatenate([[0], np.cumsum(kept)])[times.edges], times.start[kept], times.end[kept]
    words = np.diff(firsts)
    random = SeededRandoms(seeds)
    count = ranges.min_words + random.below(np.full(len(frames), ranges.max_words - ranges.min_words + 1))
    count = np.minimum(count, words)
    first = (random.random() * (words - count + 1)).astype(np.int64)
    found: Array = np.minimum(frames, ranges.max_frames)
    some = np.flatnonzero(words)
    frames, first, count = frames[some], firsts[:-1][some] + first[some], count[some]
    start = np.minimum(np.floor(fps * starts[first] + ROUNDING).astype(np.int64), frames - 1)
    last = first + count - 1

    def stops() -> Array:
        ended: Array = np.ceil(fps * ends[last] - ROUNDING).astype(np.int64)
        return np.minimum(ended, frames)

    stop = stops()
    while (long := (last > first) & (stop - start > ranges.max_frames)).any():
        last -= long
        stop = stops()
    stop = np.where(stop - start <= ranges.max_frames, stop, start + ranges.max_frames)
    stop = np.minimum(np.maximum(stop, start + ranges.min_frames), frames)
    start = np.maximum(np.minimum(start, stop - ranges.min_frames), 0)
    found[some] = stop - start
    return found
