"""Dynamic time warping (DTW) of two sequences of frames, by librosa."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MAX_FRAMES = 2000
"""In a stretch aligned at once, 10 s of 5 ms: librosa holds the whole matrix, 28 bytes for each pair of frames."""


def dtw(one: Array, other: Array) -> tuple[float, int]:
    """Cost of the path of least cost, and the number of pairs of frames on it.

    A path leads from the first pair to the last; each step advances by one frame in either sequence or in both, and
    costs the Euclidean distance of the pair it leads to. From 2 `MAX_FRAMES` on, sequences are aligned in stretches of
    `MAX_FRAMES`, the last one with the remainder: they are in step, so no warp is nearly as long as a stretch.

    Args:
        one, other: float64 (N, C) and (M, C), N and M at least 1.
    """
    import librosa  # takes seconds, and compiles on its first use

    cost, pairs = 0.0, 0
    stretches = max(1, min(len(one), len(other)) // MAX_FRAMES)
    for stretch in range(stretches):
        start = stretch * MAX_FRAMES
        stop = start + MAX_FRAMES if stretch < stretches - 1 else None
        summed, path = librosa.sequence.dtw(one[start:stop].T, other[start:stop].T)
        cost, pairs = cost + float(summed[-1, -1]), pairs + len(path)
    return cost, pairs
