"""Evaluations compared clip by clip: differences with intervals, a paired test, and how often which is better.

The first evaluation is what the others are held against; a difference is another's figure less the first's, both of
the network. A metric is compared on the clips that every evaluation has a figure of, the same ones for all, and the
rest are counted by reason.

A rate (word errors over words) belongs to a set of clips, not to a clip. Both sides count over the same words, so the
difference of the two rates is the mean of the clips' differences weighted by their words, and a clip drawn with its
weight draws its part of both. A clip whose words are not counted alike is left out. The test flips signs clip by clip
for the same reason: words of one clip are not errors apart.

Holm's correction is over all tests of the comparison, every metric and every evaluation: all are in one table, and the
reader looks for the small ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from eval.bootstrap import Figures, bootstrap
from eval.compare.comparability import Clips, clips_of, nothing_shared, unlike_clips, unlike_settings
from eval.compare.significance import FLIPS, holm, sign_flip_p
from eval.metrics import Display, display_of
from eval.results import RATES, Evaluation

MAIN = ("estoi", "stoi")
"""Metrics whose clips are shown, the first that there are figures of; else the first metric."""


@dataclass(frozen=True)
class LeftOut:
    """Clips that have no figure to compare: why, in which evaluations, and how many."""

    reason: str
    evaluations: tuple[str, ...]
    clips: int


@dataclass(frozen=True)
class Difference:
    """An evaluation's figures beside the first one's.

    Attributes:
        mean, low, high: of the difference, and its 95% bootstrap interval over clips.
        p: of the two-sided sign-flip test.
        p_holm: corrected for the number of tests in the comparison.
        win_rate: share of the clips where this evaluation is better, equal ones as one half.
        ties: clips that are equal.
    """

    mean: float
    low: float
    high: float
    p: float
    p_holm: float
    win_rate: float
    ties: int


@dataclass(frozen=True)
class Compared:
    """A metric on the clips that every evaluation has a figure of.

    Attributes:
        display: how it is shown, and which direction is better.
        keys, weights: of the clips; a rate's weight is what its errors are counted over, any other's is 1.
        figures: of every evaluation, in the order of `keys`.
        left_out: the other clips that are in every evaluation.
        means: of every evaluation, weighted.
        differences: of every evaluation but the first.
    """

    display: Display
    keys: list[str]
    weights: Figures
    figures: dict[str, Figures]
    left_out: list[LeftOut]
    means: dict[str, float]
    differences: dict[str, Difference]

    def changes(self, name: str) -> Figures:
        """Clip by clip, the figure of evaluation `name` less that of the first."""
        return self.figures[name] - next(iter(self.figures.values()))

    def gains(self, name: str) -> Figures:
        """Clip by clip, by how much evaluation `name` is better than the first; below 0 it is worse."""
        return self.changes(name) if self.display.higher_is_better else -self.changes(name)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        names: of the evaluations; the first is what the others are compared with.
        clips: that are in all of them.
        left_out: clips that are not.
        main: the metric whose clips are shown.
        metrics: what was compared, by name.
        not_compared: metric -> why it was not.
        warnings: what is not alike, in words.
    """

    names: list[str]
    clips: int
    left_out: list[LeftOut]
    main: str
    metrics: dict[str, Compared]
    not_compared: dict[str, str]
    warnings: list[str]

    def as_json(self) -> dict[str, Any]:
        """All figures, but for those of single clips: they lie in each evaluation's `clips.parquet`."""
        return {
            "evaluations": self.names,
            "compared_with": self.names[0],
            "clips": self.clips,
            "left_out": [asdict(reason) for reason in self.left_out],
            "main": self.main,
            "test": {"name": "two-sided sign-flip permutation, means over clips", "flips": FLIPS, "correction": "Holm"},
            "metrics": {
                metric: {
                    "higher_is_better": of.display.higher_is_better,
                    "clips": len(of.keys),
                    "left_out": [asdict(reason) for reason in of.left_out],
                    "means": of.means,
                    "differences": {name: asdict(difference) for name, difference in of.differences.items()},
                }
                for metric, of in self.metrics.items()
            },
            "not_compared": self.not_compared,
            "warnings": self.warnings,
        }


