"""Dynamic time warping, compiled: a matter of milliseconds for a clip, and of memory for two rows of frames.

Importing this compiles it, or loads what was compiled before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.numba_jit import compiled

Array = np.ndarray[Any, Any]


def _warped(one: Array, other: Array) -> tuple[float, int]:
    """The sum of distances along the path on which it is least, and the number of pairs on that path.

    A path leads from the first pair of frames to the last; each step goes on by one frame in either or in both, and
    costs the Euclidean distance of the pair it leads to. Of equal paths the one that goes on in both is taken.

    Args:
        one, other: float64 (N, C) and (M, C), N and M at least 1.
    """
    frames = len(other)
    above, steps_above = np.full(frames + 1, np.inf), np.zeros(frames + 1, np.int64)
    here, steps_here = np.full(frames + 1, np.inf), np.zeros(frames + 1, np.int64)
    above[0] = 0.0
    for row in range(len(one)):
        here[0] = np.inf
        for column in range(frames):
            squares = 0.0
            for c in range(one.shape[1]):
                squares += (one[row, c] - other[column, c]) ** 2
            least, steps = above[column], steps_above[column]
            if above[column + 1] < least:
                least, steps = above[column + 1], steps_above[column + 1]
            if here[column] < least:
                least, steps = here[column], steps_here[column]
            here[column + 1], steps_here[column + 1] = least + np.sqrt(squares), steps + 1
        above, here = here, above
        steps_above, steps_here = steps_here, steps_above
    return above[frames], steps_above[frames]


warped = compiled("(f8[:,::1], f8[:,::1])")(_warped)
