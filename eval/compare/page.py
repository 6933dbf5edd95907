"""Page of a comparison: its table, the distributions of the differences, and the same clips side by side.

Of each evaluation those clips are shown that it gained and lost the most on beside the first, in the ranking metric,
and some in the middle: the extremes say what to listen for, the middle what is usual.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from eval.compare.comparison import Comparison, MetricComparison
from eval.compare.table import exclusions, heading, notes_of, rows_of
from eval.report.about import settings_of
from eval.report.alignment import normalizer_used
from eval.report.charts import beyond, distribution
from eval.report.clip_cards import MAX_SECONDS, ClipCard, Rank, cut_note, hypothesis_of, player_of
from eval.report.report import PAGE_NAME
from eval.report.waveforms import draw_scale
from eval.result_schema import wav_name
from eval.results import Evaluation
from runtime.constants import FPS, SAMPLES_PER_FRAME
from runtime.html_page import write_page

_LABEL = 11  # letters that have room beside a chart


def write_comparison(
    folder: Path, comparison: Comparison, evaluations: Mapping[str, Evaluation], shown: int = 2
) -> Path:
    """Write `report.html` into a folder and return its path; it appears whole or not at all, and fetches nothing.

    `evaluations` are by the names that the comparison has; `shown` clips each have the largest gain, the median and the
    largest loss of an evaluation. `ValueError` where the page cannot be a file, `StorageError` where the disk failed.
    """
    first, *others = comparison.names
    chosen: dict[str, list[Rank]] = {}
    for name in others:
        for key, rank in choose(comparison.metrics[comparison.ranked_by], name, shown).items():
            chosen.setdefault(key, []).append(rank)
    return write_page(
        folder / PAGE_NAME,
        "compare.html",
        styles=("figures.css", "report.css"),
        scripts=("tables.js", "report.js"),
        package="eval.report",
        title=f"{' and '.join(others)} compared with {first}",
        comparison=comparison,
        columns=heading(comparison),
        table={metric: rows_of(comparison, metric) for metric in comparison.metrics},
        notes=notes_of(comparison),
        excluded={
            of.display.label: exclusions(comparison, metric) for metric, of in comparison.metrics.items() if of.excluded
        },
        charts=[_chart(comparison, of) for of in comparison.metrics.values()],
        ranked_by=comparison.metrics[comparison.ranked_by].display,
        cards=[_card(ranks, key, comparison, evaluations) for key, ranks in chosen.items()],
        titles={"original": "Original", **_systems(comparison)},
        scale=draw_scale(),
        evaluations=[
            {"name": name, "folder": of.folder, "command": of.about.get("command"), "settings": settings_of(of.about)}
            for name, of in evaluations.items()
        ],
    )


def choose(of: MetricComparison, name: str, shown: int) -> dict[str, Rank]:
    """Up to `shown` clips each of the largest gain, of the median and of the largest loss, by key, in this order. No
    clip occurs twice; of equal ones, the first by key counts as the larger gain."""
    gains, changes = of.gains(name), of.changes(name)
    ranked = sorted(range(len(gains)), key=lambda place: (-gains[place], place))
    each = min(shown, -(-len(ranked) // 3))
    start = (len(ranked) - each) // 2
    groups = {"gain": ranked[:each], "median": ranked[start : start + each], "loss": ranked[len(ranked) - each :]}
    found: dict[str, Rank] = {}
    for group, places in groups.items():
        for place in places:
            change = of.display.format_difference(float(changes[place]))
            found.setdefault(of.paired.keys[place], Rank(_what(group, float(gains[place])), change, name))
    return found


def _what(group: str, gain: float) -> str:
    """Where every clip gains, the last one has not lost."""
    if group == "median":
        return "about the median"
    if gain == 0:
        return "no difference"
    return f"{'largest' if (gain > 0) == (group == 'gain') else 'smallest'} {'gain' if gain > 0 else 'loss'}"


def _systems(comparison: Comparison) -> dict[str, str]:
    """What the page's styles and scripts call each evaluation -> its name, which may hold anything."""
    return {f"network of{place}": name for place, name in enumerate(comparison.names)}


def _chart(comparison: Comparison, of: MetricComparison) -> dict[str, Any]:
    """How the clips' differences in a metric are distributed: drawn, and in words how many are better."""
    display = replace(of.display, title=f"difference in {of.display.title}")
    figures = {}
    for system, name in _systems(comparison).items():
        if name in of.differences:
            label = name if len(name) <= _LABEL else f"\N{HORIZONTAL ELLIPSIS}{name[1 - _LABEL :]}"
            figures[system] = (label, of.changes(name), of.differences[name].mean)
    better = [f"{100 * one.win_rate:.1f}% of clips better in {name}" for name, one in of.differences.items()]
    outside = beyond(display, np.concatenate([changes for _, changes, _ in figures.values()]))
    return {
        "display": of.display,
        "drawn": distribution(display, figures),
        "better": ", ".join(better),
        "beyond": outside,
    }


def _card(ranks: list[Rank], key: str, comparison: Comparison, evaluations: Mapping[str, Evaluation]) -> ClipCard:
    rows = {name: _row(evaluation, key) for name, evaluation in evaluations.items()}
    first, whole = comparison.names[0], max(row["frames"] for row in rows.values())
    frames = min(whole, MAX_SECONDS * FPS)
    length = frames * SAMPLES_PER_FRAME
    systems = _systems(comparison)
    players = [player_of("original", evaluations[first].folder, wav_name("original", key), length)]
    players += [
        player_of(system, evaluations[name].folder, rows[name]["wav"], length) for system, name in systems.items()
    ]
    return ClipCard(
        ranks=ranks,
        row=rows[first],
        seconds=frames / FPS,
        players=players,
        hypotheses=[
            hypothesis
            for name, row in rows.items()
            for hypothesis in hypothesis_of(name, row["text"], row["hypothesis"], normalizer_used(evaluations[name]))
        ],
        figures=[
            (of.display, {system: _figure(of, name, key) for system, name in systems.items()})
            for of in comparison.metrics.values()
        ],
        notes=cut_note(whole),
    )


def _row(evaluation: Evaluation, key: str) -> dict[str, Any]:
    row: dict[str, Any] = evaluation.rows("network").filter(pc.field("key") == key).to_pylist()[0]
    return row


def _figure(of: MetricComparison, name: str, key: str) -> float | None:
    """Of a clip; None where not every evaluation has it."""
    place = bisect_left(of.paired.keys, key)
    return float(of.paired.figures[name][place]) if of.paired.keys[place : place + 1] == [key] else None
