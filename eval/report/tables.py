"""Tables that sort, are searched and paged: their first rows as HTML, all of them as JSON in full precision.

`tables.html` shows a `Table`, `tables.js` does the rest. Without scripts, and on paper, the first rows stand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.metrics import Display, display_of
from eval.results import RATES, Evaluation

ROWS = 50
"""Of a page of a table."""


@dataclass(frozen=True)
class Look:
    """How a metric's figures are shown.

    Attributes:
        name: of the metric.
        figure: title, digits, unit, and which way is better.
        scale: that a stored figure is multiplied by: error rates are stored as shares and shown in percent.
    """

    name: str
    display: Display
    scale: float

    @property
    def title(self) -> str:
        """What it is called, and its unit."""
        return f"{self.display.title}, {self.display.unit}" if self.display.unit else self.display.title

    @property
    def better(self) -> str:
        """Which way is better, in words."""
        return "higher is better" if self.display.higher_is_better else "lower is better"

    @property
    def unit_and_better(self) -> str:
        """What stands beneath its title."""
        return f"{self.display.unit}, {self.better}" if self.display.unit else self.better

    def shown(self, value: float | None) -> str:
        """A stored figure as people read it."""
        if value is None or not math.isfinite(value):
            return "\N{EN DASH}"
        return f"{value * self.scale:.{self.display.digits}f}"


def look_of(metric: str) -> Look:
    """A metric of a report; one that cannot be imported here has its name for a title."""
    try:
        figure = display_of(metric)
    except ValueError:
        figure = Display(metric.rpartition(":")[2], 3, True)
    return Look(metric, figure, 100.0 if metric in RATES else 1.0)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: in the data.
        title: its heading.
        note: a word beneath it.
        digits: after the point, of numbers; None: it holds text.
        scale: that a number is multiplied by.
        aside: whether paper has no room for it.
    """

    name: str
    title: str
    note: str = ""
    digits: int | None = None
    scale: float = 1.0
    aside: bool = False

    @classmethod
    def of(cls, look: Look) -> Column:
        """The column of a metric."""
        return cls(look.name, look.display.title, look.unit_and_better, look.display.digits, look.scale)

    def shown(self, value: Any) -> str:
        """A value as people read it."""
        if value is None:
            return "\N{EN DASH}"
        return str(value) if self.digits is None else f"{value * self.scale:,.{self.digits}f}"


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row.

    Attributes:
        name: unique in the page, of letters.
        caption: what it shows.
        columns: of it.
        rows: a value a column; None where there is none.
        of: what a row is, in the singular.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    of: str = "clip"

    @property
    def first_rows(self) -> Sequence[Sequence[Any]]:
        """Those that stand in the page as HTML."""
        return self.rows[:ROWS]

    @property
    def data(self) -> dict[str, Any]:
        """For `tables.js`: a list a column, which is half the size of a list a row with names."""
        return {
            "of": self.of,
            "page": ROWS,
            "columns": [
                {name: value for name, value in vars(column).items() if name != "note"} for column in self.columns
            ],
            "values": [[row[place] for row in self.rows] for place in range(len(self.columns))],
        }


def clips_table(evaluation: Evaluation, looks: Sequence[Look]) -> Table:
    """Every figure of the network, a row a clip."""
    rows = evaluation.rows("network")
    keys = rows["key"].to_pylist()
    columns = [Column("key", "Clip"), Column("speaker", "Speaker"), Column("seconds", "Seconds", digits=2)]
    values = [keys, *(rows[name].to_pylist() for name in ("speaker", "seconds"))]
    for look in looks:
        measured, figures, _ = evaluation.figures("network", look.name)
        of = dict(zip(measured, figures.tolist(), strict=True))
        columns.append(Column.of(look))
        values.append([of.get(key) for key in keys])
    for name, title in (
        ("text", "Said"),
        ("hypothesis", "Recognized"),
        ("lips_hypothesis", "Recognized from the lips"),
    ):
        texts = rows[name].to_pylist()
        if any(texts):
            columns.append(Column(name, title, aside=True))
            values.append([text or None for text in texts])
    failed = [_reasons(text) for text in rows["failed"].to_pylist()]
    if any(failed):
        columns.append(Column("failed", "No figure"))
        values.append(failed)
    return Table("clips", "The network's figures, clip by clip", columns, list(zip(*values, strict=True)))


def speakers_table(speakers: Mapping[str, Mapping[str, Any]], looks: Sequence[Look]) -> Table:
    """Means of the network's figures by speaker."""
    columns = [Column("speaker", "Speaker"), Column("clips", "Clips", digits=0), *map(Column.of, looks)]
    rows = [
        (speaker or "unknown", found["clips"], *(_finite(found.get(look.name)) for look in looks))
        for speaker, found in speakers.items()
    ]
    return Table("speakers", "Means of the network's figures, speaker by speaker", columns, rows, "speaker")


def failures_table(failures: Mapping[str, Mapping[str, Mapping[str, int]]], titles: Mapping[str, str]) -> Table:
    """Figures that could not be measured: metric, system, reason, and of how many clips."""
    rows = [
        (look_of(metric).display.title, titles.get(system, system), reason, clips)
        for system, metrics in failures.items()
        for metric, reasons in metrics.items()
        for reason, clips in reasons.items()
    ]
    columns = [Column("metric", "Metric"), Column("system", "System"), Column("reason", "Why there is no figure")]
    return Table(
        "failures", "Figures that could not be measured", [*columns, Column("count", "Clips", digits=0)], rows, "reason"
    )


def missing_table(summary: Mapping[str, Any]) -> Table:
    """Clips of the split that were not evaluated: those not in the shards, and those that could not be read."""
    rows = [
        (clip["key"], f"building the shards: {clip['stage']}", clip["reason"], clip.get("detail") or None)
        for clip in summary.get("skipped", [])
    ]
    rows += [(clip["key"], "reading the shards", clip["reason"], None) for clip in summary.get("damaged", [])]
    columns = [
        Column("key", "Clip"),
        Column("stage", "Lost in"),
        Column("reason", "Reason"),
        Column("detail", "Detail"),
    ]
    return Table("missing", "Clips of the split that were not evaluated", columns, rows)


def _reasons(text: str | None) -> str | None:
    found = json.loads(text or "{}")
    return "; ".join(f"{look_of(metric).display.title}: {reason}" for metric, reason in found.items()) or None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
