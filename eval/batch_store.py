"""Finished micro-batches of an evaluation on disk: each its waveforms, and then a record of its rows.

A batch is finished when its record exists, which is written last: an evaluation that was killed resumes with the
batches that have none.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.batch_synthesis import SynthesizedBatch
from eval.results import ResultsError, write_json
from eval.scoring import wav_name
from shards import Store
from shards.format.wav import encode_wav


def record_name(number: int) -> str:
    """Where the record of a micro-batch lies."""
    return f"batches/{number:06d}.json"


def write_batch(store: Store, batch: SynthesizedBatch, rows: Sequence[dict[str, Any]]) -> None:
    """Write the waveforms, the mels if there are any, and the record.

    Args:
        store: the folder of the evaluation.
        batch: as synthesized.
        rows: that its clips gave.

    Raises:
        StorageError: the disk failed or is full.
    """
    files = []
    for clip in batch.clips:
        for system, wave in clip.waves.items():
            files.append(wav_name(system, clip.key))
            store.write(files[-1], encode_wav(wave))
        for system, mel in clip.mels.items():
            content = io.BytesIO()
            np.save(content, mel)
            files.append(f"mel/{system}/{clip.key}.npy")
            store.write(files[-1], content.getvalue())
    damaged = [skipped._asdict() for skipped in batch.damaged]
    write_json(store, record_name(batch.number), {"rows": list(rows), "damaged": damaged, "files": files})


def read_batch(store: Store, number: int) -> dict[str, Any] | None:
    """The record of a micro-batch, `rows` and `damaged`; None if it is not finished, or a file of it is gone.

    Raises:
        ResultsError: the record is damaged.
    """
    try:
        record: dict[str, Any] = json.loads(store.read(record_name(number)))
        complete = all(store.exists(name) for name in record["files"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{store.path(record_name(number))}: not the record of a batch ({error}): remove it to have it made again"
        ) from error
    return record if complete else None
