"""Bootstrap confidence intervals of means over clips, by SciPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Figures = np.ndarray[Any, np.dtype[np.float64]]

_CONFIDENCE = 0.95
_CHUNK = 1_000_000  # numbers in memory at once
_NUMBERS = 20_000_000  # drawn in all: the mean of many clips hardly varies, and fewer resamples show it as well


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: Sequence[float] | Figures,
    weights: Sequence[float] | Figures | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The mean, and the 95% percentile interval of means of clips drawn with replacement (Efron, 1979).

    Args:
        values: one a clip; NaN where there is none, which is ignored.
        weights: of the clips in the mean, such as the words that errors are counted over; default: all the same.
        resamples: how many, at most: of 2000 clips and more it is fewer, but never under 1000.
        seed: of the resamples: the same values have the same interval.

    Returns:
        NaN for all three where there is no value.
    """
    known = np.asarray(values, np.float64)
    weight = np.ones(len(known)) if weights is None else np.asarray(weights, np.float64)
    known, weight = known[~np.isnan(known)], weight[~np.isnan(known)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan)
    mean = float(np.average(known, weights=weight))
    if len(known) == 1:  # SciPy refuses a single observation
        return Interval(mean, mean, mean)
    found = stats.bootstrap(
        (known * weight, weight),
        lambda summed, weighed, axis=-1: summed.sum(axis) / weighed.sum(axis),
        n_resamples=min(resamples, max(1000, _NUMBERS // len(known))),
        batch=max(1, _CHUNK // len(known)),
        vectorized=True,
        paired=True,
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))
