"""`python -m eval table`: what a checkpoint has learned, beside what has learned nothing, as a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from eval.controls import CONTROLS, SCORES, Figures
from eval.intervals import bootstrap

_DIGITS = {"l1": 3, "stoi": 3, "estoi": 3, "pesq": 2}


def table(runs: Mapping[str, Figures]) -> Iterator[str]:
    """Lines of Markdown: a row for each control, means over checkpoints clip by clip, 95% intervals over clips.

    Args:
        runs: by checkpoint; they have scored the same clips.
    """
    yield "| | mel L1 | STOI | ESTOI | PESQ |"
    yield "|---|---:|---:|---:|---:|"
    for control in CONTROLS:
        yield f"| {control} | " + " | ".join(_cell(list(runs.values()), control, score) for score in SCORES) + " |"
    if len(runs) > 1:
        for name, figures in runs.items():
            yield f"| network, {name} | " + " | ".join(_cell([figures], "network", score) for score in SCORES) + " |"
    lost = _lost(runs)
    if lost:
        yield ""
        yield f"Not measured, and left out of the mean: {lost}."


def _cell(runs: Sequence[Figures], control: str, score: str) -> str:
    keys = sorted(runs[0][control]["l1"])
    values = [float(np.mean([run[control][score].get(key, np.nan) for run in runs])) for key in keys]
    found, digits = bootstrap(values), _DIGITS[score]
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _lost(runs: Mapping[str, Figures]) -> str:
    counted: dict[str, int] = {}
    for figures in runs.values():
        for control in CONTROLS:
            for score in SCORES:
                missing = len(figures[control]["l1"]) - len(figures[control][score])
                if missing:
                    counted[f"{score} of {control}"] = counted.get(f"{score} of {control}", 0) + missing
    return ", ".join(f"{name} on {count} clips" for name, count in counted.items())


def write_figures(path: str, runs: Mapping[str, Figures]) -> None:
    """Every figure of every clip as JSON, under a temporary name first."""
    unfinished = Path(path).with_name(f".{Path(path).name}")
    unfinished.write_text(json.dumps(runs, indent=1) + "\n")
    unfinished.replace(path)
