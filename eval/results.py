"""Results of an evaluation, written and read: a row a clip and system, and what was evaluated.

    evaluation.json      what was evaluated, and how; written first
    batches/*.json       a finished micro-batch each, the unit of resuming
    wav/<system>/*.wav   waveforms of the systems
    clips.parquet        a row a clip and system, by key and system; clips.csv is the same
    summary.json         means, and how sure they are

A figure that could not be measured is null, and `failed` says why.
"""

from __future__ import annotations

import errno
import io
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from eval.result_limits import check_about_size, check_table_size, is_deep
from shards import Store

FORMAT = 2
ABOUT_NAME, CLIPS_NAME, CSV_NAME, SUMMARY_NAME = "evaluation.json", "clips.parquet", "clips.csv", "summary.json"

SYSTEMS = ("network", "shuffled_lips", "untrained", "mean_mel", "ceiling", "original")
"""What can be scored side by side, in the order of rows and reports (eval/systems.py says what each is)."""

RATES = {
    "wer": ("word_errors", "words"),
    "cer": ("character_errors", "characters"),
    "lips_wer": ("lips_word_errors", "lips_words"),
    "lips_cer": ("lips_character_errors", "lips_characters"),
}
"""Error rates by name: columns of errors and of what they are counted over. The rate of many clips is that of their
sums."""


_PARTS = ("identity", "checkpoint", "dataset", "settings", "versions")


class ResultsError(ValueError):
    """A folder that holds no evaluation, or a damaged one; names the file."""


def schema_of(metrics: Sequence[str]) -> pa.Schema:
    """Columns of `clips.parquet`: `key`, `split`, `speaker`, `frames` and `seconds` of the clip, the transcript
    `text`, `speaker_reference` (the key of the clip that it is of, `self` or `file`), `system`; a float64 a metric;
    `hypothesis` and `lips_hypothesis` with the counts of `RATES`; `failed`, JSON of metric -> reason; `wav`, the
    waveform's path in the folder. What does not apply is null."""
    text, count, number = pa.string(), pa.int32(), pa.float64()
    columns = dict.fromkeys(("key", "split", "speaker"), text) | {"frames": count, "seconds": number}
    columns |= dict.fromkeys(("text", "speaker_reference", "system"), text) | dict.fromkeys(metrics, number)
    columns |= {"hypothesis": text} | dict.fromkeys((*RATES["wer"], *RATES["cer"]), count)
    columns |= {"lips_hypothesis": text} | dict.fromkeys((*RATES["lips_wer"], *RATES["lips_cer"]), count)
    return pa.schema(columns | {"failed": text, "wav": text})


def table_of(rows: Iterable[dict[str, Any]], metrics: Sequence[str]) -> pa.Table:
    """Rows (columns that lack are null) as a table, by key and by the order of `SYSTEMS`."""
    ordered = sorted(rows, key=lambda row: (row["key"], SYSTEMS.index(row["system"])))
    return pa.Table.from_pylist(ordered, schema=schema_of(metrics))


def wav_name(system: str, key: str) -> str:
    """Where a waveform lies in the folder of an evaluation."""
    return f"wav/{system}/{key}.wav"


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
    """Write the rows as parquet and as CSV; the same rows give the same bytes (same pyarrow)."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", store_schema=False)
    lines = io.BytesIO()
    pacsv.write_csv(table, lines)
    for name, content in ((CLIPS_NAME, buffer), (CSV_NAME, lines)):
        store.write(name, content.getvalue())


def _check_clips(path: Path, clips: pa.Table) -> None:
    """Whether a table is as `schema_of` its metrics says."""
    metrics = [name for name in clips.column_names if name not in schema_of(()).names]
    expected = schema_of(metrics)
    missing = [name for name in expected.names if name not in clips.column_names]
    if missing:
        raise ResultsError(f"{path}: has no column {', '.join(missing)}")
    if len(set(clips.column_names)) < len(clips.column_names):
        raise ResultsError(f"{path}: has two columns of one name")
    for column in expected:
        found = clips.schema.field(column.name).type
        if found != column.type and not pa.types.is_null(found):
            raise ResultsError(f"{path}: column {column.name[:100]!r} is of {found}, and {column.type} was expected")
    for number, row in enumerate(clips.select(["key", "system", "failed"]).to_pylist()):
        wrong = wrong_row(row)
        if wrong:
            raise ResultsError(f"{path}: row {number}: {wrong}")


def wrong_row(row: Mapping[str, Any]) -> str:
    """What of a stored row's key, system and reasons is none that an evaluation writes; empty: nothing."""
    key, system = row.get("key"), row.get("system")
    if not isinstance(key, str) or not all(part.strip(".") for part in key.split("/")) or "\0" in key or "\\" in key:
        return f"{str(key)[:100]!r} cannot be a clip's key"
    if system not in SYSTEMS:
        return f"system {str(system)[:100]!r}, and one of {', '.join(SYSTEMS)} was expected"
    try:
        reasons = json.loads(row.get("failed") or "{}")
    except (TypeError, ValueError, RecursionError):
        reasons = None
    if not isinstance(reasons, dict) or not all(isinstance(reason, str) for reason in reasons.values()):
        return f"failed {str(row['failed'])[:100]!r}, and reasons by metric were expected, as JSON"
    return ""


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
        try:
            check_about_size(folder / ABOUT_NAME)
            about = json.loads((folder / ABOUT_NAME).read_text("utf-8"))
            wrong = [part for part in _PARTS if not isinstance(about.get(part, {}), dict) or is_deep(about.get(part))]
            if wrong:
                raise ResultsError(f"{folder / ABOUT_NAME}: {wrong[0]} is no mapping of a few levels")
            if about["format"] != FORMAT:
                raise ResultsError(f"{folder / ABOUT_NAME}: format {about['format']}, this version reads {FORMAT}")
        except FileNotFoundError as error:
            raise ResultsError(f"{folder}: no evaluation lies here ({ABOUT_NAME} is missing)") from error
        except ResultsError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
            raise ResultsError(f"{folder / ABOUT_NAME}: not what an evaluation writes: {error}") from error
        try:
            check_table_size(folder / CLIPS_NAME)
            clips = pq.read_table(folder / CLIPS_NAME)
        except FileNotFoundError as error:
            raise ResultsError(f"{folder}: the evaluation has not finished ({CLIPS_NAME} is missing)") from error
        except (ValueError, pa.ArrowException, OSError) as error:
            raise ResultsError(f"{folder / CLIPS_NAME}: not readable: {error}") from error
        _check_clips(folder / CLIPS_NAME, clips)
        return cls(folder, about, clips)

    @cached_property
    def measured(self) -> list[str]:
        """Metrics, columns first and then rates, of which there is a figure or a failure."""
        columns = [name for name in self.clips.column_names if name not in schema_of(()).names]
        failed = {name for text in self.clips["failed"].unique().to_pylist() for name in json.loads(text or "{}")}
        return columns + [
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
            for metric, reason in json.loads(text or "{}").items():
                found.setdefault(metric, {})[key] = reason
        return found
