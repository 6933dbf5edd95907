"""The training loop: micro-batches in, checkpoints out, the same on one process or on many (docs/training.md).

What is drawn for a micro-batch is drawn from (seed, epoch, its number), so that the cursor of a run is (epoch, step in
it).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

from model.checkpoint import Checkpoint, save_checkpoint
from model.losses import content_switches_on
from runtime.signals import sigterm_noted
from shards import Dataset
from train.checkpoint_writer import CheckpointWriter
from train.checkpointing import Checkpointer, check_fingerprint, make_checkpoint, restore_checkpoint
from train.distributed import DistributedContext
from train.epochs import Epochs
from train.logger import Logger, Throughput, mean_losses
from train.run_dir import RunDir, append_lines
from train.settings import TrainSettings
from train.skipped import SkippedClips
from train.state import TrainedModel, TrainingError, TrainState
from train.step import OptimizerStep, StepResult, first_few
from train.tasks.task import Task
from train.validation import Validator, best_criterion, is_better

log = logging.getLogger(__name__)


class Trainer:
    """A run: trains a model for a task on a dataset.

    Attributes:
        state: how far it is.
        run_dir, checkpointer, writer: where and how it writes.
        epochs: what it reads.
        validator: None where nothing is validated, or before `plan_validation`.
    """

    def __init__(
        self,
        settings: TrainSettings,
        dataset: Dataset,
        task: Task,
        model: TrainedModel,
        context: DistributedContext,
        fingerprint: dict[str, Any],
    ) -> None:
        self.settings, self.dataset, self.task, self.model = settings, dataset, task, model
        self.context, self.fingerprint = context, fingerprint
        self.state = TrainState(best_criterion=best_criterion(task))
        self.run_dir = RunDir(settings.out)
        self.checkpointer = Checkpointer(self.run_dir, settings.checkpoint)
        self.throughput = Throughput(context)
        self.validator: Validator | None = None
        self.writer = CheckpointWriter()
        self.epochs = Epochs(settings, dataset, task, context)
        self._skipped = SkippedClips(dataset, settings, self.run_dir, context)

    def plan_validation(self) -> None:
        """Choose and prepare what is validated on (`ValueError`, as `Validator`)."""
        if self.settings.validation.split is not None:
            self.validator = Validator(self.task, self.settings, self.dataset, self.context)

    def train(self) -> bool:
        """Train to the end of the schedule, or until signalled to stop (SIGTERM).

        Returns:
            Whether that end was reached; otherwise the run was signalled to stop, and has saved itself.

        Raises:
            TrainingError: too many steps in a row without a finite loss and gradient, too many clips that could not be
                read, or nothing to train on.
            DatasetError, StorageError: the data cannot be read.
            OSError: a checkpoint cannot be written.
        """
        self.plan_validation()  # what is wrong with it should not show after hours
        step = OptimizerStep(self.task, self.model, self.settings, self.context)
        is_rank0, state = self.context.is_rank0, self.state
        began = time.perf_counter() - state.seconds
        self.context.on_rank0(lambda: self.run_dir.truncate_logs(state.step, state.validated_step))
        with (
            closing(Logger(self.run_dir, state, self.settings.schedule, is_rank0)) as logger,
            sigterm_noted() as signalled,
            self.writer,
            closing(self.epochs),
        ):
            if self._validation_is_due():  # the run was stopped before it
                self.validate(logger)
                self.save()
            reached = True
            while reached and not self._is_over():
                reached = self._train_epoch(step, logger, signalled, began)
            self.context.on_rank0(self.writer.wait)
        return reached

    def _train_epoch(self, step: OptimizerStep, logger: Logger, signalled: Event, began: float) -> bool:
        """Train what is left of the epoch; False: signalled to stop. `began`: when the clock of the run stood at 0."""
        state, settings, context, throughput = self.state, self.settings, self.context, self.throughput
        per_step, last_step = settings.micro_batches_per_step, settings.schedule.steps
        epoch = self.epochs.open(state.epoch, state.step_in_epoch)
        self._skipped.begin_epoch(epoch.planned.clips, state)
        with closing(epoch.batches) as batches:
            while state.step_in_epoch < epoch.steps and not self._is_over():
                left = epoch.steps - state.step_in_epoch
                if state.step + left < last_step:
                    self.epochs.prepare(epoch.number + 1, left)
                share = throughput.next_batches(batches, per_step // context.world_size)
                first = state.step_in_epoch * per_step
                of_step = epoch.planned[first : first + per_step]
                seconds = time.perf_counter() - began
                result = step.take(state, share, len(of_step), signalled.is_set(), seconds)
                self._skipped.add(result.skipped, of_step.clips, state)
                self._record_nonfinite(result)
                throughput.add(result)
                logger.update(state)
                if state.step % settings.checkpoint.log_every == 0 and (values := throughput.flush()):
                    learning_rate = self.model.optimizer.param_groups[0]["lr"]
                    timed = {} if settings.schedule.minutes is None else {"seconds": state.seconds}
                    logger.log_metrics("train", state.step, **timed, **values, learning_rate=learning_rate)
                epoch_ended = state.step_in_epoch == epoch.steps
                if epoch_ended:
                    self._end_epoch(logger)
                with throughput.paused():
                    saves = result.stop or state.step % settings.checkpoint.every == 0 or self._is_over()
                    if saves:
                        self.save()
                    if result.stop:
                        return False
                    if self._validation_is_due():
                        self.validate(logger)
                        if saves:  # once more: the best so far may have changed
                            self.save()
                if epoch_ended:
                    break
        return True

    def _record_nonfinite(self, result: StepResult) -> None:
        """Write down the clips of a step without a finite loss and gradient; stop where that happens too often."""
        state = self.state
        if (keys := result.nonfinite_keys) is None:
            return
        if self.context.is_rank0:
            append_lines(self.run_dir.bad_batches, [{"step": state.step, "epoch": state.epoch, "keys": keys}])
        log.info("step %d: loss or gradient is not finite; skipped (%s)", state.step, first_few(keys))
        if state.nonfinite_in_a_row >= self.settings.max_nonfinite_steps:
            raise TrainingError(
                f"{state.nonfinite_in_a_row} steps in a row without a finite loss and gradient, the last of "
                f"{first_few(keys)}: all keys are in {self.run_dir.bad_batches}"
            )

    def _end_epoch(self, logger: Logger) -> None:
        state, means = self.state, mean_losses(self.state.loss_sums, self.state.loss_counts)
        counts = {"nonfinite_steps": state.nonfinite_steps, "skipped": state.skipped_clips}
        logger.log_metrics("epoch", state.step, epoch=state.epoch, **means, **counts)
        l1 = means.get("l1", math.inf)
        waiting = self.task.asr is not None and self.settings.losses.content > 0 and not state.content_on
        if waiting and content_switches_on(state.epoch, l1, self.settings.losses):
            state.content_on = True
            log.info("epoch %d: mean L1 %.3f: the output content loss is on from here", state.epoch, l1)
        state.epoch, state.step_in_epoch, state.loss_sums, state.loss_counts = state.epoch + 1, 0, {}, {}

    def _is_over(self) -> bool:
        return self.settings.schedule.share_done(self.state.step, self.state.seconds) == 1

    def _validation_is_due(self) -> bool:
        settings, state = self.settings, self.state
        if settings.validation.split is None or state.step <= state.validated_step:
            return False
        return state.step % settings.validation.every == 0 or self._is_over()

    def validate(self, logger: Logger) -> None:
        """Score the validation clips; the best weights so far are kept apart."""
        state = self.state
        assert self.validator is not None
        state.scores, examples, transcripts = self.validator.run(self.model)
        state.validated_step = state.step
        logger.log_metrics("validation", state.step, **state.scores)
        line = ", ".join(f"{name} {value:.3g}" for name, value in state.scores.items())
        log.info("step %d: validation: %s", state.step, line)
        logger.log_examples(state.step, examples, transcripts, first=state.best is None)
        name = self.task.best_score
        value = state.scores.get(name, math.nan)
        if not math.isfinite(value):
            log.info("step %d: %s could be measured on no clip; this is not the best", state.step, name)
        elif is_better(name, value, state.best):
            state.best = value
            best = self.run_dir.best
            self._write(lambda checkpoint: save_checkpoint(best, checkpoint))

    def save(self) -> None:
        """Have rank 0 write a checkpoint to resume from."""
        self._write(self.checkpointer.save, self.fingerprint)

    def _write(self, write: Callable[[Checkpoint], object], fingerprint: dict[str, Any] | None = None) -> None:
        """Have rank 0 write the run as it is now (`OSError`: what it was to write before could not be written)."""
        content = (self.model, self.state, self.task, fingerprint)
        self.context.on_rank0(lambda: self.writer.submit(make_checkpoint(*content), write))

    def resume(self, checkpoint: Checkpoint, path: Path) -> None:
        """Restore model and state from what was loaded of a file (`ValueError`: of another run; `CheckpointError`: it
        does not fit)."""
        check_fingerprint(checkpoint, self.fingerprint, str(path))
        self.state = restore_checkpoint(checkpoint, self.model, path)
        log.info("resuming from %s", path)
        before, criterion = self.state.best_criterion, best_criterion(self.task)
        if before != criterion:
            aside = self.context.on_rank0(lambda: self.checkpointer.set_best_aside(self.state.step))
            if aside is not None:
                log.info("the best so far was by %s: it is %s; from here it is by %s", before, aside, criterion)
            self.state.best, self.state.best_criterion = None, criterion
