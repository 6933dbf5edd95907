"""One optimizer step: the micro-batches of this rank, gradients averaged over those of all ranks, one update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from shards.loading.collate import Batch
from train.distributed import DistributedContext
from train.optim import copy_all, learning_rate_factor
from train.settings import TrainSettings
from train.state import TrainedModel, TrainingError, TrainState
from train.tasks.task import Task


@dataclass(frozen=True)
class StepResult:
    """What a step came to.

    Attributes:
        stop: whether any rank was signalled to stop.
        loss_sums, loss_counts: of each part of the loss, over the micro-batches of all ranks; empty where the weights
            were not updated.
        gradient_norm: before clipping.
        frames: valid video frames of this rank.
        skipped: clips of all ranks that could not be read, key and reason.
        nonfinite_keys: the clips of all ranks, where the loss or the gradient was not finite.
    """

    stop: bool
    loss_sums: dict[str, float] = field(default_factory=dict)
    loss_counts: dict[str, float] = field(default_factory=dict)
    gradient_norm: float = 0.0
    frames: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)
    nonfinite_keys: list[str] | None = None


class OptimizerStep:
    """Takes optimizer steps with a model, over all ranks."""

    def __init__(self, task: Task, model: TrainedModel, settings: TrainSettings, context: DistributedContext) -> None:
        self._task, self._model, self._settings, self._context = task, model, settings, context
        wrapped: Any = model.network
        self._no_sync: Any = nullcontext
        if context.world_size > 1:
            # device_ids would copy lengths to the GPU, and wait for them. Rank 0's buffers are what is saved, and
            # validation broadcasts them: that before every forward pass would change nothing
            wrapped = DistributedDataParallel(wrapped, broadcast_buffers=False, gradient_as_bucket_view=True)
            self._no_sync = wrapped.no_sync
        self._wrapped: Any = torch.compile(wrapped) if settings.compile else wrapped

    def take(
        self,
        state: TrainState,
        batches: Sequence[Batch | None],
        micro_batches: int,
        stop: bool = False,
        seconds: float = 0.0,
    ) -> StepResult:
        """Take a step; the run's state counts it.

        Args:
            batches: this rank's; None where the plan has none for it.
            micro_batches: of this step, over all ranks.
            stop: whether this rank was signalled to stop.
            seconds: of training so far; rank 0's counts.

        Raises:
            TrainingError: a micro-batch cannot be computed; names rank, step and clips.
        """
        network, optimizer = self._model.network, self._model.optimizer
        self._wrapped.train()
        optimizer.zero_grad(set_to_none=True)
        buffers = list(network.buffers())
        buffers_before = [torch.empty_like(x) for x in buffers]
        copy_all(buffers, buffers_before)
        parts = self._backward(state, batches, micro_batches)
        state.step += 1
        state.step_in_epoch += 1
        if self._settings.on_error == "skip":
            self._rescale_gradient(len(parts), micro_batches)
        skipped = [
            {"key": clip.key, "reason": clip.reason} for batch in batches if batch is not None for clip in batch.skipped
        ]
        names = self._task.loss_names
        found = [[part[name] for part in parts if name in part] for name in names]
        norm, *sums = _to_numbers(self._clip_gradient(), found)
        counts = [len(each) for each in found]
        timed = self._settings.schedule.minutes is not None and self._context.is_rank0
        clock = seconds if timed else 0.0  # and no time of day in the checkpoints of other runs
        reduced = self._context.all_reduce_sum([*sums, *counts, len(parts), len(skipped), stop, clock])
        *_, read, skipped_clips, stops, state.seconds = reduced
        state.skipped_clips += skipped_clips
        result = StepResult(
            stop=stops > 0,
            frames=sum(int(batch.lengths.sum()) for batch in batches if batch is not None and batch.keys),
            skipped=self._context.all_gather(skipped) if skipped_clips else [],
        )
        if not read:  # momentum and weight decay alone are not to move the weights
            return result
        loss_sums, loss_counts = (dict(zip(names, part, strict=False)) for part in (reduced, reduced[len(names) :]))
        # the gradient of |x - NaN| is 0: that something is not finite may show in the loss alone
        if not math.isfinite(norm + sum(loss_sums.values())):
            copy_all(buffers_before, buffers)  # batch norms have taken it into their statistics too
            state.nonfinite_steps += 1
            state.nonfinite_in_a_row += 1
            keys = [key for batch in batches if batch is not None for key in batch.keys]
            return replace(result, nonfinite_keys=self._context.all_gather(keys))
        self._update(state)
        for name in names:
            state.loss_sums[name] = state.loss_sums.get(name, 0.0) + loss_sums[name]
            state.loss_counts[name] = state.loss_counts.get(name, 0.0) + loss_counts[name]
        return replace(result, loss_sums=loss_sums, loss_counts=loss_counts, gradient_norm=norm)

    def _backward(
        self, state: TrainState, batches: Sequence[Batch | None], micro_batches: int
    ) -> list[dict[str, Tensor]]:
        """Accumulate the gradient of this rank's micro-batches; DDP averages it over the ranks in the last one."""
        parts = []
        for number, batch in enumerate(batches):
            with self._no_sync() if number < len(batches) - 1 else nullcontext():
                if batch is None or not batch.keys:
                    self._backward_of_nothing()
                    continue
                seed = _seed(self._settings.seed, state.epoch, batch.number)
                torch.manual_seed(_seed(self._settings.seed, state.epoch, batch.number, 1))  # of dropout
                try:
                    losses = self._task.loss(self._wrapped, batch, seed, state)
                    # DDP's gradient is the mean over ranks, and the mean over micro-batches is wanted
                    (losses.total * (self._context.world_size / micro_batches)).backward()
                except (RuntimeError, ValueError) as error:
                    raise TrainingError(
                        f"rank {self._context.rank}, step {state.step + 1}: {len(batch.keys)} clips of up to "
                        f"{int(batch.lengths.max())} frames ({first_few(batch.keys)}): {error}"
                    ) from error
                parts.append(losses.parts)
        return parts

    def _backward_of_nothing(self) -> None:
        """Take part in the ranks' collectives, with gradients of zero and batch-norm statistics as they were."""
        buffers = list(self._model.network.buffers())
        buffers_before = [x.clone() for x in buffers]
        self._task.dummy_loss(self._wrapped).backward()
        copy_all(buffers_before, buffers)

    def _rescale_gradient(self, read: int, micro_batches: int) -> None:
        """Micro-batches that could not be read have no gradient: the mean is over those that could."""
        (read_by_all,) = self._context.all_reduce_sum([read])
        if 0 < read_by_all < micro_batches:
            for parameter in self._model.network.parameters():
                if parameter.grad is not None:
                    parameter.grad *= micro_batches / read_by_all

    def _clip_gradient(self) -> Tensor:
        """The norm of the global gradient, which is scaled down to `clip_norm` if that is set."""
        limit, parameters = self._settings.clip_norm, list(self._model.network.parameters())
        if limit is None:
            return nn.utils.get_total_norm([x.grad for x in parameters if x.grad is not None])
        return nn.utils.clip_grad_norm_(parameters, limit)

    def _update(self, state: TrainState) -> None:
        state.nonfinite_in_a_row = 0
        factor = learning_rate_factor(state.step - 1, self._settings.schedule, state.seconds)
        for group in self._model.optimizer.param_groups:
            group["lr"] = self._settings.optimizer.learning_rate * factor
        self._model.optimizer.step()
        if self._model.ema is not None:
            self._model.ema.update(self._model.network, state.step)


def _to_numbers(norm: Tensor, parts: list[list[Tensor]]) -> list[float]:
    """The norm and the sum of each part as numbers: a GPU is waited for once."""
    sums = [torch.stack(found).sum() if found else norm.new_zeros(()) for found in parts]
    numbers: list[float] = torch.stack([norm, *sums]).tolist()
    return numbers


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def first_few(keys: Sequence[str]) -> str:
    """The first keys, for a message."""
    return ", ".join(keys[:5]) + (" ..." if len(keys) > 5 else "")
