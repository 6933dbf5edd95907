"""Figures of several checkpoints and of the controls as Markdown: means, and by how much the network is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from eval.bootstrap import bootstrap
from eval.controls.scores import CONTROLS, FIXED, SCORES, ControlScores
from eval.metrics import display_of

Rows = dict[str, dict[str, dict[str, float]]]
"""Row of the table -> score -> key -> value."""


def table(runs: Mapping[str, ControlScores], fixed: ControlScores) -> Iterator[str]:
    """Lines of Markdown: 95% bootstrap intervals over clips, of means and of differences clip by clip.

    A row is over the clips that every row has a figure for: rows are compared on the same clips. Of several checkpoints
    the mean is taken clip by clip, and each is shown by itself below.

    Args:
        runs: by checkpoint (`score_network`).
        fixed: of the same clips (`score_fixed`).
    """
    rows = _rows(runs, fixed)
    keys = {score: sorted(set.intersection(*(set(row[score]) for row in rows.values()))) for score in SCORES}
    clips = len(fixed["true mel"]["l1"])
    yield f"| | {' | '.join(display_of(score).title for score in SCORES)} |"
    yield f"|---|{'---:|' * len(SCORES)}"
    for name, row in rows.items():
        cells = (_cell([row[score][key] for key in keys[score]], score) for score in SCORES)
        yield f"| {name} | {' | '.join(cells)} |"
    for control in ("other lips", "untrained", "mean mel"):
        ours, theirs = rows["network"], rows[control]
        cells = (_cell([ours[score][key] - theirs[score][key] for key in keys[score]], score) for score in SCORES)
        yield f"| network - {control} | {' | '.join(cells)} |"
    yield ""
    left = ", ".join(f"{score} {clips - len(keys[score])}" for score in SCORES if len(keys[score]) < clips)
    yield (
        f"{clips} clips, {len(runs)} checkpoint{'s' if len(runs) > 1 else ''}; 95% intervals over clips"
        + (f"; left out, since a row has no figure: {left}." if left else ".")
    )


def _rows(runs: Mapping[str, ControlScores], fixed: ControlScores) -> Rows:
    rows: Rows = {}
    for control in CONTROLS:
        if control in FIXED:
            rows[control] = fixed[control]
            continue
        rows[control] = {}
        for score in SCORES:
            measured = set.intersection(*(set(run[control][score]) for run in runs.values()))
            rows[control][score] = {
                key: float(np.mean([run[control][score][key] for run in runs.values()])) for key in measured
            }
    if len(runs) > 1:
        rows |= {f"network, {name}": figures["network"] for name, figures in runs.items()}
    return rows


def _cell(values: list[float], score: str) -> str:
    found, digits = bootstrap(values), display_of(score).digits
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
