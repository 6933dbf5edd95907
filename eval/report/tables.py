"""Tables that sort, are searched and paged: their first rows as HTML, all of them as JSON in full precision.

`tables.html` shows a `Table`, `tables.js` does the rest. Without scripts, and on paper, the first rows stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.metrics import Display
from eval.metrics.registry import display_of
from eval.result_schema import reasons_of
from eval.results import Evaluation

ROWS_PER_PAGE = 50

Displays = Mapping[str, Display]
"""By metric."""


def display_or_name(metric: str) -> Display:
    """How a metric's figures are displayed; the title of one that is not known here is its name."""
    try:
        return display_of(metric)
    except ValueError:
        return Display(metric.rpartition(":")[2], 3, True)


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str  # in the data
    title: str
    note: str = ""  # a word beneath its heading
    digits: int | None = None  # after the point, of numbers; None: it holds text
    scale: float = 1.0  # that a number is multiplied by
    screen_only: bool = False  # whether it is missing on paper, for want of room

    @classmethod
    def of(cls, metric: str, display: Display) -> Column:
        return cls(metric, display.title, display.note, display.digits, display.scale)

    def format(self, value: Any) -> str:
        if value is None:
            return "\N{EN DASH}"
        return str(value) if self.digits is None else f"{value * self.scale:,.{self.digits}f}"


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row."""

    name: str  # unique in the page, of letters
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]  # a value a column; None where there is none
    unit: str = "clip"  # what a row is, in the singular

    @property
    def first_rows(self) -> Sequence[Sequence[Any]]:
        """Those that stand in the page as HTML."""
        return self.rows[:ROWS_PER_PAGE]

    @property
    def data(self) -> dict[str, Any]:
        """For `tables.js`: a list a column, which is half the size of a list a row with names."""
        return {
            "unit": self.unit,
            "page": ROWS_PER_PAGE,
            "columns": [
                {name: value for name, value in vars(column).items() if name != "note"} for column in self.columns
            ],
            "values": [[row[place] for row in self.rows] for place in range(len(self.columns))],
        }


def clips_table(evaluation: Evaluation, displays: Displays) -> Table:
    """Every figure of the network, a row a clip."""
    rows = evaluation.rows("network")
    keys = rows["key"].to_pylist()
    columns = [Column("key", "Clip"), Column("speaker", "Speaker"), Column("seconds", "Seconds", digits=2)]
    values = [keys, *(rows[name].to_pylist() for name in ("speaker", "seconds"))]
    for metric, display in displays.items():
        measured, figures, _ = evaluation.figures("network", metric)
        of = dict(zip(measured, figures.tolist(), strict=True))
        columns.append(Column.of(metric, display))
        values.append([of.get(key) for key in keys])
    for name, title in (
        ("text", "Reference text"),
        ("hypothesis", "ASR hypothesis"),
        ("lips_hypothesis", "Hypothesis from the lips"),
    ):
        texts = rows[name].to_pylist()
        if any(texts):
            columns.append(Column(name, title, screen_only=True))
            values.append([text or None for text in texts])
    failed = [_reasons(text) for text in rows["failed"].to_pylist()]
    if any(failed):
        columns.append(Column("failed", "No figure"))
        values.append(failed)
    return Table("clips", "The network's figures, clip by clip", columns, list(zip(*values, strict=True)))


def speakers_table(speakers: Mapping[str, Mapping[str, Any]], displays: Displays) -> Table:
    """Means of the network's figures by speaker."""
    columns = [Column("speaker", "Speaker"), Column("clips", "Clips", digits=0)]
    rows = [
        (speaker or "unknown", found["clips"], *(found.get(metric) for metric in displays))
        for speaker, found in speakers.items()
    ]
    columns += [Column.of(*of) for of in displays.items()]
    return Table("speakers", "Means of the network's figures, speaker by speaker", columns, rows, "speaker")


def failures_table(failures: Mapping[str, Mapping[str, Mapping[str, int]]], titles: Mapping[str, str]) -> Table:
    """Figures that could not be measured: metric, system, reason, and of how many clips."""
    rows = [
        (display_or_name(metric).title, titles.get(system, system), reason, clips)
        for system, metrics in failures.items()
        for metric, reasons in metrics.items()
        for reason, clips in reasons.items()
    ]
    columns = [Column("metric", "Metric"), Column("system", "System"), Column("reason", "Why there is no figure")]
    columns.append(Column("count", "Clips", digits=0))
    return Table("failures", "Figures that could not be measured", columns, rows, "reason")


def missing_table(summary: Mapping[str, Any]) -> Table:
    """Clips of the split that were not evaluated: skipped when the shards were built, or not readable."""
    rows = [
        (clip["key"], f"building the shards: {clip['stage']}", clip["reason"], clip.get("detail") or None)
        for clip in summary.get("skipped", [])
    ]
    rows += [(clip["key"], "reading the shards", clip["reason"], None) for clip in summary.get("damaged", [])]
    titles = {"key": "Clip", "stage": "Skipped in", "reason": "Reason", "detail": "Detail"}
    columns = [Column(name, title) for name, title in titles.items()]
    return Table("missing", "Clips of the split that were not evaluated", columns, rows)


def _reasons(text: str | None) -> str | None:
    found = reasons_of(text).items()
    return "; ".join(f"{display_or_name(metric).title}: {reason}" for metric, reason in found) or None
