"""How sure a mean is: bootstrap intervals over clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Figures = np.ndarray[Any, np.dtype[np.float64]]

_SHARE = 0.95  # of the draws that an interval holds
_CHUNK = 1_000_000  # numbers in memory at once
_NUMBERS = 20_000_000  # drawn in all: of many clips the mean hardly varies, and fewer draws show it as well


class Interval(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: Sequence[float] | Figures,
    weights: Sequence[float] | Figures | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The mean, and the 95% percentile interval of means of clips drawn with replacement (Efron, 1979).

    Args:
        values: one a clip; NaN where there is none, which is left out.
        weights: of the clips in the mean, such as the words that errors are counted over; default: all the same.
        draws: how many, at most: of 2000 clips and more it is fewer, but never under 1000.
        seed: of what is drawn: the same values have the same interval.

    Returns:
        NaN for all three where there is no value.
    """
    known = np.asarray(values, np.float64)
    weight = np.ones(len(known)) if weights is None else np.asarray(weights, np.float64)
    known, weight = known[~np.isnan(known)], weight[~np.isnan(known)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan)
    random = np.random.default_rng(seed)
    draws = min(draws, max(1000, _NUMBERS // len(known)))
    chunk = max(1, _CHUNK // len(known))
    parts = []
    for done in range(0, draws, chunk):
        drawn = random.integers(len(known), size=(min(chunk, draws - done), len(known)))
        parts.append((known * weight)[drawn].sum(axis=1) / weight[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(parts), [(1 - _SHARE) / 2, (1 + _SHARE) / 2])
    return Interval(float(np.average(known, weights=weight)), float(low), float(high))
