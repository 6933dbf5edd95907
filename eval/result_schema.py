"""Schemas of an evaluation's stored results: `evaluation.json`, `clips.parquet` and the JSON in its rows, checked when
they are read.

Report folders are passed on, so whatever lies in one is read against these and refused by file and field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from runtime.limits import MAX_EVALUATED_FRAMES, MAX_FIGURE, MAX_NAME_LENGTH, MAX_REASONS_LENGTH, MAX_RESULT_TEXT
from runtime.stored_json import Count, StoredJsonError, check_depth, convert, decode_json

FORMAT = 2

SYSTEMS = ("network", "shuffled_lips", "untrained", "mean_mel", "ceiling", "ceiling_griffin_lim", "original")
"""What can be scored side by side, in the order of rows and reports (eval/systems.py says what each is)."""

RATES = {
    "wer": ("word_errors", "words"),
    "cer": ("character_errors", "characters"),
    "lips_wer": ("lips_word_errors", "lips_words"),
    "lips_cer": ("lips_character_errors", "lips_characters"),
}
"""Error rates by name: columns of errors and of what they are counted over. The rate of many clips is that of their
sums."""

_KEY = re.compile(r"[^./\s\\\x00-\x1f\x7f]+(/[^./\s\\\x00-\x1f\x7f]+)*")
_LONGEST_PART, _LONGEST_KEY = 200, 2000
"""Bytes of a key between slashes, and in all: file systems have room for 255 and 4096, of which a name while it is
written takes some."""


class ResultsError(ValueError):
    """A folder that holds no evaluation, or a damaged one; names the file."""


@dataclass(frozen=True)
class _Format:
    format: int


@dataclass(frozen=True)
class _Checkpoint:
    path: str = ""
    sha256: str = ""
    step: Count | None = None
    padding: str | None = None
    parameters: Count = 0
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Dataset:
    url: str = ""
    recipe: Any = None
    plan: str = ""
    manifest_sha256: str = ""
    split: str = ""
    clips: Count = 0


@dataclass(frozen=True)
class _Settings:
    """Those that reports look at; the others are shown as they are."""

    speaker_reference: str = ""
    vocoder: str = ""
    normalizer: str = ""
    protocol: str | None = None
    clips: Count | None = None


@dataclass(frozen=True)
class _About:
    """`evaluation.json`: what was evaluated, and how. `identity` is what figures depend on."""

    format: int
    identity: dict[str, Any] = field(default_factory=dict)
    checkpoint: _Checkpoint = field(default_factory=_Checkpoint)
    dataset: _Dataset = field(default_factory=_Dataset)
    settings: _Settings = field(default_factory=_Settings)
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    started: str = ""


_Reasons = dict[Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)], str]


def about_from(content: bytes, where: str) -> dict[str, Any]:
    """The values of an `evaluation.json`.

    Raises:
        ResultsError: it is not what an evaluation writes, or of another format; begins with `where`.
    """
    try:
        values = decode_json(content, dict[str, Any], where)
        check_depth(values, where)
        found = convert(values, _Format, where).format
        if found != FORMAT:
            raise ResultsError(f"{where}: format {found}, this version reads {FORMAT}")
        convert(values, _About, where)
    except StoredJsonError as error:
        raise ResultsError(str(error)) from error
    return values


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


def metrics_in(columns: Sequence[str]) -> list[str]:
    """The columns that are metrics."""
    others = set(schema_of(()).names)
    return [name for name in columns if name not in others]


def wav_name(system: str, key: str) -> str:
    """Where a waveform lies in the folder of an evaluation."""
    return f"wav/{system}/{key}.wav"


def names_a_file(key: str) -> bool:
    """Whether a clip's key can name a file inside of a folder, on any file system."""
    content = key.encode("utf-8", "replace")
    short = len(content) <= _LONGEST_KEY and max(map(len, content.split(b"/"))) <= _LONGEST_PART
    return short and _KEY.fullmatch(key) is not None


def reasons_of(text: str | None) -> dict[str, str]:
    """Metric -> why a clip has no figure of it, of a row's `failed` that was checked."""
    found: dict[str, str] = msgspec.json.decode(text) if text else {}
    return found


