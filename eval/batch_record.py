"""The record of a finished micro-batch: its rows, and the checksums of the record itself and of the files it wrote.

Waveforms are written first and the record last, so a batch without one is not finished. An evaluation that resumes
reads records and files again: what was changed, cut short or removed since is made again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
import numpy as np
import pyarrow as pa

from eval.batch_synthesis import SynthesizedBatch
from eval.result_schema import ResultsError, check_rows, schema_of, wav_name
from eval.results import plain
from runtime.limits import MAX_BATCH_RECORD_BYTES, MAX_REASON_LENGTH, MAX_RESULT_TEXT, MAX_WAV_BYTES
from runtime.regular_file import is_inside, open_regular, read_regular
from runtime.stored_json import Count, Sha256, StoredJsonError, decode_json
from shards import Store
from shards.format.wav import encode_wav

_Text = Annotated[str, msgspec.Meta(max_length=MAX_RESULT_TEXT)]


@dataclass(frozen=True)
class DamagedClip:
    """A clip that could not be read, and why."""

    key: _Text
    reason: _Text


@dataclass(frozen=True)
class BatchRecord:
    """What a micro-batch came to."""

    number: Count
    rows: list[dict[str, Any]]  # of the columns of `schema_of` l1 and the metrics; null columns may be missing
    damaged: list[DamagedClip]
    files: dict[_Text, Sha256]  # name in the folder of the evaluation -> its checksum


@dataclass(frozen=True)
class _Sealed:
    sha256: Sha256  # of the bytes of `record`
    record: msgspec.Raw


class UnfinishedBatchError(ValueError):
    """There is no whole record of a micro-batch; `changed` where there was one: says what became of it."""

    def __init__(self, message: str, changed: bool = True) -> None:
        super().__init__(message)
        self.changed = changed


def record_name(number: int) -> str:
    """Where the record of a micro-batch lies."""
    return f"batches/{number:06d}.json"


def write_batch(store: Store, batch: SynthesizedBatch, rows: Sequence[dict[str, Any]]) -> None:
    """Write the waveforms, the mels if there are any, and the record of the rows that the clips gave.

    Raises:
        ResultsError: a folder on the way is a link that leads out of the evaluation's.
        StorageError: the disk failed or is full.
    """
    files = {}
    for clip in batch.clips:
        contents = {wav_name(system, clip.key): encode_wav(wave) for system, wave in clip.waves.items()}
        for system, mel in clip.mels.items():
            array = io.BytesIO()
            np.save(array, mel)
            contents[f"mel/{system}/{clip.key}.npy"] = array.getvalue()
        for name, content in contents.items():
            _write_inside(store, name, content)
            files[name] = hashlib.sha256(content).hexdigest()
    damaged = [DamagedClip(skipped.key, skipped.reason[:MAX_REASON_LENGTH]) for skipped in batch.damaged]
    record = asdict(BatchRecord(batch.number, list(rows), damaged, files))
    text = json.dumps(plain(record), indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    sealed = b'{"sha256": "%s",\n"record": %s}\n' % (hashlib.sha256(text).hexdigest().encode(), text)
    _write_inside(store, record_name(batch.number), sealed)


def read_batch(store: Store, number: int, metrics: Sequence[str], keys: Sequence[str]) -> BatchRecord:
    """The record of a micro-batch.

    Args:
        store: the folder of the evaluation.
        number: of the micro-batch.
        metrics: that the evaluation has figures of, besides l1.
        keys: of the clips of the micro-batch.

    Raises:
        UnfinishedBatchError: there is none, or it or a file that it names is not as it was written.
    """
    path = store.path(record_name(number))
    try:
        content = read_regular(path, MAX_BATCH_RECORD_BYTES)
    except FileNotFoundError as error:
        raise UnfinishedBatchError(f"{path}: is missing", changed=False) from error
    except (ValueError, OSError) as error:
        raise UnfinishedBatchError(str(error)) from error
    try:
        sealed = decode_json(content, _Sealed, path, max_bytes=MAX_BATCH_RECORD_BYTES)
        text = bytes(sealed.record)
        if hashlib.sha256(text).hexdigest() != sealed.sha256:
            raise UnfinishedBatchError(f"{path}: has changed since it was written")
        record = decode_json(text, BatchRecord, path, max_bytes=MAX_BATCH_RECORD_BYTES)
        check_rows(_as_table(record.rows, schema_of(["l1", *metrics])), path)
        found = sorted({row["key"] for row in record.rows} | {clip.key for clip in record.damaged})
        if record.number != number or found != sorted(keys):
            raise UnfinishedBatchError(f"{path}: is the record of another batch")
        scored = {row["key"] for row in record.rows if row["system"] == "network"}
        if scored != set(keys) - {clip.key for clip in record.damaged}:
            raise UnfinishedBatchError(f"{path}: a row of the network was expected for each clip")
    except (UnfinishedBatchError, ResultsError, StoredJsonError) as error:  # they name the file
        raise UnfinishedBatchError(str(error)) from error
    # a row that is no row of these columns is a TypeError, a number too large an OverflowError, inside of pyarrow
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise UnfinishedBatchError(f"{path}: rows of the columns of this evaluation were expected: {error}") from error
    for name, checksum in record.files.items():
        if _checksum(store, name) != checksum:
            raise UnfinishedBatchError(f"{store.path(name)}: has changed since it was written, or is missing")
    return record


def _as_table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    unknown = sorted({name for row in rows for name in row} - set(schema.names))
    if unknown:
        raise ValueError(f"a row has a column {unknown[0][:100]!r}, and none of that name was expected")
    return pa.Table.from_pylist(rows, schema=schema)


def _write_inside(store: Store, name: str, content: bytes) -> None:
    folder = Path(store.path(name)).parent
    if not is_inside(folder, store.path()):
        raise ResultsError(f"{folder}: is a link that leads out of {store.path()}: remove it")
    store.write(name, content)


def _checksum(store: Store, name: str) -> str | None:
    """Of a file of the evaluation; None where it is missing, no regular one, or lies elsewhere."""
    path = store.path(name)
    try:
        if not is_inside(path, store.path()):
            return None
        with open_regular(path, MAX_WAV_BYTES) as file:
            return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    except (ValueError, OSError):
        return None
