"""Comparison of evaluations clip by clip: paired differences with intervals, a paired test, and win rates.

The first evaluation is the one that the others are compared with; a difference is another's figure less the first's,
both of the network. A metric is compared on the clips that every evaluation has a figure of, the same ones for all
(`eval.statistics.pair`), and the rest are counted by reason. The test flips signs clip by clip, for the errors in the
words of one clip depend on each other.

Holm's correction is over all tests of the comparison, every metric and every evaluation: all are in one table, and the
reader looks for the small ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.compare.comparability import Clips, clip_differences, clips_of, no_shared_clip, settings_differences
from eval.metrics import Display
from eval.metrics.registry import display_of
from eval.result_schema import RATES
from eval.results import Evaluation
from eval.statistics import FLIPS, Figures, PairedFigures, bootstrap, holm, pair, sign_flip_p

RANKING_METRICS = ("estoi", "stoi")
"""Clips are chosen by the first of these that there are figures of; else by the first metric."""


@dataclass(frozen=True)
class ExcludedClips:
    """Clips that have no figure to compare: why, in which evaluations, and how many."""

    reason: str
    evaluations: tuple[str, ...]
    clips: int


@dataclass
class PairedDifference:
    """An evaluation's figures beside the first one's."""

    mean: float  # of the difference
    low: float  # of its 95% bootstrap interval over clips
    high: float
    p: float  # of the two-sided sign-flip test
    p_holm: float  # corrected for the number of tests in the comparison, once all have been made
    win_rate: float  # share of the clips where this evaluation is better, equal ones as one half
    ties: int  # clips that are equal


@dataclass(frozen=True)
class MetricComparison:
    """A metric on the clips that every evaluation has a figure of."""

    display: Display
    paired: PairedFigures  # a rate's weight is what its errors are counted over, any other's is 1
    excluded: list[ExcludedClips]  # the other clips that are in every evaluation
    means: dict[str, float]  # of every evaluation, weighted
    differences: dict[str, PairedDifference]  # of every evaluation but the first

    def changes(self, name: str) -> Figures:
        """Clip by clip, the figure of evaluation `name` less that of the first."""
        figures = self.paired.figures
        return figures[name] - next(iter(figures.values()))

    def gains(self, name: str) -> Figures:
        """Clip by clip, by how much evaluation `name` is better than the first; below 0 it is worse."""
        return self.changes(name) if self.display.higher_is_better else -self.changes(name)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    names: list[str]  # of the evaluations; the first is what the others are compared with
    clips: int  # that are in all of them
    excluded: list[ExcludedClips]  # clips that are not
    ranked_by: str  # the metric that clips are chosen by
    metrics: dict[str, MetricComparison]
    not_compared: dict[str, str]  # metric -> why it was not
    warnings: list[str]  # what differs besides the network, in words

    def as_json(self) -> dict[str, Any]:
        """All figures, but for those of single clips: they lie in each evaluation's `clips.parquet`."""
        return {
            "evaluations": self.names,
            "compared_with": self.names[0],
            "clips": self.clips,
            "excluded": [asdict(reason) for reason in self.excluded],
            "ranked_by": self.ranked_by,
            "test": {"name": "two-sided sign-flip permutation, means over clips", "flips": FLIPS, "correction": "Holm"},
            "metrics": {
                metric: {
                    "higher_is_better": of.display.higher_is_better,
                    "clips": len(of.paired.keys),
                    "excluded": [asdict(reason) for reason in of.excluded],
                    "means": of.means,
                    "differences": {name: asdict(difference) for name, difference in of.differences.items()},
                }
                for metric, of in self.metrics.items()
            },
            "not_compared": self.not_compared,
            "warnings": self.warnings,
        }