def check_columns(schema: pa.Schema, where: str) -> None:
    """Refuse columns that are not those of `schema_of` some metrics (`ResultsError`)."""
    expected = schema_of(metrics_in(schema.names))
    missing = [name for name in expected.names if name not in schema.names]
    if missing:
        raise ResultsError(f"{where}: has no column {', '.join(missing)}")
    if len(set(schema.names)) < len(schema.names):
        raise ResultsError(f"{where}: has two columns of one name")
    for column in expected:
        found = schema.field(column.name).type
        found = found.value_type if pa.types.is_dictionary(found) else found
        if found != column.type:
            raise ResultsError(
                f"{where}: column {column.name[:MAX_NAME_LENGTH]!r} is of {str(found)[:200]}, and {column.type} was "
                "expected"
            )
        if len(column.name) > MAX_NAME_LENGTH:
            raise ResultsError(f"{where}: a column's name has {len(column.name):,} characters")


def check_rows(rows: pa.Table, where: str) -> None:
    """Refuse rows with values that an evaluation never writes.

    Args:
        rows: of the columns that `check_columns` accepts.
        where: the file, which errors begin with.

    Raises:
        ResultsError: naming row and column.
    """
    metrics = metrics_in(rows.column_names)
    for column in ("key", "split", "speaker", "frames", "seconds", "system"):
        _refuse(rows, pc.is_null(rows[column]), column, "a value was expected", where)
    for column in rows.schema:
        values = rows[column.name]
        if pa.types.is_string(column.type):
            allowed = MAX_REASONS_LENGTH if column.name == "failed" else MAX_RESULT_TEXT
            what = f"at most {allowed:,} bytes are allowed"
            _refuse(rows, pc.greater(pc.binary_length(values), allowed), column.name, what, where)
        elif pa.types.is_integer(column.type):
            wrong = pc.less(values, 1) if column.name == "frames" else pc.less(values, 0)
            _refuse(rows, wrong, column.name, "a count was expected", where)
    for name in (*metrics, "seconds"):
        wrong = pc.invert(pc.less_equal(pc.abs(rows[name]), MAX_FIGURE))  # NaN is not less than anything
        _refuse(rows, wrong, name, f"a number of at most {MAX_FIGURE:g} was expected", where)
    _refuse(rows, pc.less(rows["seconds"], 0.0), "seconds", "a length was expected", where)
    long = pc.greater(rows["frames"], MAX_EVALUATED_FRAMES)
    _refuse(rows, long, "frames", f"at most {MAX_EVALUATED_FRAMES:,} are allowed", where)
    known = pc.is_in(rows["system"], pa.array(SYSTEMS))
    _refuse(rows, pc.invert(known), "system", f"one of {', '.join(SYSTEMS)} was expected", where)
    wrong_key = next((key for key in pc.unique(rows["key"]).to_pylist() if not names_a_file(key)), None)
    if wrong_key is not None:
        at = pc.index(rows["key"], wrong_key).as_py()
        raise ResultsError(f"{where}: row {at}: {wrong_key[:100]!r} cannot be a clip's key")
    expected = pc.binary_join_element_wise(pa.scalar("wav/"), rows["system"], pa.scalar("/"), rows["key"], "")
    expected = pc.binary_join_element_wise(expected, pa.scalar(".wav"), "")
    _refuse(rows, pc.not_equal(rows["wav"], expected), "wav", "wav/SYSTEM/KEY.wav was expected", where)
    named = rows.select(["key", "system"]).group_by(["key", "system"]).aggregate([([], "count_all")])
    twice = named.filter(pc.greater(named["count_all"], 1))
    if len(twice):
        first = twice.slice(0, 1).to_pylist()[0]
        raise ResultsError(f"{where}: {first['count_all']} rows of {first['key']!r} by {first['system']}: one expected")
    unreadable = pa.array(
        [text for text in pc.unique(rows["failed"]).to_pylist() if not _is_reasons(text)], pa.string()
    )
    what = "reasons by metric were expected, as JSON"
    _refuse(rows, pc.is_in(rows["failed"], unreadable), "failed", what, where)


def _is_reasons(text: str | None) -> bool:
    try:
        decode_json(text or "{}", _Reasons, "failed")
    except StoredJsonError:
        return False
    return True


def _refuse(rows: pa.Table, wrong: Any, column: str, expected: str, where: str) -> None:
    """`ResultsError` where a row is wrong; null is not."""
    at = pc.index(wrong, True).as_py()
    if at >= 0:
        found = rows[column][at].as_py()
        shown = repr(found)[:100] + ("..." if len(repr(found)) > 100 else "")
        raise ResultsError(f"{where}: row {at}: {column} {shown}, and {expected}")
