"""The training loop: micro-batches in, checkpoints out, the same run on one process or on many.

A global step is G planned micro-batches, dealt to ranks and accumulation steps; its gradient is the mean of theirs.
What is drawn for a micro-batch is drawn from (seed, epoch, its number), so a run's whole place is (epoch, step in it):
one that stopped goes on as if it had not, at another number of ranks too. Batch-norm statistics are the exception:
without `sync_batch_norm` they depend on which rank saw what.
"""

from __future__ import annotations

import math
from contextlib import closing, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from model.losses import content_switches_on
from runtime.signals import sigterm_noted
from shards.loading.batch_plan import MicroBatch, plan_epoch
from shards.loading.distribute import distribute_from, steps_in_epoch
from train.curriculum import segment_of
from train.logger import Logger
from train.state import Run, TrainingError
from train.step import Alone, take_step
from train.throughput import Throughput
from train.validation import plan_validation, validate

EXIT_STOPPED = 75
"""Exit status of a run that was told to stop (SIGTERM) and saved itself: start it again to go on."""


def train(run: Run, book: Logger) -> bool:
    """Train to the end, or until told to stop.

    Returns:
        Whether the end was reached; otherwise the run was told to stop, and saved itself.

    Raises:
        TrainingError: too many steps in a row without a finite loss and gradient, or nothing to train on.
        DatasetError, StorageError: the data cannot be read.
        OSError: a checkpoint cannot be written.
    """
    settings, ranks, place = run.settings, run.ranks, run.place
    wrapped: nn.Module = run.network
    alone: Alone = nullcontext
    if ranks.world > 1:
        parallel = DistributedDataParallel(run.network)  # device_ids would send lengths to the GPU, to be waited for
        wrapped, alone = parallel, parallel.no_sync
    if settings.compile:
        wrapped = torch.compile(wrapped)  # type: ignore[assignment]
    meter = Throughput(ranks)
    validation = plan_validation(run)  # now: what is wrong with it should not show after hours
    with sigterm_noted() as stop_asked:
        if _validation_is_due(run):  # a stop came between
            validate(run, validation, book)
            save(run)
        while place.step < settings.schedule.steps:
            planned = _epoch(run)
            steps = steps_in_epoch(len(planned), settings.micro_batches_per_step)
            slots = distribute_from(
                planned, settings.micro_batches_per_step, place.step_in_epoch, ranks.rank, ranks.world
            )
            with closing(run.batches(slots)) as batches:
                while place.step_in_epoch < steps and place.step < settings.schedule.steps:
                    share = meter.waited(batches, settings.micro_batches_per_step // ranks.world)
                    first = place.step_in_epoch * settings.micro_batches_per_step
                    count = len(planned[first : first + settings.micro_batches_per_step])
                    stop = take_step(run, wrapped, alone, count, share, meter, book, stop_asked.is_set())
                    book.moved(place.step)
                    if place.step % settings.checkpoint.log_every == 0:
                        meter.write(run, book)
                    ended = place.step_in_epoch == steps
                    if ended:
                        _end_epoch(run, book)
                    with meter.paused():
                        saves = (
                            stop or place.step % settings.checkpoint.every == 0 or place.step == settings.schedule.steps
                        )
                        if saves:
                            save(run)
                        if stop:
                            return False
                        if _validation_is_due(run):
                            validate(run, validation, book)
                            if saves:  # once more: what was best so far may have changed
                                save(run)
                    if ended:
                        break
    return True


def _validation_is_due(run: Run) -> bool:
    settings, place = run.settings, run.place
    if settings.validation.split is None or place.step <= place.validated:
        return False
    return place.step % settings.validation.every == 0 or place.step == settings.schedule.steps


def _epoch(run: Run) -> list[MicroBatch]:
    settings = run.settings
    draw = segment_of(settings, run.place.epoch)
    lent = run.task.wants_voice and settings.segments.speaker_reference == "other"
    voice_frames = settings.segments.reference_frames if lent else 0
    planned = plan_epoch(
        run.dataset.index, settings.splits, settings.seed, run.place.epoch, draw, settings.batch, voice_frames
    )
    if len(planned) < run.ranks.world:
        raise TrainingError(
            f"{len(planned)} micro-batches in epoch {run.place.epoch} for {run.ranks.world} ranks: lower "
            "batch.max_padded_frames, use fewer ranks, or let the curriculum take longer clips"
        )
    return planned


def _end_epoch(run: Run, book: Logger) -> None:
    place = run.place
    means = {name: total / place.counts[name] for name, total in place.sums.items() if place.counts[name]}
    means["text_left_out"] = place.sums.get("text_left_out", 0.0)  # clips, not a mean
    book.scalars(
        "epoch",
        place.step,
        epoch=place.epoch,
        **means,
        max_nonfinite_steps=place.max_nonfinite_steps,
        skipped=place.skipped,
    )
    l1 = means.get("l1", math.inf)
    waiting = run.recogniser is not None and not place.content_on
    if waiting and content_switches_on(place.epoch, l1, run.settings.losses):
        place.content_on = True
        book.say(f"epoch {place.epoch}: mean L1 {l1:.3f}: the output content loss is on from here")
    place.epoch, place.step_in_epoch, place.sums, place.counts = place.epoch + 1, 0, {}, {}


def save(run: Run) -> None:
    """A checkpoint to go on from, written by the first rank; the others wait."""
    if run.ranks.first:
        run.folder.save(run.checkpoint(to_go_on=True), run.settings.checkpoint.last, run.settings.checkpoint.milestones)
    run.ranks.wait()
