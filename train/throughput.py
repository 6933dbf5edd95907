"""Throughput and mean losses between two lines of the log: frames a second, time spent waiting for the loader."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from shards.loading.collate import Batch
from train.distributed import DistributedContext
from train.step import StepResult


def mean_losses(sums: dict[str, float], counts: dict[str, float]) -> dict[str, float]:
    """Means over micro-batches by name; of `ctc_skipped`, which counts clips, the sum."""
    means = {name: total / counts[name] for name, total in sums.items() if counts[name]}
    return means | {"ctc_skipped": sums.get("ctc_skipped", 0.0)}


class Throughput:
    """Sums since the last line of the log."""

    def __init__(self, context: DistributedContext) -> None:
        self._context = context
        self._reset()

    def _reset(self) -> None:
        self._began, self._waited, self._frames, self._steps = time.perf_counter(), 0.0, 0, 0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        self._norm = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done in here is no part of the training's time."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    def next_batches(self, batches: Iterator[Batch | None], count: int) -> list[Batch | None]:
        """The next batches of the loader, whose waiting time is counted."""
        began = time.perf_counter()
        share = list(islice(batches, count))
        self._waited += time.perf_counter() - began
        return share

    def add(self, result: StepResult) -> None:
        """Count a step."""
        self._frames += result.frames
        if not result.loss_counts:
            return
        for name, value in result.loss_sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0.0) + result.loss_counts[name]
        self._norm, self._steps = self._norm + result.gradient_norm, self._steps + 1

    def flush(self) -> dict[str, float]:
        """The values of a line of the log, none where no step has updated the weights; sums begin anew.

        Call it on all ranks.
        """
        seconds = time.perf_counter() - self._began
        frames, waited = self._context.all_reduce_sum([self._frames, self._waited])
        values: dict[str, float] = {}
        if self._steps:
            values = {
                **mean_losses(self._sums, self._counts),
                "gradient_norm": self._norm / self._steps,
                "frames_a_second": frames / seconds,
                "waiting": waited / seconds / self._context.world_size,
            }
        self._reset()
        return values
