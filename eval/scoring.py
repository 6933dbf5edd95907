"""A synthesized micro-batch scored, as rows, and on disk: each its waveforms, and then a record of its rows.

A batch is finished when its record exists, which is written last: an evaluation that was killed resumes with the
batches that have none.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.batch_synthesis import SynthesizedBatch, SynthesizedClip, float_wave
from eval.metrics.pool import PairScores, score
from eval.metrics.registry import metric_of
from eval.metrics.text import character_errors, normalizer_of, word_errors
from eval.results import RATES, ResultsError, wav_name, write_json, wrong_row
from eval.settings import EvaluationSettings
from runtime.constants import FPS
from shards import Store
from shards.format.wav import encode_wav

Waves = Mapping[str, np.ndarray[Any, Any]]


def score_waves(waves: Waves, metrics: Sequence[str]) -> dict[str, PairScores]:
    """Metrics of every system's waveform beside the original: system -> figures, and why there is none.

    `waves` are int16 samples at 16 kHz by system, the `original` among them.
    """
    of_pairs = {system: float_wave(wave) for system, wave in waves.items()}
    return {
        system: score(metrics_for(system, metrics), of_pairs["original"], wave) for system, wave in of_pairs.items()
    }


def metrics_for(system: str, metrics: Sequence[str]) -> list[str]:
    """Which metrics a system is scored by: the original only by those that take one waveform alone."""
    return [name for name in metrics if system != "original" or metric_of(name).alone]


def rows_of(
    clip: SynthesizedClip, scored: Mapping[str, PairScores], settings: EvaluationSettings
) -> list[dict[str, Any]]:
    """The rows of `clips.parquet` that a clip gives, in the order of `SYSTEMS`.

    An original without figures and without a hypothesis gives none. `scored` is by system.
    """
    rows = []
    for system in settings.systems:
        of = scored.get(system, PairScores({}, {}))
        row: dict[str, Any] = {
            "key": clip.key,
            "split": settings.split,
            "speaker": clip.speaker,
            "frames": clip.frames,
            "seconds": clip.frames / FPS,
            "text": clip.text,
            "speaker_reference": clip.speaker_reference,
            "system": system,
            "l1": clip.l1.get(system),
            **{name: of.values.get(name) for name in settings.metrics},
            "wav": wav_name(system, clip.key) if system in clip.waves else None,
        }
        failed = of.failed | clip.failed.get(system, {})
        if row["l1"] is not None and not np.isfinite(row["l1"]):
            row["l1"], failed["l1"] = None, "the mel holds values that are not finite"
        if system in clip.hypotheses:
            row["hypothesis"] = clip.hypotheses[system]
            row |= _errors(clip.text, clip.hypotheses[system], settings.normalizer, RATES["wer"] + RATES["cer"])
        if system == "network" and clip.lips_hypothesis is not None:
            row["lips_hypothesis"] = clip.lips_hypothesis
            columns = RATES["lips_wer"] + RATES["lips_cer"]
            row |= _errors(clip.text, clip.lips_hypothesis, settings.normalizer, columns)
        row["failed"] = json.dumps(failed, ensure_ascii=False, sort_keys=True)
        if system != "original" or of.values or failed or clip.hypotheses:
            rows.append(row)
    return rows


def _errors(text: str | None, hypothesis: str, normalizer: str, columns: Sequence[str]) -> dict[str, int]:
    """The four counts of words and of characters; none where the text is not known."""
    if not text:
        return {}
    normalised = normalizer_of(normalizer)
    text, hypothesis = normalised(text), normalised(hypothesis)
    return dict(zip(columns, (*word_errors(text, hypothesis), *character_errors(text, hypothesis)), strict=True))


def record_name(number: int) -> str:
    """Where the record of a micro-batch lies."""
    return f"batches/{number:06d}.json"


def write_batch(store: Store, batch: SynthesizedBatch, rows: Sequence[dict[str, Any]]) -> None:
    """Write the waveforms, the mels if there are any, and the record of the rows that the clips gave; `StorageError`
    where the disk failed or is full."""
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
    """The record of a micro-batch, `rows` and `damaged`; None if it is not finished, or a file of it is gone;
    `ResultsError` where the record is damaged."""
    try:
        record: dict[str, Any] = json.loads(store.read(record_name(number)))
        for row in record["rows"]:
            if wrong := wrong_row(row):
                raise ValueError(wrong)
        if not all(isinstance(clip["key"], str) and isinstance(clip["reason"], str) for clip in record["damaged"]):
            raise ValueError("damaged: keys and reasons were expected")
        if not all(isinstance(name, str) for name in record["files"]):
            raise ValueError("files: names were expected")
        complete = all(store.exists(name) for name in record["files"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ResultsError(
            f"{store.path(record_name(number))}: not the record of a batch ({error}): remove it to have it made again"
        ) from error
    return record if complete else None
