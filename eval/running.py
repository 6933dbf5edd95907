"""Actors speak, tasks score: every GPU and every core of a machine or a cluster at work (Ray Core).

An actor a GPU, or one for two cores where there is none, speaks whole micro-batches; each clip is then scored by a task
of its own. So a metric that takes its process with it costs that clip, and of its figures only the one at fault: it is
tried again metric by metric. What is under way is bounded, whatever the length of the list.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, Protocol

import torch

from eval.metrics import Scored, metric_of
from eval.scoring import Waves, score_waves
from eval.synthesis import SpokenBatch
from pipeline.jobs import Runner
from shards.reading.plan import MicroBatch

_CLIPS_AHEAD = 4
"""Clips a core that may wait to be scored: each holds its waveforms."""
_BATCHES_AHEAD = 2
"""Micro-batches that an actor has at once: it reads one while it speaks the other."""
_TRIES = 5
_POLL_SECONDS = 1.0


class Speaks(Protocol):
    """What speaks micro-batches: `Synthesiser`."""

    def speak(self, micro_batch: MicroBatch) -> SpokenBatch: ...


Finished = tuple[SpokenBatch, dict[str, dict[str, Scored]]]
"""A micro-batch as spoken, and by key and system its scores."""


class Crew(Protocol):
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
            ValueError, OSError: as `Synthesiser` and its `speak`.
        """
        ...


