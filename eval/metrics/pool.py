"""Scoring of waveform pairs: one at once, or many in a pool of processes, in parallel to the caller.

    with ScoringPool(["stoi", "estoi", "pesq"], processes=4) as pool:
        for key, original, generated in pairs:
            pool.submit(key, original, generated)        # returns at once
        for key, scored in pool.results().items():       # waits for all
            ...

STOI, ESTOI and PESQ of a clip take a core a few tenths of a second. A pair for which a metric has no figure costs that
figure and nothing else.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from types import TracebackType
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from eval.metrics.optional import PackageMissingError
from eval.metrics.registry import load_packages, metric_of
from eval.metrics.waveforms import MetricError, Wave
from runtime.signals import exit_with_parent, outlive_sigterm

_MAX_PENDING = 32
"""Pairs in flight for each process: each holds its two waveforms in memory."""


class PairScores(NamedTuple):
    """Scores of one pair: figures by metric, and for metrics without one the reason."""

    values: dict[str, float]
    failed: dict[str, str]


def score(names: Sequence[str], original: Wave, generated: Wave) -> PairScores:
    """Score one pair, float32 (L,) at 16 kHz, compared over their common length, in this process. An error in a metric
    costs its figure only, and is the reason in `failed`.

    `ValueError` for a name that is no metric; `PackageMissingError` where a metric's package is not installed. Any
    ImportError is raised: all pairs would fail.
    """
    scored = PairScores({}, {})
    for name, metric in {name: metric_of(name) for name in names}.items():
        try:
            figure = float(metric.function(original, generated))
        except MetricError as error:
            scored.failed[name] = str(error)
        except (ImportError, PackageMissingError):
            raise
        except Exception as error:
            scored.failed[name] = f"{type(error).__name__}: {error}"
        else:
            if math.isfinite(figure):
                scored.values[name] = figure
            else:
                scored.failed[name] = f"comes out as {figure}"
    return scored


class ScoringPool:
    """A pool of processes that score pairs; they start here and end with `close`.

    With 0 processes there is none but this one, and `submit` returns when the pair is scored. `ValueError` for a name
    that is no metric, or fewer than 0 processes; `PackageMissingError` where a metric's package is not installed.
    """

    def __init__(self, names: Sequence[str], processes: int) -> None:
        if processes < 0:
            raise ValueError(f"{processes} scoring processes: expected 0 (none but this one) or more")
        self._names = tuple(dict.fromkeys(names))
        load_packages(list(self._names))  # here, before forking: processes then have them without importing anything
        self._scored: dict[str, Future[PairScores]] = {}
        self._waiting: deque[Future[PairScores]] = deque()
        # Forked, since spawned processes would import the program that scores for its training: seconds, and hundreds
        # of MB each. A fork of a process with threads and a GPU is sound as long as it only does what these do: NumPy.
        self._pool = (
            ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), _initialize, (os.getpid(),))
            if processes
            else None
        )
        self._processes = processes
        if self._pool is not None:
            # Processes are the parallelism, so each gets one thread. The limit is set before they are forked: set in
            # the child, OpenBLAS would start its threads before it lets them rest.
            with threadpool_limits(1, "blas"):
                self._pool.submit(os.getpid)  # the first task, whatever it is, forks them all

    def submit(self, key: str, original: Wave, generated: Wave) -> None:
        """Submit a pair, float32 (L,) at 16 kHz, which is copied; returns at once, or, with many in flight, when one is
        done.

        `key` is its name, given once between two `results`. `ValueError` for a key given before, or arrays of another
        shape or kind; `RuntimeError` where a process has died; names what it may have been scoring.
        """
        if key in self._scored:
            raise ValueError(f"{key} was given before: expected a name of its own for each pair")
        for side, wave in (("original", original), ("generated", generated)):
            if wave.ndim != 1 or wave.dtype.kind != "f":
                raise ValueError(f"{key}: the {side} is {wave.dtype} {wave.shape}: expected float32 (samples,)")
        # copies: they are pickled later, when the caller may have reused its memory
        pair = np.array(original, np.float32), np.array(generated, np.float32)
        if self._pool is None:
            done: Future[PairScores] = Future()
            done.set_result(score(self._names, *pair))
            self._scored[key] = done
            return
        try:
            self._scored[key] = self._pool.submit(score, self._names, *pair)
        except BrokenProcessPool as error:
            raise self._died() from error
        self._waiting.append(self._scored[key])
        if len(self._waiting) > _MAX_PENDING * self._processes:
            wait([self._waiting.popleft()])

    def results(self) -> dict[str, PairScores]:
        """The scores of all pairs since the last call, in the order submitted; waits for those in flight.

        `RuntimeError` where a process has died; names what it may have been scoring.
        """
        try:
            scored = {key: future.result() for key, future in self._scored.items()}
        except BrokenProcessPool as error:
            raise self._died() from error
        self._scored = {}
        return scored

    def close(self) -> None:
        """Kill the processes; pairs in flight are lost."""
        if self._pool is None:
            return
        for process in self._children():
            process.kill()
        # Before Python 3.12 (gh-94777) a broken pool waits without end for its thread that writes pairs to a pipe which
        # no process reads any more. Without a reader the write fails, and the thread ends.
        if (queue := getattr(self._pool, "_call_queue", None)) is not None:
            queue._reader.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> ScoringPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children() if child.pid is not None]

    def _children(self) -> list[multiprocessing.process.BaseProcess]:
        return list((getattr(self._pool, "_processes", None) or {}).values())

    def _died(self) -> RuntimeError:
        """The error to raise when a process has died; kills the others: the broken pool would wait for them. Pairs are
        taken in order, so those in flight are among the first that have no scores."""
        without = [key for key, future in self._scored.items() if not future.done() or future.exception()]
        children = self._children()
        dead = [str(child.pid) for child in children if connection.wait([child.sentinel], timeout=0)]
        for child in children:
            child.kill()
        return RuntimeError(
            f"scoring process (pid {', '.join(dead) or 'unknown'}) died, probably scoring "
            f"{' or '.join(without[: self._processes]) or 'nothing'}"
        )


def _initialize(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent answers it
    outlive_sigterm()
    exit_with_parent(parent)
