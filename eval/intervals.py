"""How sure a mean is: bootstrap intervals over clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_CHUNK = 1_000_000  # numbers in memory at once


class Interval(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float], share: float = 0.95, draws: int = 10_000, seed: int = 0) -> Interval:
    """The mean, and the percentile interval of means of values drawn with replacement (Efron, 1979).

    Args:
        values: one a clip; NaN where there is none, which is left out.
        share: of the draws that the interval holds.
        draws: how many.
        seed: of what is drawn: the same values have the same interval.

    Returns:
        NaN for all three where there is no value.
    """
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known):
        return Interval(np.nan, np.nan, np.nan)
    random = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // len(known))
    parts = [
        known[random.integers(len(known), size=(min(chunk, draws - done), len(known)))].mean(axis=1)
        for done in range(0, draws, chunk)
    ]
    low, high = np.quantile(np.concatenate(parts), [(1 - share) / 2, (1 + share) / 2])
    return Interval(float(known.mean()), float(low), float(high))
