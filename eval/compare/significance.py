"""Whether a paired difference may be chance: a sign-flip test, and Holm's correction where there are several tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.bootstrap import Figures

FLIPS = 10_000
_CHUNK = 1_000_000  # numbers in memory at once


def sign_flip_p(differences: Figures, flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p value of a mean of paired differences, by flipping their signs at random (Fisher, 1935).

    Had it no influence which of two systems a figure is of, either sign of a difference would be as likely.

    Args:
        differences: one a clip, one at least; for a weighted mean, each times its weight.
        flips: how often all signs are drawn.
        seed: of what is drawn: the same differences in the same order have the same p.

    Returns:
        (1 + flips whose mean is as far from 0 as the one found) / (1 + flips), which is never 0 (Phipson and Smyth,
        2010).
    """
    clips, total = len(differences), differences.sum()
    # the same sum in another order differs by rounding, and is to count as equal
    found = abs(total) - 1e-12 * np.abs(differences).sum()
    random = np.random.default_rng(seed)
    chunk, octets = max(1, _CHUNK // clips), -(-clips // 8)
    hits = 0
    for done in range(0, flips, chunk):
        drawn = np.frombuffer(random.bytes(min(chunk, flips - done) * octets), np.uint8)
        plus = np.unpackbits(drawn.reshape(-1, octets), axis=1, count=clips).astype(np.float64)
        hits += int(np.count_nonzero(np.abs(2 * (plus @ differences) - total) >= found))
    return (1 + hits) / (1 + flips)


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for how many they are (Holm, 1979), in the same order.

    Whoever believes those below 0.05 is wrong about any of them in one table of twenty at most, whatever the tests have
    to do with each other.
    """
    corrected, least = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = least
    return corrected
