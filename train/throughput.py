"""What is measured between two lines of the log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from shards.loading.collate import Batch
from train.distributed import Ranks
from train.logger import Logger
from train.state import Run


class Throughput:
    """Sums since the last line of the log."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._reset()

    def _reset(self) -> None:
        self._began, self._waited, self.frames, self._steps = time.perf_counter(), 0.0, 0, 0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        self._norm = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done in here is no part of the training's time."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    def waited(self, batches: Iterator[Batch | None], count: int) -> list[Batch | None]:
        """The next batches, and how long they took to come."""
        began = time.perf_counter()
        share = list(islice(batches, count))
        self._waited += time.perf_counter() - began
        return share

    def add(self, summed: dict[str, float], counted: dict[str, float], norm: float) -> None:
        """A step's sums over all ranks, of how many micro-batches, and the norm of its gradient."""
        for name, value in summed.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0.0) + counted[name]
        self._norm, self._steps = self._norm + norm, self._steps + 1

    def write(self, run: Run, book: Logger) -> None:
        """A line of the log; sums begin anew."""
        took = time.perf_counter() - self._began
        frames, waited = self._ranks.totals([self.frames, self._waited])
        if self._steps:
            means = {name: total / self._counts[name] for name, total in self._sums.items() if self._counts[name]}
            means["text_left_out"] = self._sums["text_left_out"]  # clips, not a mean
            book.scalars(
                "train",
                run.place.step,
                **means,
                gradient_norm=self._norm / self._steps,
                learning_rate=run.optimizer.param_groups[0]["lr"],
                frames_a_second=frames / took,
                waiting=waited / took / self._ranks.world,
            )
        self._reset()
