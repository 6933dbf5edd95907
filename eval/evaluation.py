"""Evaluate a checkpoint on shards: plan, synthesize and score, gather, report.

Micro-batches are planned over all clips, whatever is finished already, so that a clip is always batched with the same
others: an evaluation that was killed and resumes has the figures of one that was not.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

from torch import Tensor

from eval.asr import WHISPER, check_asr
from eval.batch_record import BatchRecord, UnfinishedBatchError, read_batch, write_batch
from eval.batch_synthesis import BatchSynthesizer
from eval.executors import start_executor
from eval.fingerprint import about_of, claim
from eval.metrics.registry import check_packages
from eval.metrics.scoring_process import ScoringProcess
from eval.metrics.text import normalizer_of
from eval.reference_audio import reference_of
from eval.report.report import write_report
from eval.result_schema import ResultsError, names_a_file
from eval.results import SUMMARY_NAME, Evaluation, table_of, write_clips, write_json
from eval.scoring import rows_of
from eval.settings import EvaluationSettings
from eval.summary import summarize
from eval.systems import device_of, mean_mel_of, partners_of, tokenizer_of, transforms_of, vocoder_of
from model.checkpoint import Checkpoint, load_checkpoint
from model.segment_sampling import Segment
from model.synthesis import Synthesizer
from runtime.atomic import PART_SUFFIX
from runtime.constants import FPS
from runtime.progress import JobProgress
from runtime.ray_jobs import job_runner
from runtime.regular_file import check_regular
from runtime.terminal import say
from shards import Dataset, DatasetError, Store, open_dataset
from shards.format.manifest import read_skipped
from shards.format.store import absolute_url
from shards.loading.batch_plan import BatchSettings, plan_evaluation
from shards.loading.index_view import IndexedClip
from shards.loading.planned_batches import MicroBatch, PlannedBatches

_SECONDS_WITHOUT_RAY = 300.0
"""Of clips that are evaluated without Ray: it takes longer to start than they do."""
_ROUNDS = 3
"""Of making what is missing: files may be changed or removed while others are made."""


def evaluate(settings: EvaluationSettings, command: str = "") -> Path:
    """Evaluate a checkpoint and return the report's page, which shows `command`; resumes where an evaluation of the
    same was stopped.

    `ValueError` where settings, checkpoint or dataset cannot be used, or `out` holds something else; `OSError` where a
    file cannot be read or written; `RuntimeError` where a process that synthesizes died time and again.
    """
    check_packages(settings.metrics)
    normalizer_of(settings.normalizer)
    dataset = open_dataset(settings.shards)
    planned = list(plan(dataset, settings))  # once: each micro-batch is drawn, and its texts are read, when looked at
    with ExitStack() as stack:
        scorers = [stack.enter_context(scorer) for scorer in _scorers(planned, settings)]
        return _evaluate(settings, command, dataset, planned, scorers)


def _evaluate(
    settings: EvaluationSettings,
    command: str,
    dataset: Dataset,
    planned: Sequence[MicroBatch],
    scorers: Sequence[ScoringProcess],
) -> Path:
    checkpoint = load_checkpoint(settings.checkpoint)
    settings = settings.with_vocoder("vocoder" in checkpoint.parts)
    own = {task: part for task, part in checkpoint.parts.items() if task == "vocoder"}
    checkpoint = dataclasses.replace(checkpoint, training=None, parts=own)  # it travels to every actor
    _check(checkpoint, dataset, settings)
    reference, partners = _file_reference(settings, checkpoint), {}
    if "shuffled_lips" in settings.systems:
        partners = partners_of(dataset.clip_index, [clip.row for micro_batch in planned for clip in micro_batch.clips])
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
    records = _run(store, make, _keyed(dataset, planned), settings, scorers)
    damaged = _gather(store, records, settings.metrics)
    evaluation = Evaluation.open(store.path())
    summary = {**summarize(evaluation), "damaged": damaged, "skipped": skipped}
    write_json(store, SUMMARY_NAME, summary)
    return write_report(evaluation, dataset, summary, settings.examples)


def _scorers(planned: Sequence[MicroBatch], settings: EvaluationSettings) -> list[ScoringProcess]:
    """Processes that score on this machine, without Ray; none where Ray is to do it."""
    seconds = sum(clip.stop - clip.start for micro_batch in planned for clip in micro_batch.clips) / FPS
    few = settings.workers is None and settings.address is None and seconds <= _SECONDS_WITHOUT_RAY
    count = min(os.cpu_count() or 1, sum(len(one.clips) for one in planned)) if few else int(settings.workers == 0)
    # one thread, as with Ray: with more, figures may differ in their last digits
    return [ScoringProcess(settings.metrics, settings.metric_timeout, threads=1) for _ in range(count)]


def plan(dataset: Dataset, settings: EvaluationSettings) -> PlannedBatches:
    """The micro-batches of an evaluation: a function of index and settings. `ValueError` where there is no such split,
    or nothing in it; `DatasetError` for a key that could name a file outside of a folder."""
    wrong = [key for key in dataset.clip_index.keys.to_pylist() if not names_a_file(key)]
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
    return plan_evaluation(dataset.clip_index, [settings.split], cut, batching, settings.clips)


def _check(checkpoint: Checkpoint, dataset: Dataset, settings: EvaluationSettings) -> None:
    """Raise now what the actors would raise."""
    vocoder = vocoder_of(settings.vocoder, checkpoint.mel)
    Synthesizer.from_checkpoint(checkpoint, vocoder=vocoder, name=settings.checkpoint)
    transforms_of(checkpoint, dataset)
    if settings.asr is not None:
        check_asr(settings.asr, tokenizer_of(checkpoint, dataset), settings.beam)
    if settings.address is None:
        device_of(settings.device)


def _file_reference(settings: EvaluationSettings, checkpoint: Checkpoint) -> Tensor | None:
    if settings.speaker_reference in ("self", "other"):
        return None
    file = Path(settings.speaker_reference)
    if not file.exists():
        raise ValueError(f"speaker_reference: {file}: no such file; expected other, self or a file with sound")
    check_regular(file)
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
    vocoder = str(Path(settings.vocoder_file).absolute()) if settings.vocoder_file else settings.vocoder
    return dataclasses.replace(settings, shards=absolute_url(settings.shards), asr=asr, vocoder=vocoder)


@dataclass(frozen=True)
class _Planned:
    """A micro-batch, and the keys of its clips."""

    micro_batch: MicroBatch
    keys: list[str]

    @property
    def seconds(self) -> float:
        return sum(clip.stop - clip.start for clip in self.micro_batch.clips) / FPS


def _keyed(dataset: Dataset, planned: Sequence[MicroBatch]) -> dict[int, _Planned]:
    index = dataset.clip_index
    return {one.number: _Planned(one, index.keys_of([clip.row for clip in one.clips])) for one in planned}


def _run(
    store: Store,
    make: partial[BatchSynthesizer],
    planned: Mapping[int, _Planned],
    settings: EvaluationSettings,
    scorers: Sequence[ScoringProcess],
) -> list[BatchRecord]:
    """Have the micro-batches made that are not finished; the records of all, by number."""
    records, changed = _read_records(store, planned, settings.metrics)
    whole = {number: record for number, record in records.items() if not record.damaged}  # damaged may be whole now
    for _ in range(_ROUNDS):
        if changed:
            say(f"{len(changed)} of {len(planned)} batches are made again: {changed[0]}", sys.stderr)
        todo = [one for number, one in planned.items() if number not in whole]
        progress = JobProgress("evaluation", total=sum(len(one.keys) for one in planned.values()))
        for number in whole:
            progress.add(len(planned[number].keys), planned[number].seconds, 0, reused=True)
        with progress:
            if todo:
                _make(store, make, {one.micro_batch.number: one for one in todo}, settings, scorers, progress)
                whole, changed = _read_records(store, planned, settings.metrics)
        if len(whole) == len(planned):
            return [whole[number] for number in sorted(whole)]
    reason = changed[0] if changed else f"{store.path('batches')}: a record is missing"
    raise ResultsError(f"{reason}; it was made {_ROUNDS} times, and something else changes it meanwhile")


def _read_records(
    store: Store, planned: Mapping[int, _Planned], metrics: Sequence[str]
) -> tuple[dict[int, BatchRecord], list[str]]:
    """The records of finished micro-batches, and what became of those that were finished and have changed."""
    records, changed = {}, []
    for number, one in planned.items():
        try:
            records[number] = read_batch(store, number, metrics, one.keys)
        except UnfinishedBatchError as error:
            changed += [str(error)] if error.changed else []
    return records, changed


def _make(
    store: Store,
    make: partial[BatchSynthesizer],
    todo: Mapping[int, _Planned],
    settings: EvaluationSettings,
    scorers: Sequence[ScoringProcess],
    progress: JobProgress,
) -> None:
    with (
        job_runner(settings.address, 0 if scorers else settings.workers, settings.task_timeout) as runner,
        start_executor(runner, make, settings.device, len(todo), settings.metric_timeout, scorers) as executor,
    ):
        micro_batches = [one.micro_batch for one in todo.values()]
        for batch, scores in executor.run(micro_batches, settings.metrics, progress.update):
            rows = [row for clip in batch.clips for row in rows_of(clip, scores[clip.key], settings)]
            write_batch(store, batch, rows)
            progress.add(len(batch.clips), todo[batch.number].seconds, len(batch.damaged), reused=False)
            progress.update()


def _gather(store: Store, records: Sequence[BatchRecord], metrics: Sequence[str]) -> list[dict[str, str]]:
    """Write the rows of all batches as one table; the clips that could not be read."""
    rows = [row for record in records for row in record.rows]
    damaged = sorted((asdict(clip) for record in records for clip in record.damaged), key=lambda clip: clip["key"])
    if not rows:
        raise ValueError(f"not one clip could be evaluated: {damaged[0]['key']}: {damaged[0]['reason']}")
    write_clips(store, table_of(rows, ["l1", *metrics]))
    return damaged
