"""The training loop: micro-batches in, checkpoints out, the same run on one process or on many.

A global step is G planned micro-batches, dealt to ranks and accumulation steps; its gradient is the mean of theirs.
What is drawn for a micro-batch is drawn from (seed, epoch, its number), so a run's whole place is (epoch, step in it):
one that stopped goes on as if it had not, at another number of ranks too. Batch-norm statistics are the exception:
without `sync_batch_norm` they depend on which rank saw what.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.checkpoint import Checkpoint
from model.lip_to_speech import LipToSpeech
from model.losses import content_switches_on, optimiser
from model.mel import MelSettings
from model.recogniser import Recogniser
from model.tokenizer import Tokenizer
from shards import Dataset
from shards.reading.loader import Batch, LoaderSettings, load
from shards.reading.plan import MicroBatch, deal_from, plan_epoch, plan_evaluation, steps_in_epoch
from train.lip2speech import Inputs, losses, prepare, segment_of, validation_l1, whole_clips
from train.logbook import Logbook
from train.ranks import Ranks
from train.run_folder import RunFolder
from train.schedule import rate_at
from train.settings import TrainSettings

EXIT_STOPPED = 75
"""Exit status of a run that was told to stop (SIGTERM) and saved itself: start it again to go on."""


class TrainingError(RuntimeError):
    """A run cannot go on; the message says why and where."""


@dataclass
class Place:
    """Where a run is: all that a checkpoint keeps besides weights and optimiser.

    Attributes:
        step: global steps done.
        epoch, step_in_epoch: the next step is this one of this epoch; epochs count from 1.
        content_on: whether the output content loss is on.
        best: the lowest validation L1 so far.
        l1_sum, l1_count: of this epoch's micro-batches so far, over all ranks.
        bad_steps, bad_in_a_row: steps skipped since their gradient was not finite.
        skipped: clips that could not be read.
    """

    step: int = 0
    epoch: int = 1
    step_in_epoch: int = 0
    content_on: bool = False
    best: float = math.inf
    l1_sum: float = 0.0
    l1_count: float = 0.0
    bad_steps: int = 0
    bad_in_a_row: int = 0
    skipped: float = 0.0


@dataclass
class Run:
    """What a run works on."""

    settings: TrainSettings
    dataset: Dataset
    tokenizer: Tokenizer
    mel: MelSettings
    network: LipToSpeech
    recogniser: Recogniser | None
    ranks: Ranks
    folder: RunFolder
    identity: dict[str, Any]
    place: Place = field(default_factory=Place)

    def __post_init__(self) -> None:
        self.network.to(self.ranks.device)
        if self.settings.sync_batch_norm and self.ranks.world > 1:
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        self.optimiser = optimiser(self.network.parameters(), self.settings.optimiser)
        self.average: dict[str, Tensor] | None = None
        if self.settings.ema is not None:
            self.average = {name: x.detach().clone() for name, x in self.network.state_dict().items()}

    def checkpoint(self, averaged: bool = False) -> Checkpoint:
        """The run as a checkpoint; `averaged`: the weights are their average, where there is one."""
        weights = self.average if averaged and self.average is not None else self.network.state_dict()
        training = {
            "identity": self.identity,
            "place": dict(vars(self.place)),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
        }
        metrics = {} if math.isinf(self.place.best) else {"validation_l1": self.place.best}
        kept = None if averaged else training
        return Checkpoint(self.network.settings, weights, self.tokenizer, self.mel, self.place.step, metrics, kept)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of this run."""
        assert checkpoint.training is not None
        self.network.load_state_dict(dict(checkpoint.weights))
        self.optimiser.load_state_dict(checkpoint.training["optimiser"])
        self.place = Place(**checkpoint.training["place"])
        if self.average is not None:
            self.average = {name: x.to(self.ranks.device) for name, x in checkpoint.training["average"].items()}


