"""Statistics of figures over clips: bootstrap intervals and sign-flip tests by SciPy, pairing, Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Figures = np.ndarray[Any, np.dtype[np.float64]]

FLIPS = 10_000
_CONFIDENCE = 0.95
_CHUNK = 1_000_000  # numbers in memory at once
_NUMBERS = 20_000_000  # drawn in all: the mean of many clips hardly varies, and fewer resamples show it as well
_SIGNS = 1_000_000_000  # flipped in all: of more than 100,000 clips, fewer than `FLIPS`


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: Sequence[float] | Figures,
    weights: Sequence[float] | Figures | None = None,
    resamples: int = 10_000,
) -> Interval:
    """The mean, and the 95% percentile interval of means of clips drawn with replacement (Efron, 1979), of `values`,
    one a clip, where NaN is ignored; NaN for all three where there is no value.

    `weights` are of the clips in the mean, such as the words that errors are counted over; default: all the same. Of
    2000 clips and more, fewer than `resamples` are drawn, but never under 1000.
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
        rng=np.random.default_rng(0),  # the same values have the same interval
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


class PairedFigures(NamedTuple):
    """Figures by name, all in the order of `keys`; `weights` are the same for all names."""

    keys: list[str]
    weights: Figures
    figures: dict[str, Figures]


def pair(of: Mapping[str, tuple[list[str], Figures, Figures]]) -> PairedFigures:
    """The clips that every name has a figure of, with the same weight, sorted by key; `of` holds what
    `Evaluation.figures` returns: keys, figures and weights.

    A rate (word errors over words) belongs to a set of clips, not to a clip. Where both sides count over the same
    words, the difference of their rates is the mean of the clips' differences weighted by words, so a clip whose words
    are not counted alike is in no pair.
    """
    found = {
        name: dict(zip(keys, zip(values.tolist(), weights.tolist(), strict=True), strict=True))
        for name, (keys, values, weights) in of.items()
    }
    shared = set.intersection(*(set(clips) for clips in found.values()))
    keys = sorted(key for key in shared if len({clips[key][1] for clips in found.values()}) == 1)
    weights = np.array([next(iter(found.values()))[key][1] for key in keys], np.float64)
    figures = {name: np.array([clips[key][0] for key in keys], np.float64) for name, clips in found.items()}
    return PairedFigures(keys, weights, figures)


def sign_flip_p(differences: Figures, flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p value of a mean of paired differences, by flipping their signs at random (Fisher, 1935).

    If a figure did not depend on which of two systems it is of, either sign of a difference would be as likely. The p
    value is the share of flips whose mean is as far from 0 as the observed one, which is counted among them, so that it
    is never 0 (Phipson and Smyth, 2010).

    `differences` are one a clip, one at least; for a weighted mean, each times its weight. All signs are drawn `flips`
    times, of more than 100,000 clips fewer times; all 2 ** clips are taken where they are not more. The same
    differences in the same order have the same p.
    """
    if len(differences) == 1:
        return 1.0  # SciPy refuses a single observation; either sign is as far from 0
    scale = float(np.abs(differences).sum()) or 1.0
    found = stats.permutation_test(
        (differences / scale,),
        # rounded: the same sum in another order differs in the last digits, and is to count as equal
        lambda flipped, axis=-1: np.abs(flipped.sum(axis)).round(12),
        permutation_type="samples",
        vectorized=True,
        n_resamples=min(flips, max(1000, _SIGNS // len(differences))),
        batch=max(1, _CHUNK // len(differences)),
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm, 1979), in the same order; SciPy has no Holm's correction.

    Of the differences called significant at 0.05, in one table of twenty at most is any a false positive, however the
    tests depend on each other.
    """
    corrected, least = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = least
    return corrected