@contextmanager
def crew(runner: Runner, make: Callable[..., Speaks], device: str | None, batches: int) -> Iterator[Crew]:
    """Those who speak, at the ready until the block ends.

    Args:
        runner: of `pipeline.jobs.job_runner`.
        make: makes what speaks (`Synthesiser`), of keywords `device` and `threads`.
        device: `cpu`, `cuda`, or None: GPUs if there are any.
        batches: how many there are to speak: no more actors are wanted.

    Raises:
        ValueError: a GPU is asked for, and there is none.
    """
    if runner.ray is None:
        yield _Here(make(device=device or ("cuda" if torch.cuda.is_available() else "cpu"), threads=None))
        return
    # those that other jobs hold would be waited for
    gpus = int(runner.ray.available_resources().get("GPU", 0))
    if device == "cuda" and not gpus:
        raise ValueError("device: cuda, and Ray has no free GPU here")
    on_gpus = bool(gpus) and device != "cpu"
    count = gpus if on_gpus else max(1, runner.slots() // 2)
    actor = runner.ray.remote(
        num_cpus=0,  # tasks take the cores: an actor runs beside them
        num_gpus=int(on_gpus),
        max_concurrency=_BATCHES_AHEAD,
        max_restarts=-1,
        max_task_retries=_TRIES,
        scheduling_strategy="SPREAD",
    )(_Actor)
    arguments = {"device": "cuda", "threads": None} if on_gpus else {"device": "cpu", "threads": 1}
    shared = runner.ray.put(partial(make, **arguments))
    actors = [actor.remote() for _ in range(min(count, batches))]
    try:
        yield _Actors(runner, actors, shared)
    finally:
        for one in actors:
            runner.ray.kill(one)


class _Actor:
    """What speaks, in a process of its own. It is made with the first micro-batch, and again after a restart."""

    def __init__(self) -> None:
        self._speaks: Speaks | None = None
        self._making = Lock()

    def speak(self, make: list[Any], micro_batch: MicroBatch) -> SpokenBatch:
        """`make` holds the reference of what makes it: weights are fetched once, not with every micro-batch."""
        import ray

        with self._making:
            if self._speaks is None:
                self._speaks = ray.get(make[0])()
        return self._speaks.speak(micro_batch)


@dataclass(frozen=True)
class _Here:
    """This process does it all."""

    speaks: Speaks

    def work(
        self, planned: Sequence[MicroBatch], metrics: Sequence[str], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[Finished]:
        for micro_batch in planned:
            batch = self.speaks.speak(micro_batch)
            yield batch, {clip.key: score_waves(clip.waves, metrics) for clip in batch.clips}


@dataclass(frozen=True)
class _Actors:
    """Actors speak, and tasks score."""

    runner: Runner
    actors: list[Any]
    make: Any

    def work(
        self, planned: Sequence[MicroBatch], metrics: Sequence[str], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[Finished]:
        yield from _Work(self.runner, self.actors, self.make, deque(planned), list(metrics)).done(on_wait)


@dataclass
class _Scoring:
    """A batch whose clips are being scored: how many tasks are under way, and the scores so far."""

    batch: SpokenBatch
    left: int
    scores: dict[str, dict[str, Scored]] = field(default_factory=dict)


@dataclass
class _Task:
    """Scores some metrics of a clip of a batch; `tried`: once with all of them, and its process died."""

    number: int
    key: str
    waves: Waves
    metrics: list[str]
    tried: bool


class _Work:
    """What is to be spoken, and what is under way."""

    def __init__(
        self, runner: Runner, actors: list[Any], make: Any, planned: deque[MicroBatch], metrics: list[str]
    ) -> None:
        self._make = make
        self._ray, self._runner, self._planned, self._metrics = runner.ray, runner, planned, metrics
        self._idle = deque(actors * _BATCHES_AHEAD)
        self._speaking: dict[Any, Any] = {}
        self._scoring: dict[Any, _Task] = {}
        self._batches: dict[int, _Scoring] = {}
        self._score = runner.ray.remote(num_cpus=1, max_retries=0)(_score_on_one_thread)

    def done(self, on_wait: Callable[[], None]) -> Iterator[Finished]:
        while self._planned or self._speaking or self._scoring:
            while self._planned and self._idle and len(self._scoring) < _CLIPS_AHEAD * self._runner.slots():
                actor = self._idle.popleft()
                self._speaking[actor.speak.remote([self._make], self._planned.popleft())] = actor
            under_way = [*self._speaking, *self._scoring]
            ready, _ = self._ray.wait(under_way, num_returns=1, timeout=_POLL_SECONDS)
            if not ready:
                on_wait()
            for reference in ready:
                finished = self._scored(reference) if reference in self._scoring else self._spoken(reference)
                if finished is not None:
                    yield finished

    def _spoken(self, reference: Any) -> Finished | None:
        self._idle.append(self._speaking.pop(reference))
        try:
            batch: SpokenBatch = self._result(reference)
        except _ProcessDiedError as error:
            raise RuntimeError(
                f"an actor that speaks died: {error}; is there memory for fewer --max-frames?"
            ) from error
        if not batch.clips:
            return batch, {}
        self._batches[batch.number] = _Scoring(batch, 0)
        for clip in batch.clips:
            self._begin(_Task(batch.number, clip.key, clip.waves, self._metrics, False))
        return None

    def _begin(self, task: _Task) -> None:
        self._batches[task.number].left += 1
        self._scoring[self._score.remote(task.waves, task.metrics)] = task

    def _scored(self, reference: Any) -> Finished | None:
        task = self._scoring.pop(reference)
        of = self._batches[task.number]
        of.left -= 1
        try:
            self._merge(of, task.key, self._result(reference))
        except _ProcessDiedError as error:
            if task.tried or not task.metrics:
                self._merge(of, task.key, _all_failed(task, f"the process that measured it died: {error}"))
            else:
                for name in task.metrics:
                    self._begin(_Task(task.number, task.key, task.waves, [name], True))
        if of.left:
            return None
        del self._batches[task.number]
        return of.batch, of.scores

    @staticmethod
    def _merge(of: _Scoring, key: str, scores: dict[str, Scored]) -> None:
        known = of.scores.setdefault(key, {})
        for system, scored in scores.items():
            before = known.get(system, Scored({}, {}))
            known[system] = Scored(before.values | scored.values, before.failed | scored.failed)

    def _result(self, reference: Any) -> Any:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except exceptions.RayTaskError as error:
            if "ModuleNotFoundError" in str(error):
                cause = str(error).strip().splitlines()[-1]
                raise RuntimeError(f"{cause}: install lip-to-speech on every node of the cluster") from error
            raise error.cause if isinstance(error.cause, Exception) else error from error
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError) as error:
            raise _ProcessDiedError(str(error).splitlines()[0]) from error
        except exceptions.RayError as error:
            raise RuntimeError(f"an actor that speaks died: {error}") from error


class _ProcessDiedError(RuntimeError):
    """The process of a task is gone."""


def _all_failed(task: _Task, reason: str) -> dict[str, Scored]:
    alone = [name for name in task.metrics if metric_of(name).alone]
    return {
        system: Scored({}, dict.fromkeys(alone if system == "original" else task.metrics, reason))
        for system in task.waves
    }


def _score_on_one_thread(waves: Waves, metrics: list[str]) -> dict[str, Scored]:
    torch.set_num_threads(1)
    return score_waves(waves, metrics)
