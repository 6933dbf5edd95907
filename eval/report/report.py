"""From an evaluation to `report.html`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from eval.report import about
from eval.report.alignment import normalizer_used
from eval.report.charts import against_length, beyond, distribution
from eval.report.clips import NARROW_STRIP, STRIP, card_of, choose
from eval.report.tables import Look, clips_table, failures_table, look_of, missing_table, speakers_table
from eval.report.waveforms import draw_scale
from eval.results import Evaluation
from runtime.html_page import write_page
from runtime.images import TILE
from shards import Dataset

PAGE_NAME = "report.html"

_RANKED_BY = ("estoi", "stoi", "pesq", "pesq_wide")
_DRAWN_FIRST = ("estoi", "stoi", "pesq", "wer")  # metrics whose charts are open


class Cell(NamedTuple):
    """A mean in the table of systems; None where there is none."""

    look: Look
    mean: float | None
    low: float | None
    high: float | None
    clips: int
    failed: int


@dataclass(frozen=True)
class Charts:
    """A metric's charts. `beyond` clips lie outside of them."""

    look: Look
    distribution: Markup
    against_length: Markup | None
    beyond: int


def write_report(evaluation: Evaluation, dataset: Dataset | None, summary: Mapping[str, Any], shown: int = 3) -> Path:
    """Write `report.html` into the evaluation's folder; it appears whole or not at all.

    The same evaluation gives the same bytes, but for the dates that it has (with the same libraries).

    Args:
        evaluation: finished.
        dataset: whose lips are shown; None: none are.
        summary: `summarise(evaluation)`, and `skipped` (key, stage, reason, detail of each clip of the split that is
            not in the shards) and `damaged` (key and reason of each that could not be read).
        shown: clips shown of the best, of the median and of the worst.

    Returns:
        The page's path.

    Raises:
        ValueError: `shown` is below 1, or the page cannot be a file.
        PackageMissingError: texts were recognised, and jiwer is not installed.
        StorageError: the disk failed.
    """
    if shown < 1:
        raise ValueError(f"shown: {shown} clips cannot be shown, at least 1 was expected")
    looks = [look_of(metric) for metric in evaluation.measured]
    missing = missing_table(summary)
    published, note = about.published_of(evaluation, summary["clips"] + len(missing.rows))
    ranked_by = _ranked_by(evaluation, looks)
    ranks = choose(evaluation, ranked_by, shown) if ranked_by else {}
    normalize = normalizer_used(evaluation)
    return write_page(
        evaluation.folder / PAGE_NAME,
        "report.html",
        styles=("figures.css", "report.css"),
        scripts=("tables.js", "report.js"),
        package="eval.report",
        about=evaluation.about,
        lead=about.lead(evaluation, summary),
        looks=looks,
        systems=[
            (system, _cells(summary, system, looks)) for system in evaluation.systems if summary["systems"][system]
        ],
        titles=about.TITLES,
        meaning=about.MEANING,
        published=published,
        published_note=note,
        failures=failures_table(summary.get("failures", {}), about.TITLES),
        speakers=speakers_table(summary["speakers"], looks),
        charts=[_charts(evaluation, summary, look) for look in _in_order(evaluation, looks)],
        drawn_first=_DRAWN_FIRST,
        ranked_by=ranked_by,
        cards=[
            card_of(rank, key, evaluation, dataset, looks, normalize) for rank, keys in ranks.items() for key in keys
        ],
        clips=clips_table(evaluation, looks),
        missing=missing,
        reasons=Counter(row[2] for row in missing.rows).most_common(),
        settings=about.settings_of(evaluation.about),
        scale=draw_scale(),
        tile=TILE,
        strip=STRIP,
        narrow_strip=NARROW_STRIP,
    )


def _cells(summary: Mapping[str, Any], system: str, looks: Sequence[Look]) -> list[Cell | None]:
    of = summary["systems"][system]
    return [_cell(look, of[look.name]) if look.name in of else None for look in looks]


def _cell(look: Look, found: Mapping[str, Any]) -> Cell:
    mean, low, high = (
        found[name] if found[name] is not None and math.isfinite(found[name]) else None
        for name in ("mean", "low", "high")
    )
    return Cell(look, mean, low, high, found["clips"], found["failed"])


def _ranked_by(evaluation: Evaluation, looks: Sequence[Look]) -> Look | None:
    """What clips are ranked by: the first metric of speech that there are figures of, or else any."""
    order = [*_RANKED_BY, *(look.name for look in looks)]
    there = [name for name in order if name in evaluation.measured and evaluation.figures("network", name)[0]]
    return look_of(there[0]) if there else None


def _in_order(evaluation: Evaluation, looks: Sequence[Look]) -> list[Look]:
    """Metrics with figures, those first that most people look at."""
    there = [look for look in looks if evaluation.figures("network", look.name)[0]]
    return sorted(there, key=lambda look: _DRAWN_FIRST.index(look.name) if look.name in _DRAWN_FIRST else 99)


def _charts(evaluation: Evaluation, summary: Mapping[str, Any], look: Look) -> Charts:
    figures = {}
    for system in evaluation.systems:
        _, values, _ = evaluation.figures(system, look.name)
        if len(values):
            figures[system] = (about.TITLES[system], values, summary["systems"][system][look.name]["mean"])
    rows = evaluation.rows("network")
    lengths = dict(zip(rows["key"].to_pylist(), rows["seconds"].to_pylist(), strict=True))
    keys, values, weights = evaluation.figures("network", look.name)
    seconds = np.array([lengths[key] for key in keys], np.float64)
    drawn = against_length(look, seconds, values, weights) if len(set(seconds.tolist())) > 1 else None
    return Charts(
        look, distribution(look, figures), drawn, beyond(look, np.concatenate([of for _, of, _ in figures.values()]))
    )
