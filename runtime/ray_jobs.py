"""Run one function over many items with Ray, on this machine or on a cluster; the same code on both.

When a worker or node dies, or the function fails in a way that passes, the item is tried again, a bounded number of
times; what still fails comes back as the item's error and the others continue. An item whose worker is killed for
memory is tried again while no other runs. One that takes longer than the task timeout, since its worker hangs or was
stopped, is ended and tried again. A cluster that no longer answers ends the job.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, TypeVar

from runtime.ray_connection import connected_ray
from runtime.ray_watch import Watch, processors_of
from runtime.terminal import say

Item = TypeVar("Item")
Result = TypeVar("Result")

_TRIES_OF_A_CRASH = 6
_TRIES = 3
PAUSE_SECONDS = 1.0
"""Before what failed is tried again; twice as long each time."""
_POLL_SECONDS = 1.0
TASK_TIMEOUT = 3600.0
"""Seconds that an item may take, a shard of a build for one: far more than that needs."""


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What became of one item: its result, or the error that its last try ended with."""

    item: Item
    result: Result | None
    error: Exception | None


class TaskTimeoutError(RuntimeError):
    """An item took longer than the task timeout, each time that it was tried."""


class WorkerKilledError(RuntimeError):
    """The process that ran an item was killed, time and again: the system does so where memory runs out."""


@contextmanager
def job_runner(address: str | None, workers: int | None, task_timeout: float = TASK_TIMEOUT) -> Iterator[Runner]:
    """Start Ray here, or join the cluster at `address` for one job.

    Args:
        address: "auto" or "host:6379"; None starts Ray on this machine and stops it at the end.
        workers: items in flight at once; default: as many as there are processors. 0 runs in this process, without Ray.
        task_timeout: seconds that an item may take with Ray.

    Raises:
        ValueError: `workers` is negative, `task_timeout` is not above 0, or as `runtime.ray_connection.connected_ray`.
    """
    if workers is not None and workers < 0:
        raise ValueError(f"workers: {workers} was expected to be 0 or more")
    if not task_timeout > 0:
        raise ValueError(f"task_timeout: {task_timeout} was expected to be above 0 (seconds)")
    if workers == 0:
        yield Runner(None, 0)
        return
    with connected_ray(address, workers) as ray:
        runner = Runner(ray, workers, task_timeout)
        if not runner.processors():
            say(f"the cluster at {address} has no processors yet: waiting for a node", sys.stderr)
        yield runner


@dataclass(frozen=True)
class Runner:
    """Runs jobs; made by `job_runner`.

    Attributes:
        ray: the module, connected; None runs in this process.
        workers: items in flight at once; None: one a processor of the cluster.
        task_timeout: seconds from when an item is handed to the cluster, where it may wait for a processor, to its
            result.
    """

    ray: Any
    workers: int | None
    task_timeout: float = TASK_TIMEOUT

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        on_wait: Callable[[], None] = lambda: None,
        retry_on: tuple[type[Exception], ...] = (),
    ) -> Iterator[Outcome[Item, Result]]:
        """Apply `function` to every item.

        Args:
            function: importable where the workers run; best idempotent, since an item may be tried again.
            items: what it is given.
            on_wait: called about once a second while nothing has finished.
            retry_on: errors of `function` after which an item is tried again: networks stumble, and a full disk may be
                emptied.

        Returns:
            Outcomes, in the order in which they finish; the error is a `WorkerKilledError` where workers died of it.
        """
        job = _retrying(function, retry_on, PAUSE_SECONDS, one_thread=self.ray is not None)
        if self.ray is None:
            for item in items:
                try:
                    outcome = Outcome(item, job(item), None)
                except Exception as failure:
                    outcome = Outcome(item, None, failure)
                yield outcome
            return
        # tried again here: after a kill for memory Ray itself would do so without end, beside the others
        task, exceptions = self.ray.remote(num_cpus=1, max_retries=0)(job), self.ray.exceptions
        waiting = [(item, 0) for item in reversed(items)]  # and how often its worker died
        alone: list[tuple[Item, int]] = []
        running: dict[Any, tuple[Item, int]] = {}
        watch = Watch(self.ray, self.workers, self.task_timeout)
        while waiting or alone or running:
            ready = [alone.pop()] if alone and not waiting and not running else []
            while waiting and len(running) + len(ready) < watch.slots():
                ready.append(waiting.pop())
            for item, deaths in ready:
                reference = task.remote(item)
                running[reference] = item, deaths
                watch.begin(reference)
            finished, _ = self.ray.wait(list(running), timeout=_POLL_SECONDS)
            if not finished:
                on_wait()
            late = watch.overdue(finished)
            for reference in late:  # its worker is killed, also one that was stopped
                self.ray.cancel(reference, force=True)
            for reference in [*finished, *late]:
                (item, deaths), result, error = running.pop(reference), None, None
                if reference in late:
                    deaths += 1
                    if deaths < _TRIES:
                        waiting.insert(0, (item, deaths))
                        continue
                    yield Outcome(item, None, _timed_out(self.task_timeout, deaths))
                    continue
                try:
                    result = self.ray.get(reference)
                except exceptions.RayTaskError as failure:
                    error = cause_of(failure)
                except exceptions.RayError as failure:
                    deaths += 1
                    for_memory = isinstance(failure, exceptions.OutOfMemoryError)
                    if deaths < (_TRIES if for_memory else _TRIES_OF_A_CRASH):
                        (alone if for_memory or deaths > 1 else waiting).append((item, deaths))
                        continue
                    why = "for want of memory" if for_memory else f"or died ({str(failure).splitlines()[0]})"
                    error = WorkerKilledError(
                        f"its process was killed {why}, {deaths} times, at last with no other beside it"
                    )
                yield Outcome(item, result, error)

    def slots(self) -> int:
        """Items in flight at once: a cluster may grow and shrink meanwhile."""
        return self.workers or max(1, self.processors())

    def processors(self) -> int:
        """Processors of the cluster as it is now."""
        return processors_of(self.ray)


def _timed_out(seconds: float, times: int) -> TaskTimeoutError:
    return TaskTimeoutError(
        f"took longer than the task timeout of {seconds:g} s, {times} times: its worker hangs or was stopped; if it "
        "only needs more time, set --task-timeout"
    )


def cause_of(error: Any) -> Exception:
    """What a task raised where it ran, of Ray's `RayTaskError`; a module that is missing there says what to do."""
    if "ModuleNotFoundError" in str(error):
        cause = str(error).strip().splitlines()[-1]
        return RuntimeError(f"{cause}: install lip-to-speech on every node of the cluster")
    found: Exception = error.cause if isinstance(error.cause, Exception) else error
    return found


def _retrying(
    function: Callable[[Item], Result], retried: tuple[type[Exception], ...], pause: float, one_thread: bool
) -> Callable[[Item], Result]:
    """A function that is tried again, its torch work on one thread where the workers are the parallelism."""

    @wraps(function)
    def run(item: Item) -> Result:
        if one_thread:
            import torch

            torch.set_num_threads(1)
        for failures in range(_TRIES - 1):
            try:
                return function(item)
            except retried:
                time.sleep(pause * 2**failures)
        return function(item)

    return run
