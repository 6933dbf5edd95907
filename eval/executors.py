"""Actors speak, tasks score: every GPU and every core of a machine or a cluster at work (Ray Core).

An actor a GPU, or one for two cores where there is none, speaks whole micro-batches; each clip is then scored by a task
of its own. So a metric that takes its process with it costs that clip, and of its figures only the one at fault: it is
tried again metric by metric. What is under way is bounded, whatever the length of the list.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Protocol

from eval.scheduler import BATCHES_AHEAD, Finished, Work
from eval.scoring import score_waves
from eval.synthesis import SynthesizedBatch
from eval.systems import device_of
from runtime.ray_jobs import Runner
from shards.loading.batch_plan import MicroBatch

_TRIES = 5


class Speaks(Protocol):
    """What speaks micro-batches: `Synthesizer`."""

    def speak(self, micro_batch: MicroBatch) -> SynthesizedBatch: ...


class Executor(Protocol):
    """Whoever speaks and scores."""

    def work(
        self, planned: Sequence[MicroBatch], metrics: Sequence[str], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[Finished]:
        """Speak and score micro-batches; they come as they are finished.

        Args:
            planned: what to speak.
            metrics: names.
            on_wait: called about once a second while nothing has finished.

        Raises:
            RuntimeError: an actor died time and again, or its node is gone.
            ValueError, OSError: as `Synthesizer` and its `speak`.
        """
        ...


@contextmanager
def crew(runner: Runner, make: Callable[..., Speaks], device: str | None, batches: int) -> Iterator[Executor]:
    """Those who speak, at the ready until the block ends.

    Args:
        runner: of `runtime.ray_jobs.job_runner`.
        make: makes what speaks (`Synthesizer`), of keywords `device` and `threads`.
        device: `cpu`, `cuda`, or None: GPUs if there are any.
        batches: how many there are to speak: no more actors are wanted.

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
        max_concurrency=BATCHES_AHEAD,
        max_restarts=-1,
        max_task_retries=_TRIES,
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
    """What speaks, in a process of its own. It is made with the first micro-batch, and again after a restart."""

    def __init__(self) -> None:
        self._speaks: Speaks | None = None
        self._making = Lock()

    def speak(self, make: list[Any], micro_batch: MicroBatch) -> SynthesizedBatch:
        """`make` holds the reference of what makes it: weights are fetched once, not with every micro-batch."""
        import ray

        with self._making:
            if self._speaks is None:
                self._speaks = ray.get(make[0])()
        return self._speaks.speak(micro_batch)


@dataclass(frozen=True)
class LocalExecutor:
    """This process does it all."""

    speaks: Speaks

    def work(
        self, planned: Sequence[MicroBatch], metrics: Sequence[str], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[Finished]:
        for micro_batch in planned:
            batch = self.speaks.speak(micro_batch)
            yield batch, {clip.key: score_waves(clip.waves, metrics) for clip in batch.clips}


@dataclass(frozen=True)
class RayExecutor:
    """Actors speak, and tasks score."""

    runner: Runner
    actors: list[Any]
    make: Any

    def work(
        self, planned: Sequence[MicroBatch], metrics: Sequence[str], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[Finished]:
        yield from Work(self.runner, self.actors, self.make, deque(planned), list(metrics)).done(on_wait)
