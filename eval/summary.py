"""Summary of an evaluation: means by system with bootstrap intervals, and paired differences between systems."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from eval.results import Evaluation
from eval.statistics import bootstrap, pair


def summarize(evaluation: Evaluation) -> dict[str, Any]:
    """What `summary.json` holds.

    Returns:
        clips, seconds: of the evaluation.
        systems: system -> metric -> mean, low, high (95% bootstrap interval over clips), clips (that have the figure),
            failed (that have none).
        differences: every other system -> metric -> mean, low, high of the network's figure less that system's, clip by
            clip, and clips (that both have a figure of).
        speakers: speaker -> clips, and metric -> mean of the network's figures.
        failures: system -> metric -> reason -> clips.
    """
    first = evaluation.rows(evaluation.systems[0])
    return {
        "clips": len(first),
        "seconds": round(float(np.sum(first["seconds"].to_numpy())), 3),
        "systems": {
            system: {metric: mean for metric in evaluation.measured if (mean := _mean(evaluation, system, metric))}
            for system in evaluation.systems
        },
        "differences": {system: found for system in evaluation.systems if (found := _differences(evaluation, system))},
        "speakers": _speakers(evaluation),
        "failures": {
            system: {metric: dict(Counter(of.values()).most_common()) for metric, of in failures.items()}
            for system in evaluation.systems
            if (failures := evaluation.failures(system))
        },
    }


def _mean(evaluation: Evaluation, system: str, metric: str) -> dict[str, Any] | None:
    _, values, weights = evaluation.figures(system, metric)
    failed = len(evaluation.failures(system).get(metric, {}))
    if not len(values) and not failed:
        return None
    return {**bootstrap(values, weights)._asdict(), "clips": len(values), "failed": failed}


def _differences(evaluation: Evaluation, other: str) -> dict[str, dict[str, Any]]:
    """Metric -> difference of the network from another system; empty for the network itself."""
    found = {}
    for metric in evaluation.measured if other != "network" else ():
        paired = pair({system: evaluation.figures(system, metric) for system in ("network", other)})
        if paired.keys:
            interval = bootstrap(paired.figures["network"] - paired.figures[other], paired.weights)
            found[metric] = {**interval._asdict(), "clips": len(paired.keys)}
    return found


def _speakers(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    rows = evaluation.rows("network")
    speaker_of = dict(zip(rows["key"].to_pylist(), rows["speaker"].to_pylist(), strict=True))
    found: dict[str, dict[str, Any]] = {
        speaker: {"clips": clips} for speaker, clips in sorted(Counter(speaker_of.values()).items())
    }
    for metric in evaluation.measured:
        keys, values, weights = evaluation.figures("network", metric)
        speakers = np.array([speaker_of[key] for key in keys])
        for speaker, of in found.items():
            mine = speakers == speaker
            if mine.any():
                of[metric] = float(np.average(values[mine], weights=weights[mine]))
    return found
