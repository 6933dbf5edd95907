"""Significance of paired differences: a sign-flip permutation test by SciPy, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from eval.bootstrap import Figures

FLIPS = 10_000
_CHUNK = 1_000_000  # numbers in memory at once


def sign_flip_p(differences: Figures, flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p value of a mean of paired differences, by flipping their signs at random (Fisher, 1935).

    If a figure did not depend on which of two systems it is of, either sign of a difference would be as likely.

    Args:
        differences: one a clip, one at least; for a weighted mean, each times its weight.
        flips: how often all signs are drawn; all 2 ** clips are taken where they are not more.
        seed: of the draws: the same differences in the same order have the same p.

    Returns:
        The share of flips whose mean is as far from 0 as the observed one, which is counted among them, so that it is
        never 0 (Phipson and Smyth, 2010).
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
        n_resamples=flips,
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
