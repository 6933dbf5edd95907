"""Executors of an evaluation: this process alone, or Ray actors that synthesize and Ray tasks that score.

An actor a GPU, or one for two cores where there is none, synthesizes whole micro-batches; each clip is then scored by a
task of its own (eval/scheduler.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Protocol

from eval.batch_synthesis import SynthesizedBatch
from eval.scheduler import BATCHES_IN_FLIGHT, Scheduler, ScoredBatch
from eval.scoring import score_waves
from eval.systems import device_of
from runtime.ray_jobs import Runner
from shards.loading.batch_plan import MicroBatch

_RETRIES = 5


class Synthesizes(Protocol):
    """What synthesizes micro-batches: `BatchSynthesizer`."""

    def synthesize(self, micro_batch: MicroBatch) -> SynthesizedBatch: ...


class Executor(Protocol):
    """Synthesizes and scores micro-batches."""

    def run(
        self, planned: Sequence[MicroBatch], metrics: Sequence[str], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[ScoredBatch]:
        """Synthesize and score micro-batches; they come as they are finished.

        Args:
            planned: what to synthesize.
            metrics: names.
            on_wait: called about once a second while nothing has finished.

        Raises:
            RuntimeError: an actor died time and again, or its node is gone.
            ValueError, OSError: as `BatchSynthesizer` and its `synthesize`.
        """
        ...


@contextmanager
def start_executor(
    runner: Runner, make: Callable[..., Synthesizes], device: str | None, batches: int
) -> Iterator[Executor]:
    """An executor, whose actors live until the block ends.

    Args:
        runner: of `runtime.ray_jobs.job_runner`.
        make: makes what synthesizes (`BatchSynthesizer`), of keywords `device` and `threads`.
        device: `cpu`, `cuda`, or None: GPUs if there are any.
        batches: how many there are: no more actors are started.

    Raises:
        ValueError: a GPU is asked for, and there is none.
    """
    if runner.ray is None:
        yield LocalExecutor(make(device=device_of(device).type, threads=None))
        return
    # those that other jobs hold would be waited for
    gpus = int(runner.ray.available_resources().get("GPU", 0))
    on_gpus = device_of(device, gpus).type == "cuda"
    count = gpus if on_gpus else max(1, runner.slots() // 2)
    actor = runner.ray.remote(
        num_cpus=0,  # tasks take the cores: an actor runs beside them
        num_gpus=int(on_gpus),
        max_concurrency=BATCHES_IN_FLIGHT,
        max_restarts=-1,
        max_task_retries=_RETRIES,
        scheduling_strategy="SPREAD",
    )(_Actor)
    arguments = {"device": "cuda", "threads": None} if on_gpus else {"device": "cpu", "threads": 1}
    shared = runner.ray.put(partial(make, **arguments))
    actors = [actor.remote() for _ in range(min(count, batches))]
    try:
        yield RayExecutor(runner, actors, shared)
    finally:
        for one in actors:
            runner.ray.kill(one)


class _Actor:
    """A `BatchSynthesizer` in a process of its own. It is made with the first micro-batch, and again after a restart:
    made in `__init__`, an error of the user's would look like an actor that died."""

    def __init__(self) -> None:
        self._synthesizes: Synthesizes | None = None
        self._making = Lock()

    def synthesize(self, make: list[Any], micro_batch: MicroBatch) -> SynthesizedBatch:
        """`make` holds the reference of what makes it: weights are fetched once, not with every micro-batch."""
        import ray

        with self._making:
            if self._synthesizes is None:
                self._synthesizes = ray.get(make[0])()
        return self._synthesizes.synthesize(micro_batch)


@dataclass(frozen=True)
class LocalExecutor:
    """Everything in this process, without Ray."""

    synthesizes: Synthesizes

    def run(
        self, planned: Sequence[MicroBatch], metrics: Sequence[str], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[ScoredBatch]:
        for micro_batch in planned:
            batch = self.synthesizes.synthesize(micro_batch)
            yield batch, {clip.key: score_waves(clip.waves, metrics) for clip in batch.clips}


@dataclass(frozen=True)
class RayExecutor:
    """Actors synthesize, and tasks score."""

    runner: Runner
    actors: list[Any]
    make: Any

    def run(
        self, planned: Sequence[MicroBatch], metrics: Sequence[str], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[ScoredBatch]:
        yield from Scheduler(self.runner, self.actors, self.make, deque(planned), list(metrics)).finished(on_wait)
