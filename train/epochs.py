"""The epochs of a run: their plans, and their batches, which the next one begins to read before this one has ended."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from shards import Dataset
from shards.loading.distribute import distribute_from, steps_in_epoch
from shards.loading.loader import Batches, load
from shards.loading.plan_ahead import EpochArguments, PlanAhead
from shards.loading.planned_batches import PlannedBatches
from train.curriculum import segment_of
from train.distributed import DistributedContext
from train.settings import TrainSettings
from train.state import TrainingError
from train.tasks.task import Task

log = logging.getLogger(__name__)

_STEPS_AHEAD = 20
"""Before an epoch ends, the next one's processes are started: that and their first batches take about a second."""


@dataclass(frozen=True)
class Epoch:
    """An epoch that is read.

    Attributes:
        number: of it.
        planned: its micro-batches, of all ranks.
        steps: in all of it.
        batches: this rank's.
    """

    number: int
    planned: PlannedBatches
    steps: int
    batches: Batches


class Epochs:
    """Plans and opens the epochs of a run, one after the other."""

    def __init__(self, settings: TrainSettings, dataset: Dataset, task: Task, context: DistributedContext) -> None:
        self._settings, self._dataset, self._task, self._context = settings, dataset, task, context
        self._loader = settings.loader(task.contents)
        self._plans = PlanAhead(self._loader.start_method)
        self._next: Epoch | None = None
        self._planning = self._opening = 0  # the last epochs that were begun

    def plan(self, epoch: int) -> PlannedBatches:
        """The micro-batches of an epoch (`TrainingError`: there are fewer than ranks)."""
        planned = self._plans.take(self._arguments(epoch))
        if len(planned) < self._context.world_size:
            raise TrainingError(
                f"{len(planned)} micro-batches in epoch {epoch} for {self._context.world_size} ranks: lower "
                "batch.max_padded_frames, use fewer ranks, or let the curriculum take longer clips"
            )
        return planned

    def open(self, epoch: int, step: int) -> Epoch:
        """An epoch, to be read from a step on; that which was begun, if it was.

        Raises:
            TrainingError: it has fewer micro-batches than there are ranks, or no such step.
            DatasetError, LoaderError: its texts, or its processes, fail.
        """
        begun, self._next = self._next, None
        if begun is not None and (begun.number, step) == (epoch, 0):
            return begun
        planned, context, per_step = self.plan(epoch), self._context, self._settings.micro_batches_per_step
        steps = steps_in_epoch(len(planned), per_step)
        if step >= steps:
            raise TrainingError(
                f"state.step_in_epoch is {step}, and epoch {epoch} has {steps} steps: the checkpoint that this run "
                "resumed from is damaged; resume from the one before it"
            )
        slots = distribute_from(planned, per_step, step, context.rank, context.world_size)
        batches = load(self._dataset, slots, self._loader, pin_memory=context.device.type == "cuda")
        return Epoch(epoch, planned, steps, batches)

    def prepare(self, epoch: int, steps_before: int) -> None:
        """Begin with the next epoch what takes time: its plan at once, its processes shortly before it.

        Shards of a bucket are fetched for one epoch at a time.

        Args:
            epoch: its number.
            steps_before: steps of this one that are left.
        """
        if self._planning < epoch:
            self._planning = epoch
            self._plans.begin(self._arguments(epoch))
        reads_here = self._dataset.store.is_local and self._loader.workers > 0
        if reads_here and steps_before <= _STEPS_AHEAD and self._opening < epoch:
            self._opening = epoch
            try:
                self._next = self.open(epoch, 0)
            except Exception as error:  # again, and for all to see, when it is opened
                log.debug("epoch %d is not begun ahead: %s", epoch, error)

    def close(self) -> None:
        """End what was begun."""
        self._plans.close()
        if self._next is not None:
            self._next.batches.close()
            self._next = None

    def _arguments(self, epoch: int) -> EpochArguments:
        settings = self._settings
        from_other = self._task.uses_speaker_reference and settings.segments.speaker_reference == "other"
        return EpochArguments(
            self._dataset.clip_index,
            tuple(settings.splits),
            settings.seed,
            epoch,
            segment_of(settings, epoch),
            settings.batch,
            settings.segments.reference_frames if from_other else 0,
        )
