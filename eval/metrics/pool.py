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

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from types import TracebackType

import numpy as np

from eval.metrics.pair_scores import PairScores, score
from eval.metrics.registry import load_packages
from eval.metrics.scoring_process import METRIC_SECONDS, ScoringProcess
from eval.metrics.waveforms import Wave

_MAX_PENDING = 32
"""Pairs in flight for each process: each holds its two waveforms in memory."""


class ScoringPool:
    """A pool of processes that score pairs; they start here and end with `close`.

    With 0 processes there is none but this one, and `submit` returns when the pair is scored. `ValueError` for a name
    that is no metric, or fewer than 0 processes; `PackageMissingError` where a metric's package is not installed.

    Args:
        names: of the metrics.
        processes: one thread each, since they are the parallelism.
        seconds: that a metric may take for a pair, in processes of the pool.
    """

    def __init__(self, names: Sequence[str], processes: int, seconds: float = METRIC_SECONDS) -> None:
        if processes < 0:
            raise ValueError(f"{processes} scoring processes: expected 0 (none but this one) or more")
        self._names = tuple(dict.fromkeys(names))
        load_packages(list(self._names))
        self._scored: dict[str, Future[PairScores]] = {}
        self._waiting: deque[Future[PairScores]] = deque()
        self._processes = [ScoringProcess(self._names, seconds, threads=1) for _ in range(processes)]
        self._free: SimpleQueue[ScoringProcess] = SimpleQueue()
        for process in self._processes:
            self._free.put(process)
        self._threads = ThreadPoolExecutor(processes) if processes else None

    def submit(self, key: str, original: Wave, generated: Wave) -> None:
        """Submit a pair, float32 (L,) at 16 kHz, which is copied; returns at once, or, with many in flight, when one is
        done.

        `key` is its name, given once between two `results`. `ValueError` for a key given before, or arrays of another
        shape or kind.
        """
        if key in self._scored:
            raise ValueError(f"{key} was given before: expected a name of its own for each pair")
        for side, wave in (("original", original), ("generated", generated)):
            if wave.ndim != 1 or wave.dtype.kind != "f":
                raise ValueError(f"{key}: the {side} is {wave.dtype} {wave.shape}: expected float32 (samples,)")
        # copies: they are scored later, when the caller may have reused its memory
        pair = np.array(original, np.float32), np.array(generated, np.float32)
        if self._threads is None:
            done: Future[PairScores] = Future()
            done.set_result(score(self._names, *pair))
            self._scored[key] = done
            return
        self._scored[key] = self._threads.submit(self._score, *pair)
        self._waiting.append(self._scored[key])
        if len(self._waiting) > _MAX_PENDING * len(self._processes):
            wait([self._waiting.popleft()])

    def results(self) -> dict[str, PairScores]:
        """The scores of all pairs since the last call, in the order submitted; waits for those in flight.

        A metric whose process dies, or takes too long, has no figure and the reason in `failed`. `RuntimeError` where
        processes cannot be started.
        """
        scored = {key: future.result() for key, future in self._scored.items()}
        self._scored = {}
        return scored

    def close(self) -> None:
        """Kill the processes; pairs in flight are lost."""
        for process in self._processes:
            process.close()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> ScoringPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes if process.pid is not None]

    def _score(self, original: Wave, generated: Wave) -> PairScores:
        process = self._free.get()
        try:
            return process.score(self._names, original, generated)
        finally:
            self._free.put(process)
