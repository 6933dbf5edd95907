"""A process that scores waveform pairs for another one, so that a metric that crashes, exits or hangs costs its figure.

The process is started with `python`, not forked: a fork of a program with threads and a GPU could do little safely. It
imports nothing but the metrics. Each metric of a pair has a time limit; a process that dies or is over the limit is
killed and started anew, and whose metric died is tried once more, for the system kills whatever is large.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection
from typing import Any

import numpy as np

from eval.metrics.optional import PackageMissingError
from eval.metrics.pair_scores import PairScores, score
from eval.metrics.registry import SPEECH_METRICS, load_packages
from eval.metrics.waveforms import Wave
from runtime.constants import SAMPLE_RATE
from runtime.signals import exit_in_words, exit_with_parent, outlive_sigterm

METRIC_SECONDS = 300.0
"""That a metric may take for a pair, by default."""

_START_SECONDS = 300.0
"""That importing the metrics may take."""

_POLL_SECONDS = 1.0
_TRIES, _STARTS = 2, 3
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from eval.metrics.scoring_process import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"
)


class ScoringStoppedError(RuntimeError):
    """The process that scores was closed, or cannot be started."""


class _DiedError(Exception):
    """The process is gone, or was killed since its time was over (`timed_out`); the message says which."""

    def __init__(self, message: str, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class ScoringProcess:
    """A process that scores pairs one at a time; it starts here and ends with `close`.

    Args:
        names: of the metrics; what they import is imported before the first pair.
        seconds: that each of them may take for a pair.
        threads: of each numerical library in the process; None: as the environment says.
    """

    def __init__(self, names: Sequence[str], seconds: float = METRIC_SECONDS, threads: int | None = None) -> None:
        self._names, self._seconds = tuple(names), seconds
        self._environment = dict(os.environ)
        if threads is not None:
            self._environment |= dict.fromkeys(_THREADS, str(threads))
        self._lock, self._closed = threading.Lock(), False
        self._process: subprocess.Popen[bytes] | None = None
        if names:
            self._start()

    def score(self, names: Sequence[str], original: Wave, generated: Wave) -> PairScores:
        """Scores as `pair_scores.score`; a metric whose process dies twice, or is over its time, is in `failed`.

        Raises:
            PackageMissingError: a metric imports what is not installed.
            ScoringStoppedError: the process was closed meanwhile, or cannot be started.
        """
        scored, left, deaths = PairScores({}, {}), list(names), 0
        while left:
            try:
                for name in self._scored(tuple(left), original, generated, scored):
                    left.remove(name)
                    deaths = 0
            except _DiedError as error:
                deaths += 1
                if error.timed_out or deaths == _TRIES:
                    scored.failed[left.pop(0)] = str(error)
                    deaths = 0
        return scored

    def close(self) -> None:
        """Kill the process; a pair in progress is lost."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> ScoringProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                raise ScoringStoppedError("the process that scores was closed")
            self._connection, others = connection.Pipe()
            with others:
                command = [sys.executable, "-c", _PROGRAM, str(others.fileno()), str(os.getpid()), json.dumps(sys.path)]
                # a session of its own: Ctrl-C is the parent's to answer
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[others.fileno()],
                    env=self._environment,
                    start_new_session=True,
                )
            with suppress(OSError):  # it died at once: `_scored` finds out
                self._connection.send(list(self._names))  # it imports and compiles while the caller does something else
        self._ready = False

    def _scored(self, names: Sequence[str], original: Wave, generated: Wave, scored: PairScores) -> Iterator[str]:
        """Score a pair, metric by metric: each name once its score is there (`_DiedError`)."""
        for tries in range(1, _STARTS + 1):
            if self._process is None or self._process.poll() is not None:
                self._start()
            if self._ready:
                break
            try:
                self._exchange(_START_SECONDS)
                self._ready = True
            except _DiedError as error:
                if tries == _STARTS:
                    raise ScoringStoppedError(f"the process that scores does not start: {error}") from error
        for name in names:
            pair = (np.asarray(original), np.asarray(generated)) if name == names[0] else None
            found = self._exchange(self._seconds, (name, pair))
            scored.values.update(found.values)
            scored.failed.update(found.failed)
            yield name

    def _exchange(self, seconds: float, request: Any = None) -> Any:
        """The answer to a request, without one to that of the start; kills the process where it does not come in time
        (`_DiedError`)."""
        expired, process = threading.Event(), self._process
        assert process is not None

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(seconds, expire)
        timer.start()
        try:
            if request is not None:
                self._connection.send(request)
            while not self._connection.poll(_POLL_SECONDS):
                if process.poll() is not None and not self._connection.poll():
                    raise EOFError
            answer = self._connection.recv()
        except (OSError, EOFError) as error:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)  # the pipe breaks before the process has ended
            process.kill()
            status = process.wait()
            if self._closed:
                raise ScoringStoppedError("the process that scores was closed") from error
            if expired.is_set():
                raise _DiedError(f"timed out after {seconds:g} s", timed_out=True) from error
            raise _DiedError(f"the process that measured it died: {exit_in_words(status)}", timed_out=False) from error
        finally:
            timer.cancel()
        if isinstance(answer, str):
            raise PackageMissingError(answer)
        return answer


def _warm_up(names: Sequence[str]) -> None:
    """Measure our metrics once, on noise: packages are imported on first use, and numba compiles or reads its cache."""
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    score([name for name in names if name in SPEECH_METRICS], noise, noise)


def serve(descriptor: int, parent: int) -> None:
    """What the process does: import metrics, then answer with the scores of one metric and pair at a time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outlive_sigterm()
    exit_with_parent(parent)
    with suppress(EOFError, OSError), connection.Connection(descriptor) as to_parent:
        pair: Any = None
        while True:
            request = to_parent.recv()
            try:
                if isinstance(request, list):
                    load_packages(request)
                    _warm_up(request)
                    to_parent.send(None)
                    continue
                name, given = request
                pair = pair if given is None else given
                to_parent.send(score([name], *pair))
            except (ImportError, ValueError) as error:  # no such package: every pair would fail
                to_parent.send(str(error))
