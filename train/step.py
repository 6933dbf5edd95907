"""A global step: this rank's micro-batches, gradients averaged over those of all ranks, one update."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shards.loading.collate import Batch
from train.logger import Logger
from train.optim import learning_rate_factor
from train.state import Run, TrainingError
from train.throughput import Throughput

Alone = Callable[[], AbstractContextManager[Any]]
"""What the backward pass of a micro-batch runs in, unless it is the last of its step: gradients stay on their rank."""


def take_step(
    run: Run,
    wrapped: nn.Module,
    alone: Alone,
    count: int,
    share: list[Batch | None],
    meter: Throughput,
    book: Logger,
    stop: bool = False,
) -> bool:
    """Take a step.

    Args:
        run: what is trained.
        wrapped: its network, or what runs it in parallel or compiled.
        alone: see `Alone`.
        count: micro-batches of this step, over all ranks.
        share: this rank's; None where there is none for it.
        meter, book: what is measured and said.
        stop: whether this rank was told to stop.

    Returns:
        Whether any rank was.

    Raises:
        TrainingError: too many steps in a row without a finite loss and gradient.
    """
    settings, ranks, place = run.settings, run.ranks, run.place
    wrapped.train()
    run.optimizer.zero_grad(set_to_none=True)
    before = [x.clone() for x in run.network.buffers()]
    parts: list[dict[str, Tensor]] = []
    keys: list[str] = []
    skipped: list[dict[str, str]] = []
    for number, batch in enumerate(share):
        with alone() if number < len(share) - 1 else nullcontext():
            if batch is None or not batch.keys:
                _backward_of_nothing(run, wrapped)
            else:
                seed = _seed(settings.seed, place.epoch, batch.number)
                torch.manual_seed(_seed(settings.seed, place.epoch, batch.number, 1))  # dropout's
                try:
                    found = run.task.losses(run, wrapped, batch, seed)
                    (found.total * (ranks.world / count)).backward()
                except (RuntimeError, ValueError) as error:
                    raise TrainingError(
                        f"rank {ranks.rank}, step {place.step + 1}: {len(batch.keys)} clips of up to "
                        f"{int(batch.lengths.max())} frames ({_some(batch.keys)}): {error}"
                    ) from error
                parts.append(found.parts)
                meter.frames += int(batch.lengths.sum())
                keys += batch.keys
        for clip in batch.skipped if batch is not None else []:
            book.warn(f"skipped {clip.key}: {clip.reason}")
            skipped.append({"key": clip.key, "reason": clip.reason})
    place.step += 1
    place.step_in_epoch += 1
    names = run.task.parts
    if settings.on_error == "skip":
        _make_up_for_unread(run, len(parts), count)
    norm, *sums = _fetched(_clip(run), [[part[name] for part in parts if name in part] for name in names])
    counts = [float(sum(name in part for part in parts)) for name in names]
    found_by_all = ranks.totals([*sums, *counts, len(parts), len(skipped), stop])
    summed = dict(zip(names, found_by_all, strict=False))
    counted = dict(zip(names, found_by_all[len(names) :], strict=False))
    micro_batches_per_step, skipped_by_all, stops = found_by_all[-3:]
    if skipped_by_all:
        place.skipped += skipped_by_all
        _note_skipped(run, skipped)
    if not micro_batches_per_step:
        return stops > 0  # nothing could be read: momentum and decay alone are not to move the weights
    # the gradient of |x - NaN| is 0: it takes the loss to see it
    if not math.isfinite(norm + sum(summed.values())):
        for x, kept in zip(run.network.buffers(), before, strict=True):
            x.copy_(kept)  # what is not finite has gone into the statistics of batch norms too
        _skip_step(run, keys, book)
        return stops > 0
    place.bad_in_a_row = 0
    for group in run.optimizer.param_groups:
        group["lr"] = settings.optimizer.learning_rate * learning_rate_factor(place.step - 1, settings.schedule)
    run.optimizer.step()
    _average(run)
    for name in names:
        place.sums[name] = place.sums.get(name, 0.0) + summed[name]
        place.counts[name] = place.counts.get(name, 0.0) + counted[name]
    meter.add(summed, counted, norm)
    return stops > 0


def _fetched(norm: Tensor, parts: list[list[Tensor]]) -> list[float]:
    """The norm and the sum of each part as numbers: a GPU is waited for once."""
    sums = [torch.stack(found).sum() if found else norm.new_zeros(()) for found in parts]
    numbers: list[float] = torch.stack([norm, *sums]).tolist()
    return numbers


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def _backward_of_nothing(run: Run, wrapped: nn.Module) -> None:
    """Take part in what ranks do together, with gradients of zero."""
    kept = {name: x.clone() for name, x in run.network.named_buffers()}
    run.task.idle(run, wrapped).backward()
    for name, x in run.network.named_buffers():
        x.copy_(kept[name])


def _make_up_for_unread(run: Run, mine: int, count: int) -> None:
    """Micro-batches that could not be read have no gradient: the mean is of those that could."""
    (read,) = run.ranks.totals([mine])
    if 0 < read < count:
        for parameter in run.network.parameters():
            if parameter.grad is not None:
                parameter.grad *= count / read


def _note_skipped(run: Run, skipped: list[dict[str, str]]) -> None:
    lines = [json.dumps({"step": run.place.step, **clip}) + "\n" for clip in run.ranks.gathered(skipped)]
    if run.ranks.first:
        with run.folder.skipped.open("a") as file:
            file.writelines(lines)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (" ..." if len(keys) > 5 else "")


def _clip(run: Run) -> Tensor:
    """The norm of the global gradient, which is scaled down to `clip_norm` if that is set."""
    limit = run.settings.clip_norm if run.settings.clip_norm is not None else math.inf
    return nn.utils.clip_grad_norm_(run.network.parameters(), limit)


def _skip_step(run: Run, keys: list[str], book: Logger) -> None:
    place, settings = run.place, run.settings
    place.max_nonfinite_steps += 1
    place.bad_in_a_row += 1
    named = run.ranks.gathered(keys)
    if run.ranks.first:
        line = json.dumps({"step": place.step, "epoch": place.epoch, "keys": named})
        with (run.folder.bad_batches).open("a") as file:
            file.write(line + "\n")
    some = _some(named)
    book.say(f"step {place.step}: loss or gradient is not finite; skipped ({some})")
    if place.bad_in_a_row >= settings.max_nonfinite_steps:
        raise TrainingError(
            f"{place.bad_in_a_row} steps in a row without a finite loss and gradient, the last of "
            f"{some}: all keys are in {run.folder.path / 'bad-batches.jsonl'}"
        )


def _average(run: Run) -> None:
    if run.average is None or run.settings.ema is None:
        return
    pairs = [(run.average[name], x) for name, x in run.network.state_dict().items()]
    moving = [pair for pair in pairs if pair[1].is_floating_point()]
    # from few steps an average of few: the new weights of the start would stay in it for long
    decay = min(run.settings.ema, (1 + run.place.step) / (10 + run.place.step))
    torch._foreach_lerp_([mean for mean, _ in moving], [x for _, x in moving], 1 - decay)
    for mean, x in pairs:
        if not x.is_floating_point():
            mean.copy_(x)
