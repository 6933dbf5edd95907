"""Report of an evaluation: `report.html`, one page that fetches nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.metrics import Display
from eval.report import about
from eval.report.alignment import normalizer_used
from eval.report.charts import against_length, beyond, distribution
from eval.report.clip_cards import NARROW_STRIP, STRIP, card_of, choose
from eval.report.tables import Displays, clips_table, display_or_name, failures_table, missing_table, speakers_table
from eval.report.waveforms import draw_scale
from eval.results import Evaluation, plain
from runtime.html_page import write_page
from runtime.images import TILE
from shards import Dataset

PAGE_NAME = "report.html"

_RANKING_METRICS = ("estoi", "stoi", "pesq", "pesq_wide")
_FIRST_CHARTS = ("estoi", "stoi", "pesq", "wer")  # metrics whose charts are open


def write_report(evaluation: Evaluation, dataset: Dataset | None, summary: Mapping[str, Any], shown: int = 3) -> Path:
    """Write `report.html` into the evaluation's folder and return its path; it appears whole or not at all.

    The same evaluation gives the same bytes, but for the dates that it has (with the same libraries). Lips are shown
    with a `dataset`, and `shown` clips of the best, of the median and of the worst. `summary` is
    `summarize(evaluation)`, and `skipped` (key, stage, reason, detail of each clip of the split that is not in the
    shards) and `damaged` (key and reason of each that could not be read). `ValueError` where `shown` is below 1, or the
    page cannot be a file; `StorageError` where the disk failed.
    """
    if shown < 1:
        raise ValueError(f"shown: {shown} clips cannot be shown, at least 1 was expected")
    summary = plain(summary)
    displays = {metric: display_or_name(metric) for metric in evaluation.measured}
    missing = missing_table(summary)
    published, note = about.published_of(evaluation, summary["clips"] + len(missing.rows))
    measured = [metric for metric in displays if evaluation.figures("network", metric)[0]]
    ranked_by = next((metric for metric in (*_RANKING_METRICS, *measured) if metric in measured), None)
    differences = summary.get("differences", {})
    compared = {metric: of for metric, of in displays.items() if any(metric in found for found in differences.values())}
    ranks = choose(evaluation, ranked_by, shown) if ranked_by else {}
    normalize = normalizer_used(evaluation)
    charts_order = sorted(measured, key=lambda name: _FIRST_CHARTS.index(name) if name in _FIRST_CHARTS else 99)
    return write_page(
        evaluation.folder / PAGE_NAME,
        "report.html",
        styles=("figures.css", "report.css"),
        scripts=("tables.js", "report.js"),
        package="eval.report",
        about=evaluation.about,
        lead=about.lead(evaluation, summary),
        displays=displays,
        systems=_means(summary["systems"], displays),
        differences=_means(differences, compared),
        compared=compared,
        titles=about.TITLES,
        meaning=about.MEANING,
        published=published,
        published_note=note,
        failures=failures_table(summary.get("failures", {}), about.TITLES),
        speakers=speakers_table(summary["speakers"], displays),
        charts=[_charts(evaluation, summary, metric, displays[metric]) for metric in charts_order],
        first_charts=_FIRST_CHARTS,
        ranked_by=displays[ranked_by] if ranked_by else None,
        cards=[
            card_of(rank, key, evaluation, dataset, displays, normalize) for rank, keys in ranks.items() for key in keys
        ],
        clips=clips_table(evaluation, displays),
        missing=missing,
        reasons=Counter(row[2] for row in missing.rows).most_common(),
        settings=about.settings_of(evaluation.about),
        scale=draw_scale(),
        tile=TILE,
        strip=STRIP,
        narrow_strip=NARROW_STRIP,
    )


def _means(systems: Mapping[str, Any], displays: Displays) -> dict[str, list[dict[str, Any] | None]]:
    """System -> what the table shows of each metric, None where it was not measured; only systems that have any."""
    return {
        system: [
            {"failed": 0, **of[metric], "metric": metric, "display": display} if metric in of else None
            for metric, display in displays.items()
        ]
        for system, of in systems.items()
        if of
    }


def _charts(evaluation: Evaluation, summary: Mapping[str, Any], metric: str, display: Display) -> dict[str, Any]:
    """A metric's charts; `beyond` figures lie outside of them."""
    figures = {}
    for system in evaluation.systems:
        _, values, _ = evaluation.figures(system, metric)
        if len(values):
            figures[system] = (about.TITLES[system], values, summary["systems"][system][metric]["mean"])
    rows = evaluation.rows("network")
    lengths = dict(zip(rows["key"].to_pylist(), rows["seconds"].to_pylist(), strict=True))
    keys, values, weights = evaluation.figures("network", metric)
    seconds = np.array([lengths[key] for key in keys], np.float64)
    several = len(set(seconds.tolist())) > 1
    return {
        "metric": metric,
        "display": display,
        "distribution": distribution(display, figures),
        "against_length": against_length(display, seconds, values, weights) if several else None,
        "beyond": beyond(display, np.concatenate([values for _, values, _ in figures.values()])),
    }
