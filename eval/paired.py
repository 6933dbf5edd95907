"""Figures of several systems or evaluations paired clip by clip, and their differences with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from eval.bootstrap import Figures

KeyedFigures = tuple[list[str], Figures, Figures]
"""Keys, figures and weights of clips, as `Evaluation.figures` returns them."""


class PairedFigures(NamedTuple):
    """Figures by name, all in the order of `keys`; `weights` are the same for all names."""

    keys: list[str]
    weights: Figures
    figures: dict[str, Figures]


def pair(of: Mapping[str, KeyedFigures]) -> PairedFigures:
    """The clips that every name has a figure of, with the same weight, sorted by key.

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
