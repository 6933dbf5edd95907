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

from shards.reading.loader import Batch
from train.lip2speech import losses, prepare
from train.logbook import Logbook
from train.meter import Meter
from train.run import Run, TrainingError
from train.schedule import rate_at

Alone = Callable[[], AbstractContextManager[Any]]
"""What the backward pass of a micro-batch runs in, unless it is the last of its step: gradients stay on their rank."""


def take_step(
    run: Run,
    wrapped: nn.Module,
    alone: Alone,
    count: int,
    share: list[Batch | None],
    meter: Meter,
    book: Logbook,
) -> None:
    """Take a step.

    Args:
        run: what is trained.
        wrapped: its network, or what runs it in parallel or compiled.
        alone: see `Alone`.
        count: micro-batches of this step, over all ranks.
        share: this rank's; None where there is none for it.
        meter, book: what is measured and said.

    Raises:
        TrainingError: too many steps in a row without a finite loss and gradient.
    """
    settings, ranks, place = run.settings, run.ranks, run.place
    wrapped.train()
    run.optimiser.zero_grad(set_to_none=True)
    before = [x.clone() for x in run.network.buffers()]
    parts: list[dict[str, Tensor]] = []
    keys: list[str] = []
    for number, batch in enumerate(share):
        with alone() if number < len(share) - 1 else nullcontext():
            if batch is None or not batch.keys:
                _backward_of_nothing(run, wrapped)
            else:
                seed = _seed(settings.seed, place.epoch, batch.number)
                torch.manual_seed(_seed(settings.seed, place.epoch, batch.number, 1))  # dropout's
                inputs = prepare(batch, run.tokenizer, settings, ranks.device, seed)
                found = losses(wrapped, run.recogniser if place.content_on else None, inputs, settings)
                (found.total * (ranks.world / count)).backward()
                parts.append(found.parts)
                meter.frames += int(batch.lengths.sum())
                keys += batch.keys
        for skipped in batch.skipped if batch is not None else []:
            book.warn(f"skipped {skipped.key}: {skipped.reason}")
            meter.skipped += 1
    norm = _clip(run)
    place.step += 1
    place.step_in_epoch += 1
    names = ("l1", "ctc", "content", "text_left_out")
    measured = [float(sum(part[name] for part in parts if name in part)) for name in names]
    found_by_all = ranks.totals([*measured, len(parts), meter.skipped])
    summed = dict(zip((*names, "micro_batches", "skipped"), found_by_all, strict=True))
    meter.skipped = 0
    place.skipped += summed["skipped"]
    # the gradient of |x - NaN| is 0: it takes the loss to see it
    if not math.isfinite(norm + sum(summed.values())):
        for x, kept in zip(run.network.buffers(), before, strict=True):
            x.copy_(kept)  # what is not finite has gone into the statistics of batch norms too
        _skip_step(run, keys, book)
        return
    place.bad_in_a_row = 0
    for group in run.optimiser.param_groups:
        group["lr"] = settings.optimiser.learning_rate * rate_at(place.step - 1, settings.schedule)
    run.optimiser.step()
    _average(run)
    place.l1_sum += summed["l1"]
    place.l1_count += summed["micro_batches"]
    meter.add(summed, norm)


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def _backward_of_nothing(run: Run, wrapped: nn.Module) -> None:
    """Take part in what ranks do together, with gradients of zero."""
    size, device = run.settings.transforms.size, run.ranks.device
    kept = {name: x.clone() for name, x in run.network.named_buffers()}
    spoken = wrapped(
        torch.zeros(1, 1, 5, size, size, device=device),
        torch.tensor([5]),
        torch.zeros(1, run.network.settings.n_mels, 100, device=device),
    )
    (0.0 * (spoken.mel.float().sum() + spoken.logits.float().sum())).backward()
    for name, x in run.network.named_buffers():
        x.copy_(kept[name])


def _clip(run: Run) -> float:
    """The norm of the global gradient, which is scaled down to `clip_norm` if that is set."""
    limit = run.settings.clip_norm if run.settings.clip_norm is not None else math.inf
    return float(nn.utils.clip_grad_norm_(run.network.parameters(), limit))


def _skip_step(run: Run, keys: list[str], book: Logbook) -> None:
    place, settings = run.place, run.settings
    place.bad_steps += 1
    place.bad_in_a_row += 1
    named = run.ranks.gathered(keys)
    if run.ranks.first:
        line = json.dumps({"step": place.step, "epoch": place.epoch, "keys": named})
        with (run.folder.path / "bad-batches.jsonl").open("a") as file:
            file.write(line + "\n")
    book.say(f"step {place.step}: loss or gradient is not finite; skipped ({', '.join(named[:5])} ...)")
    if place.bad_in_a_row >= settings.bad_steps:
        raise TrainingError(
            f"{place.bad_in_a_row} steps in a row without a finite loss and gradient, the last of "
            f"{', '.join(named[:5])} ...: all keys are in {run.folder.path / 'bad-batches.jsonl'}"
        )


def _average(run: Run) -> None:
    if run.average is None or run.settings.ema is None:
        return
    for name, x in run.network.state_dict().items():
        if x.is_floating_point():
            run.average[name].lerp_(x, 1 - run.settings.ema)
        else:
            run.average[name].copy_(x)
