"""Evaluate a checkpoint on shards: plan, synthesize and score, gather, report.

Micro-batches are planned over all clips, whatever is finished already, so that a clip is always batched with the same
others: an evaluation that was killed and resumes has the figures of one that was not.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from torch import Tensor

from eval.asr import WHISPER, check_asr
from eval.batch_synthesis import BatchSynthesizer
from eval.executors import start_executor
from eval.fingerprint import about_of, claim
from eval.metrics.registry import load_packages
from eval.metrics.text import normalizer_of
from eval.reference_audio import reference_of
from eval.report.report import write_report
from eval.results import SUMMARY_NAME, Evaluation, table_of, write_clips, write_json
from eval.scoring import read_batch, rows_of, write_batch
from eval.settings import EvaluationSettings
from eval.summary import summarize
from eval.systems import device_of, mean_mel_of, partners_of, tokenizer_of, transforms_of
from model.checkpoint import Checkpoint, load_checkpoint
from model.segment_sampling import Segment
from model.synthesis import Synthesizer
from runtime.atomic import PART_SUFFIX
from runtime.constants import FPS
from runtime.progress import JobProgress
from runtime.ray_jobs import job_runner
from shards import Dataset, DatasetError, Store, open_dataset
from shards.format.manifest import read_skipped
from shards.format.store import absolute_url
from shards.loading.batch_plan import BatchSettings, MicroBatch, plan_evaluation
from shards.loading.index_view import IndexedClip

_KEY = re.compile(r"[^./\s\0]+(/[^./\s\0]+)*")
_LONGEST_NAME = 200
"""Bytes between slashes: file systems have room for 255, of which a name while it is written takes some."""


def evaluate(settings: EvaluationSettings, command: str = "") -> Path:
    """Evaluate a checkpoint and return the report's page, which shows `command`; resumes where an evaluation of the
    same was stopped.

    `ValueError` where settings, checkpoint or dataset cannot be used, or `out` holds something else; `OSError` where a
    file cannot be read or written; `RuntimeError` where a process that synthesizes died time and again.
    """
    load_packages(settings.metrics)
    normalizer_of(settings.normalizer)
    dataset = open_dataset(settings.shards)
    checkpoint = dataclasses.replace(load_checkpoint(settings.checkpoint), training=None)  # it travels to every actor
    _check(checkpoint, dataset, settings)
    planned = plan(dataset, settings)
    reference, partners = _file_reference(settings, checkpoint), {}
    if "shuffled_lips" in settings.systems:
        partners = partners_of(dataset.index, [clip.row for micro_batch in planned for clip in micro_batch.clips])
    mean_of = dataset.training_splits() if "mean_mel" in settings.systems else ()
    skipped = [entry for entry in read_skipped(dataset.store) if entry["split"] == settings.split]
    store = Store(str(Path(settings.out).absolute()))
    claim(store, about_of(settings, dataset, checkpoint, planned, command))
    mean_mel = None
    if mean_of:
        workers = min(4, os.cpu_count() or 1) if settings.workers is None else settings.workers
        mean_mel = mean_mel_of(dataset, mean_of, settings.max_padded_frames, workers)
    for unfinished in Path(store.path()).rglob(f".*{PART_SUFFIX}"):
        unfinished.unlink()
    make = partial(BatchSynthesizer, checkpoint, _anywhere(settings), reference, partners, mean_mel)
    _run(store, make, planned, settings)
    damaged = _gather(store, planned, settings.metrics)
    evaluation = Evaluation.open(store.path())
    summary = {**summarize(evaluation), "damaged": damaged, "skipped": skipped}
    write_json(store, SUMMARY_NAME, summary)
    return write_report(evaluation, dataset, summary, settings.examples)


def plan(dataset: Dataset, settings: EvaluationSettings) -> list[MicroBatch]:
    """The micro-batches of an evaluation: a function of index and settings. `ValueError` where there is no such split,
    or nothing in it; `DatasetError` for a key that could name a file outside of a folder."""
    wrong = [key for key in dataset.index["key"].to_pylist() if not _names_a_file(key)]
    if wrong:
        raise DatasetError(
            f"{dataset.store.url}: {wrong[0][:300]!r} cannot name a file: expected names between slashes"
        )
    most = None if settings.max_seconds is None else round(FPS * settings.max_seconds)

    def cut(clip: IndexedClip, random: Random) -> Segment:
        stop = min(clip.frames, most or clip.frames)
        if stop == clip.frames:
            return Segment(0, stop, clip.text)
        text = " ".join(word for word, _, end in clip.words if FPS * end <= stop)
        return Segment(0, stop, text or None)  # without word times it is not known what is said until there

    batching = BatchSettings(max_padded_frames=settings.max_padded_frames, long_alone=True)
    return plan_evaluation(dataset.index, [settings.split], cut, batching, settings.clips)


def _names_a_file(key: str) -> bool:
    parts = key.encode("utf-8", "replace").split(b"/")
    return _KEY.fullmatch(key) is not None and max(map(len, parts)) <= _LONGEST_NAME


def _check(checkpoint: Checkpoint, dataset: Dataset, settings: EvaluationSettings) -> None:
    """Raise now what the actors would raise."""
    Synthesizer.from_checkpoint(checkpoint, name=settings.checkpoint)
    transforms_of(checkpoint, dataset)
    if settings.asr is not None:
        check_asr(settings.asr, tokenizer_of(checkpoint, dataset), settings.beam)
    if settings.address is None:
        device_of(settings.device)


def _file_reference(settings: EvaluationSettings, checkpoint: Checkpoint) -> Tensor | None:
    if settings.speaker_reference in ("self", "other"):
        return None
    file = Path(settings.speaker_reference)
    if not file.is_file():
        raise ValueError(f"speaker_reference: {file}: no such file; expected other, self or a file with sound")
    reference = reference_of(file, checkpoint.mel)
    if reference is None:
        raise ValueError(f"speaker_reference: {file}: there is no sound in it")
    return reference


def _anywhere(settings: EvaluationSettings) -> EvaluationSettings:
    """The settings with paths that hold in any working folder, as actors have another."""
    asr = settings.asr
    if asr is not None:
        kind = WHISPER if asr.startswith(WHISPER) else ""
        if Path(asr.removeprefix(kind)).exists():
            asr = kind + str(Path(asr.removeprefix(kind)).absolute())
    return dataclasses.replace(settings, shards=absolute_url(settings.shards), asr=asr)


def _run(
    store: Store, make: partial[BatchSynthesizer], planned: Sequence[MicroBatch], settings: EvaluationSettings
) -> None:
    progress = JobProgress("evaluation", total=sum(len(micro_batch.clips) for micro_batch in planned))
    todo = {}
    for micro_batch in planned:
        record = read_batch(store, micro_batch.number)
        if record is None or record["damaged"]:  # what was damaged may be whole now
            todo[micro_batch.number] = micro_batch
        else:
            progress.add(len(micro_batch.clips), _seconds(micro_batch), 0, reused=True)
    with progress:
        if not todo:
            return
        with (
            job_runner(settings.address, settings.workers) as runner,
            start_executor(runner, make, settings.device, len(todo)) as executor,
        ):
            for batch, scores in executor.run(list(todo.values()), settings.metrics, progress.update):
                rows = [row for clip in batch.clips for row in rows_of(clip, scores[clip.key], settings)]
                write_batch(store, batch, rows)
                progress.add(len(batch.clips), _seconds(todo[batch.number]), len(batch.damaged), reused=False)
                progress.update()


def _seconds(micro_batch: MicroBatch) -> float:
    return sum(clip.stop - clip.start for clip in micro_batch.clips) / FPS


def _gather(store: Store, planned: Sequence[MicroBatch], metrics: Sequence[str]) -> list[dict[str, str]]:
    """Write the rows of all batches as one table; the clips that could not be read."""
    rows: list[dict[str, Any]] = []
    damaged: list[dict[str, str]] = []
    for micro_batch in planned:
        record = read_batch(store, micro_batch.number)
        assert record is not None, "every batch is finished"
        rows += record["rows"]
        damaged += record["damaged"]
    if not rows:
        raise ValueError(f"not one clip could be evaluated: {damaged[0]['key']}: {damaged[0]['reason']}")
    write_clips(store, table_of(rows, ["l1", *metrics]))
    return sorted(damaged, key=lambda clip: clip["key"])