def train(run: Run, book: Logbook) -> bool:
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
        devices = [ranks.device.index] if ranks.device.type == "cuda" else None
        parallel = DistributedDataParallel(run.network, device_ids=devices)
        wrapped, alone = parallel, parallel.no_sync
    if settings.compile:
        wrapped = torch.compile(wrapped)  # type: ignore[assignment]
    meter = Meter(ranks)
    validation = _validation_plan(run)  # now: what is wrong with it should not show after hours
    with _told_to_stop() as told:
        while place.step < settings.schedule.steps:
            planned = _epoch(run)
            steps = steps_in_epoch(len(planned), settings.micro_batches)
            slots = deal_from(planned, settings.micro_batches, place.step_in_epoch, ranks.rank, ranks.world)
            with closing(_batches(run, slots)) as batches:
                while place.step_in_epoch < steps and place.step < settings.schedule.steps:
                    share = meter.waited(batches, settings.micro_batches // ranks.world)
                    _step(run, wrapped, alone, planned, share, meter, book)
                    book.moved(place.step)
                    if place.step % settings.keep.log_every == 0:
                        meter.write(run, book)
                    if place.step % settings.keep.validate_every == 0:
                        validate(run, validation, book)
                    ended = place.step_in_epoch == steps
                    if ended:
                        _end_epoch(run, book)
                    stop = ranks.totals([told.is_set])[0] > 0
                    if stop or place.step % settings.keep.every == 0 or place.step == settings.schedule.steps:
                        save(run)
                    if stop:
                        return False
                    if ended:
                        break
    return True


Alone = Callable[[], AbstractContextManager[Any]]
"""What the backward pass of a micro-batch runs in, unless it is the last of its step: gradients stay on their rank."""


def _validation_plan(run: Run) -> list[MicroBatch]:
    settings = run.settings
    if settings.validation is None:
        return []
    draw, clips = whole_clips(settings.segments), settings.keep.validation_clips
    return plan_evaluation(run.dataset.index, [settings.validation], draw, settings.batch, clips)


def _epoch(run: Run) -> list[MicroBatch]:
    settings = run.settings
    draw = segment_of(settings.segments)
    planned = plan_epoch(run.dataset.index, settings.splits, settings.seed, run.place.epoch, draw, settings.batch)
    if len(planned) < run.ranks.world:
        raise TrainingError(
            f"{len(planned)} micro-batches an epoch for {run.ranks.world} ranks: lower batch.max_frames, or use fewer "
            "ranks"
        )
    return planned


def _batches(run: Run, slots: list[MicroBatch | None]) -> Generator[Batch | None, None, None]:
    settings = run.settings
    how = LoaderSettings(workers=settings.workers, on_damage=settings.on_damage, cache=settings.cache)
    yield from load(run.dataset, slots, how)


def _step(
    run: Run,
    wrapped: nn.Module,
    alone: Alone,
    planned: list[MicroBatch],
    share: list[Batch | None],
    meter: Meter,
    book: Logbook,
) -> None:
    """One global step: this rank's micro-batches, gradients averaged over all of them, one update."""
    settings, ranks, place = run.settings, run.ranks, run.place
    first = place.step_in_epoch * settings.micro_batches
    count = len(planned[first : first + settings.micro_batches])
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


def _end_epoch(run: Run, book: Logbook) -> None:
    place = run.place
    mean = place.l1_sum / place.l1_count if place.l1_count else math.inf
    book.scalars("epoch", place.step, epoch=place.epoch, l1=mean, bad_steps=place.bad_steps, skipped=place.skipped)
    waiting = run.recogniser is not None and not place.content_on
    if waiting and content_switches_on(place.epoch, mean, run.settings.losses):
        place.content_on = True
        book.say(f"epoch {place.epoch}: mean L1 {mean:.3f}: the output content loss is on from here")
    place.epoch, place.step_in_epoch, place.l1_sum, place.l1_count = place.epoch + 1, 0, 0.0, 0.0


def validate(run: Run, planned: list[MicroBatch], book: Logbook) -> None:
    """Mean L1 over a fixed part of the validation split, whole clips; the best weights so far are kept apart.

    Each rank takes every so-many-th micro-batch; nothing is done together until the sums are, so shares may differ.
    """
    settings, ranks = run.settings, run.ranks
    if not planned:
        return
    kept = None
    if run.average is not None:
        kept = {name: x.clone() for name, x in run.network.state_dict().items()}
        run.network.load_state_dict(run.average)
    run.network.eval()
    total = count = 0.0
    with closing(_batches(run, list(planned[ranks.rank :: ranks.world]))) as batches:
        for batch in batches:
            if batch is None or not batch.keys:
                continue
            inputs: Inputs = prepare(batch, run.tokenizer, settings, ranks.device, None)
            l1, clips = validation_l1(run.network, inputs, settings)
            total, count = total + l1, count + clips
    if kept is not None:
        run.network.load_state_dict(kept)
    total, count = ranks.totals([total, count])
    mean = total / count if count else math.inf
    book.scalars("validation", run.place.step, l1=mean, clips=count)
    if mean < run.place.best:
        run.place.best = mean
        if ranks.first:
            run.folder.save_best(run.checkpoint(averaged=True))


def save(run: Run) -> None:
    """A checkpoint to go on from, written by the first rank; the others wait."""
    if run.ranks.first:
        run.folder.save(run.checkpoint(), run.settings.keep.last)
    run.ranks.wait()


class Meter:
    """Sums since the last line of the log."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.skipped = 0.0
        self._reset()

    def _reset(self) -> None:
        self._began, self._waited, self.frames, self._steps = time.perf_counter(), 0.0, 0, 0
        self._sums: dict[str, float] = {}
        self._norm = 0.0

    def waited(self, batches: Iterator[Batch | None], count: int) -> list[Batch | None]:
        """The next batches, and how long they took to come."""
        began = time.perf_counter()
        share = list(islice(batches, count))
        self._waited += time.perf_counter() - began
        return share

    def add(self, summed: dict[str, float], norm: float) -> None:
        """A step's sums over all ranks, and the norm of its gradient."""
        for name, value in summed.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._norm, self._steps = self._norm + norm, self._steps + 1

    def write(self, run: Run, book: Logbook) -> None:
        """A line of the log; sums begin anew."""
        took = time.perf_counter() - self._began
        frames, waited = self._ranks.totals([self.frames, self._waited])
        count = self._sums.get("micro_batches", 0.0)
        if count and self._steps:
            parts = ["l1", "ctc", *(["content"] if run.place.content_on else [])]
            book.scalars(
                "train",
                run.place.step,
                **{name: self._sums[name] / count for name in parts},
                text_left_out=self._sums["text_left_out"],
                gradient_norm=self._norm / self._steps,
                learning_rate=run.optimiser.param_groups[0]["lr"],
                frames_a_second=frames / took,
                waiting=waited / took / self._ranks.world,
            )
        self._reset()


class _Told:
    is_set = False


class _told_to_stop:  # noqa: N801  # a context manager, used as a function
    """Notes SIGTERM, and leaves it to the loop to save and go."""

    def __enter__(self) -> _Told:
        told = _Told()

        def note(*_: Any) -> None:
            told.is_set = True

        self._before = signal.signal(signal.SIGTERM, note)
        return told

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGTERM, self._before)