def compare(evaluations: Mapping[str, Evaluation]) -> Comparison:
    """Compare the network's figures of several evaluations; the same ones have the same figures again.

    Args:
        evaluations: two at least, by the name that each is to have; the first is what the others are compared with.

    Raises:
        ValueError: fewer than two; no clip, or no metric with figures, that all have.
    """
    if len(evaluations) < 2:
        raise ValueError(f"{len(evaluations)} evaluation to compare: two at least were expected")
    clips = {name: clips_of(evaluation) for name, evaluation in evaluations.items()}
    shared = set.intersection(*(set(of) for of in clips.values()))
    unlike = unlike_settings(evaluations)
    if not shared:
        raise ValueError(nothing_shared(clips, unlike))
    metrics, not_compared = {}, {}
    for metric in dict.fromkeys(metric for evaluation in evaluations.values() for metric in evaluation.measured):
        try:
            metrics[metric] = _compared(evaluations, metric, shared)
        except ValueError as error:
            not_compared[metric] = str(error)
    if not metrics:
        reasons = "; ".join(f"{metric}: {reason}" for metric, reason in not_compared.items())
        raise ValueError(f"no metric can be compared: {reasons or 'nothing was measured'}")
    main = next((metric for metric in MAIN if metric in metrics), next(iter(metrics)))
    warnings = unlike + unlike_clips(clips, shared)
    names, absent = list(evaluations), _absent(clips, shared)
    return Comparison(names, len(shared), absent, main, _corrected(metrics), not_compared, warnings)


def _compared(evaluations: Mapping[str, Evaluation], metric: str, shared: set[str]) -> Compared:
    """One metric, its p values not yet corrected.

    Raises:
        ValueError: there is nothing to compare; says why.
    """
    without = [name for name, evaluation in evaluations.items() if metric not in evaluation.measured]
    if without:
        raise ValueError(f"not measured in {' and '.join(without)}")
    found = {}
    for name, evaluation in evaluations.items():
        keys, values, weights = evaluation.figures("network", metric)
        found[name] = dict(zip(keys, zip(values.tolist(), weights.tolist(), strict=True), strict=True))
    in_all = set.intersection(*(set(of) for of in found.values()))
    keys = sorted(key for key in in_all if len({of[key][1] for of in found.values()}) == 1)
    left_out = _left_out(evaluations, metric, {name: set(of) for name, of in found.items()}, shared - set(keys))
    if not keys:
        reasons = "; ".join(f"{one.reason} ({one.clips} clips)" for one in left_out)
        raise ValueError(f"no clip has a figure in every evaluation: {reasons}")
    weights = np.array([next(iter(found.values()))[key][1] for key in keys])
    figures = {name: np.array([of[key][0] for key in keys]) for name, of in found.items()}
    means = {name: float(np.average(of, weights=weights)) for name, of in figures.items()}
    compared = Compared(display_of(metric), keys, weights, figures, left_out, means, {})
    others = list(evaluations)[1:]
    return replace(compared, differences={name: _difference(compared, name) for name in others})


def _difference(compared: Compared, name: str) -> Difference:
    changes, weights, gains = compared.changes(name), compared.weights, compared.gains(name)
    interval = bootstrap(changes, weights)
    p = sign_flip_p(changes * weights)
    ties = int(np.count_nonzero(gains == 0))
    win_rate = (int(np.count_nonzero(gains > 0)) + ties / 2) / len(gains)
    return Difference(*interval, p=p, p_holm=p, win_rate=win_rate, ties=ties)


def _absent(clips: Mapping[str, Clips], shared: set[str]) -> list[LeftOut]:
    """The clips that are not in every evaluation, each counted once."""
    unshared = set().union(*clips.values()) - shared
    missing = Counter(tuple(name for name, of in clips.items() if key not in of) for key in sorted(unshared))
    return [LeftOut("not evaluated", names, count) for names, count in missing.most_common()]


def _left_out(
    evaluations: Mapping[str, Evaluation], metric: str, measured: Mapping[str, set[str]], left: set[str]
) -> list[LeftOut]:
    """Why these clips are not compared, each counted once, the most frequent reason first."""
    failed = {name: evaluation.failures("network").get(metric, {}) for name, evaluation in evaluations.items()}
    nothing = "nothing was said to count errors over" if metric in RATES else "no figure"
    reasons: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for key in sorted(left):
        without = tuple(name for name, of in measured.items() if key not in of)
        if without:
            told = dict.fromkeys(failed[name].get(key, nothing) for name in without)
            reasons["; ".join(told), without] += 1
        else:
            reasons["errors are not counted over the same length: text or normalizer differ", tuple(measured)] += 1
    return [LeftOut(reason, names, count) for (reason, names), count in reasons.most_common()]


def _corrected(metrics: dict[str, Compared]) -> dict[str, Compared]:
    """With Holm's correction over all that is there."""
    tests = [(metric, name) for metric, of in metrics.items() for name in of.differences]
    p = holm([metrics[metric].differences[name].p for metric, name in tests])
    for (metric, name), p_holm in zip(tests, p, strict=True):
        of = metrics[metric]
        differences = of.differences | {name: replace(of.differences[name], p_holm=p_holm)}
        metrics = metrics | {metric: replace(of, differences=differences)}
    return metrics
