"""Print what a dataset holds: totals per split and speaker, lengths, and whether sound and lips are in sync."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.measure_lag import Lag, measure_lag
from runtime.constants import FPS
from runtime.terminal import printable
from shards import Dataset, open_dataset
from shards.loading.dataset import read_row

_MOST_SPEAKERS = 12
_BAR_WIDTH = 40
_SUSPICIOUS_SECONDS = 0.08
_CLEAR = 0.05


def print_info(url: str, lag_clips: int, console: Console) -> None:
    """Print what the dataset at a path or URL holds; the lag is measured on `lag_clips` clips of each split.

    Raises:
        DatasetError: there is no readable dataset.
    """
    dataset = open_dataset(url)
    rows = dataset.index.to_pylist()
    lags: dict[str, Lag | None] = {}
    for split in dataset.manifest.splits if lag_clips else ():
        chosen = [row for row in rows if row["split"] == split]
        spread = chosen[:: max(1, math.ceil(len(chosen) / lag_clips))]
        lags[split] = measure_lag(read_row(dataset.store, row, dataset.crop_radius) for row in spread)
    console.print(_split_table(dataset, rows, lags))
    for split, lag in lags.items():
        if lag is not None and lag.explained > _CLEAR and abs(lag.seconds) > _SUSPICIOUS_SECONDS:
            late = "after" if lag.seconds > 0 else "before"
            console.print(
                f"warning: in {printable(split)} the sound comes {abs(lag.seconds) * 1000:.0f} ms {late} the lips: "
                "is the corpus in step?",
                style="bold red",
            )
    console.print(_speaker_table(rows))
    console.print(_length_table(rows))


def _split_table(dataset: Dataset, rows: list[dict[str, Any]], lags: dict[str, Lag | None]) -> Table:
    manifest = dataset.manifest
    table = Table(title=printable(f"{dataset.store.url}: {manifest.recipe['dataset']}, plan {manifest.plan[:12]}"))
    for name in ("split", "clips", "hours", "shards", "MB", "speakers", "lag", "R2"):
        table.add_column(name, justify="left" if name == "split" else "right", no_wrap=True)
    for split, entries in manifest.splits.items():
        mine = [row for row in rows if row["split"] == split]
        lag = lags.get(split)
        table.add_row(
            printable(split),
            str(len(mine)),
            f"{sum(row['frames'] for row in mine) / FPS / 3600:.3f}",
            str(len(entries)),
            f"{sum(entry.bytes for entry in entries) / 1e6:.1f}",
            str(len({row["speaker"] for row in mine})),
            *((f"{lag.seconds * 1000:+.0f} ms", f"{lag.explained:.2f}") if lag else ("-", "-")),
        )
    skipped = manifest.totals["skipped"]
    table.caption = f"{skipped} clips skipped (errors.jsonl)" if skipped else "no clip was skipped"
    if lags:
        table.caption += "; lag: of the sound behind the lips; R2: share of its level that they explain"
    return table


def _speaker_table(rows: list[dict[str, Any]]) -> Table:
    clips = Counter(row["speaker"] for row in rows)
    table = Table(title=f"speakers: {len(clips)}")
    for name in ("speaker", "clips", "minutes", "splits"):
        table.add_column(name, justify="left" if name in ("speaker", "splits") else "right")
    for speaker, count in clips.most_common(_MOST_SPEAKERS):
        mine = [row for row in rows if row["speaker"] == speaker]
        minutes = sum(row["frames"] for row in mine) / FPS / 60
        table.add_row(
            printable(speaker),
            str(count),
            f"{minutes:.1f}",
            printable(", ".join(sorted({row["split"] for row in mine}))),
        )
    if len(clips) > _MOST_SPEAKERS:
        table.caption = f"and {len(clips) - _MOST_SPEAKERS} more with fewer clips"
    return table


def _length_table(rows: list[dict[str, Any]]) -> Table:
    """Clips by length: whole seconds where they are short, wider where the corpus has long ones."""
    if not rows:
        return Table(title="no clips")
    longest = max(row["frames"] for row in rows) / FPS
    step = next(step for step in (0.5, 1, 2, 5, 10, 30, 60, 300, math.inf) if longest / step <= 12)
    counts = Counter(int(row["frames"] / FPS // step) for row in rows)
    table = Table(title="lengths")
    for name in ("seconds", "clips", ""):
        table.add_column(name, justify="left" if name == "" else "right")
    for number in range(min(counts), max(counts) + 1):
        bar = "█" * math.ceil(counts[number] / max(counts.values()) * _BAR_WIDTH)
        table.add_row(f"{number * step:g} to {(number + 1) * step:g}", str(counts[number]), bar)
    return table