def compare(evaluations: Mapping[str, Evaluation]) -> Comparison:
    """Compare the network's figures of several evaluations, at least two, by the name that each is to have; the others
    are compared with the first. The same evaluations have the same figures again.

    `ValueError` for fewer than two, and where there is no clip, or no metric with figures, that all have.
    """
    if len(evaluations) < 2:
        raise ValueError(f"{len(evaluations)} evaluation to compare: two at least were expected")
    clips = {name: clips_of(evaluation) for name, evaluation in evaluations.items()}
    shared = set.intersection(*(set(of) for of in clips.values()))
    warnings = settings_differences(evaluations)
    if not shared:
        raise ValueError(no_shared_clip(clips, warnings))
    metrics, not_compared = {}, {}
    for metric in dict.fromkeys(metric for evaluation in evaluations.values() for metric in evaluation.measured):
        try:
            metrics[metric] = _compare_metric(evaluations, metric, shared)
        except ValueError as error:
            not_compared[metric] = str(error)
    if not metrics:
        reasons = "; ".join(f"{metric}: {reason}" for metric, reason in not_compared.items())
        raise ValueError(f"no metric can be compared: {reasons or 'nothing was measured'}")
    tests = [difference for of in metrics.values() for difference in of.differences.values()]
    for difference, p_holm in zip(tests, holm([difference.p for difference in tests]), strict=True):
        difference.p_holm = p_holm
    return Comparison(
        names=list(evaluations),
        clips=len(shared),
        excluded=_absent(clips, shared),
        ranked_by=next((metric for metric in RANKING_METRICS if metric in metrics), next(iter(metrics))),
        metrics=metrics,
        not_compared=not_compared,
        warnings=warnings + clip_differences(clips, shared),
    )


def _compare_metric(evaluations: Mapping[str, Evaluation], metric: str, shared: set[str]) -> MetricComparison:
    """One metric, its p values not yet corrected; `ValueError` where there is nothing to compare, and why."""
    display = display_of(metric)
    without = [name for name, evaluation in evaluations.items() if metric not in evaluation.measured]
    if without:
        raise ValueError(f"not measured in {' and '.join(without)}")
    found = {name: evaluation.figures("network", metric) for name, evaluation in evaluations.items()}
    paired = pair(found)
    measured = {name: set(keys) for name, (keys, _, _) in found.items()}
    excluded = _excluded(evaluations, metric, measured, shared - set(paired.keys))
    if not paired.keys:
        reasons = "; ".join(f"{one.reason} ({one.clips} clips)" for one in excluded)
        raise ValueError(f"no clip has a figure in every evaluation: {reasons}")
    means = {name: float(np.average(of, weights=paired.weights)) for name, of in paired.figures.items()}
    compared = MetricComparison(display, paired, excluded, means, {})
    compared.differences.update({name: _difference(compared, name) for name in list(evaluations)[1:]})
    return compared


def _difference(compared: MetricComparison, name: str) -> PairedDifference:
    changes, weights, gains = compared.changes(name), compared.paired.weights, compared.gains(name)
    interval = bootstrap(changes, weights)
    p = sign_flip_p(changes * weights)
    ties = int(np.count_nonzero(gains == 0))
    win_rate = (int(np.count_nonzero(gains > 0)) + ties / 2) / len(gains)
    return PairedDifference(*interval, p=p, p_holm=p, win_rate=win_rate, ties=ties)


def _absent(clips: Mapping[str, Clips], shared: set[str]) -> list[ExcludedClips]:
    """The clips that are not in every evaluation, each counted once."""
    unshared = set().union(*clips.values()) - shared
    missing = Counter(tuple(name for name, of in clips.items() if key not in of) for key in sorted(unshared))
    return [ExcludedClips("not evaluated", names, count) for names, count in missing.most_common()]


def _excluded(
    evaluations: Mapping[str, Evaluation], metric: str, measured: Mapping[str, set[str]], keys: set[str]
) -> list[ExcludedClips]:
    """Why these clips are not compared, each counted once, the most frequent reason first."""
    failed = {name: evaluation.failures("network").get(metric, {}) for name, evaluation in evaluations.items()}
    nothing = "no reference text to count errors over" if metric in RATES else "no figure"
    reasons: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for key in sorted(keys):
        without = tuple(name for name, of in measured.items() if key not in of)
        if without:
            why = dict.fromkeys(failed[name].get(key, nothing) for name in without)
            reasons["; ".join(why), without] += 1
        else:
            reasons["errors are not counted over the same length: text or normalizer differ", tuple(measured)] += 1
    return [ExcludedClips(reason, names, count) for (reason, names), count in reasons.most_common()]
