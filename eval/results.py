"""Results of an evaluation, written and read: a row a clip and system, and what was evaluated.

    evaluation.json      what was evaluated, and how; written first
    batches/*.json       a finished micro-batch each, the unit of resuming
    wav/<system>/*.wav   waveforms of the systems
    clips.parquet        a row a clip and system, by key and system; clips.csv is the same
    SHA256SUMS           checksums of both
    summary.json         means, and how sure they are

A figure that could not be measured is null, and `failed` says why.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from eval.clips_table import read_clips, unreadable
from eval.result_schema import (
    RATES,
    SYSTEMS,
    ResultsError,
    about_from,
    metrics_in,
    reasons_of,
    schema_of,
)
from runtime.limits import MAX_ABOUT_BYTES
from runtime.regular_file import IrregularFileError, read_regular, read_regular_text
from shards import Store

ABOUT_NAME, CLIPS_NAME, CSV_NAME, SUMMARY_NAME = "evaluation.json", "clips.parquet", "clips.csv", "summary.json"
CHECKSUMS_NAME = "SHA256SUMS"


def table_of(rows: Iterable[dict[str, Any]], metrics: Sequence[str]) -> pa.Table:
    """Rows (columns that lack are null) as a table, by key and by the order of `SYSTEMS`."""
    ordered = sorted(rows, key=lambda row: (row["key"], SYSTEMS.index(row["system"])))
    return pa.Table.from_pylist(ordered, schema=schema_of(metrics))


def make_folder(folder: Path) -> None:
    """Make a folder: whether it can be written into shows before the work, not after it (`OSError`)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        message = f"cannot be written to ({os.strerror(error.errno or errno.EIO)})"
        raise OSError(error.errno, message, str(folder)) from error


def write_clips(store: Store, table: pa.Table) -> None:
    """Write the rows as parquet and as CSV, and the checksums of both as `sha256sum` does; the same rows give the same
    bytes (same pyarrow)."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", store_schema=False)
    lines = io.BytesIO()
    pacsv.write_csv(table, lines)
    checksums = ""
    store.remove(CHECKSUMS_NAME)  # killed before its end, this leaves no checksums of other rows
    for name, content in ((CLIPS_NAME, buffer), (CSV_NAME, lines)):
        store.write(name, content.getvalue())
        checksums += f"{hashlib.sha256(content.getbuffer()).hexdigest()}  {name}\n"
    store.write(CHECKSUMS_NAME, checksums.encode())


def plain(content: Any) -> Any:
    """Nested content as JSON can hold it: what is not a finite number is None."""
    if isinstance(content, dict):
        return {str(name): plain(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if isinstance(content, float | np.floating):
        return float(content) if np.isfinite(content) else None
    return content


def write_json(store: Store, name: str, content: Any) -> None:
    """Write JSON, with what is not a number as null."""
    text = json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    store.write(name, f"{text}\n".encode("utf-8", "replace"))


def read_about(folder: Path) -> dict[str, Any] | None:
    """The values of a folder's `evaluation.json`, None where there is none; `ResultsError` where it is damaged."""
    path = folder / ABOUT_NAME
    try:
        content = read_regular(path, MAX_ABOUT_BYTES)
    except FileNotFoundError:
        return None
    except (IrregularFileError, OSError) as error:
        raise unreadable(path, error) from error
    return about_from(content, str(path))


def _written_checksum(folder: Path, name: str) -> str | None:
    """A file's checksum when it was written; None in reports of versions that kept none."""
    path = folder / CHECKSUMS_NAME
    try:
        lines = read_regular_text(path, MAX_ABOUT_BYTES).splitlines()
    except FileNotFoundError:
        return None
    except (IrregularFileError, OSError) as error:
        raise unreadable(path, error) from error
    found = [line[:64] for line in lines if re.fullmatch(f"[0-9a-f]{{64}}  {re.escape(name)}", line)]
    if len(found) != 1:
        raise ResultsError(f"{path}: {len(found)} checksums of {name}, and one was expected, as sha256sum writes it")
    return found[0]


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: `Evaluation.open(folder)`."""

    folder: Path
    # what was evaluated (`evaluation.json`): identity, settings, checkpoint, dataset, versions, command
    about: dict[str, Any]
    clips: pa.Table  # the rows, `schema_of` its metrics

    @classmethod
    def open(cls, folder: str | Path) -> Evaluation:
        """Read a report's folder; `ResultsError` where there is none, it is not finished, or it is damaged."""
        folder = Path(folder)
        about = read_about(folder)
        if about is None:
            raise ResultsError(f"{folder}: no evaluation lies here ({ABOUT_NAME} is missing)")
        clips = read_clips(folder / CLIPS_NAME, _written_checksum(folder, CLIPS_NAME))
        if clips is None:
            raise ResultsError(f"{folder}: the evaluation has not finished ({CLIPS_NAME} is missing)")
        return cls(folder, about, clips)

    @cached_property
    def measured(self) -> list[str]:
        """Metrics, columns first and then rates, of which there is a figure or a failure."""
        failed = {name for text in self.clips["failed"].unique().to_pylist() for name in reasons_of(text)}
        return metrics_in(self.clips.column_names) + [
            name
            for name, (_, counted) in RATES.items()
            if self.clips[counted].null_count < len(self.clips) or name in failed
        ]

    @cached_property
    def systems(self) -> list[str]:
        """Systems that there are rows of, in the order of `SYSTEMS`."""
        found = set(self.clips["system"].unique().to_pylist())
        return [name for name in SYSTEMS if name in found]

    def rows(self, system: str) -> pa.Table:
        """The rows of a system, by key."""
        return self.clips.filter(pc.field("system") == system)

    def figures(self, system: str, metric: str) -> tuple[list[str], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Keys, figures and weights of the clips of a system that have this figure.

        A rate's weight is what its errors are counted over (a clip where nothing was said has none, and is not among
        them); any other figure's weight is 1. The mean of many clips is the weighted one.
        """
        rows = self.rows(system)
        keys = np.array(rows["key"].to_pylist(), dtype=object)
        if metric in RATES:
            errors, weights = (rows[column].cast(pa.float64()).to_numpy() for column in RATES[metric])
            with np.errstate(divide="ignore", invalid="ignore"):
                values = errors / np.where(weights > 0, weights, np.nan)
        else:
            values = rows[metric].cast(pa.float64()).to_numpy()
            weights = np.ones(len(values))
        known = ~np.isnan(values)
        return keys[known].tolist(), values[known], weights[known]

    def failures(self, system: str) -> dict[str, dict[str, str]]:
        """Metric -> key -> why there is no figure."""
        found: dict[str, dict[str, str]] = {}
        rows = self.rows(system)
        for key, text in zip(rows["key"].to_pylist(), rows["failed"].to_pylist(), strict=True):
            for metric, reason in reasons_of(text).items():
                found.setdefault(metric, {})[key] = reason
        return found
