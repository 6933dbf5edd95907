"""Scheduler of an evaluation on Ray: actors synthesize micro-batches, tasks score their clips, and some of both die.

A metric that takes its process with it costs that clip, and of its figures only the one at fault: the clip is tried
again metric by metric. What is in flight is bounded, whatever the length of the list.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from eval.batch_synthesis import SynthesizedBatch
from eval.metrics import PairScores, metric_of
from eval.scoring import Waves, score_waves
from runtime.ray_jobs import Runner, cause_of
from shards.loading.batch_plan import MicroBatch

BATCHES_IN_FLIGHT = 2
"""Micro-batches that an actor has at once: it reads one while it synthesizes the other."""
_CLIPS_IN_FLIGHT = 4
"""Clips a core that may wait to be scored: each holds its waveforms."""
_POLL_SECONDS = 1.0

ScoredBatch = tuple[SynthesizedBatch, dict[str, dict[str, PairScores]]]
"""A micro-batch as synthesized, and by key and system its scores."""


@dataclass
class _Scoring:
    """A batch whose clips are being scored: how many tasks are in flight, and the scores so far."""

    batch: SynthesizedBatch
    left: int
    scores: dict[str, dict[str, PairScores]] = field(default_factory=dict)


@dataclass
class _Task:
    """Scores some metrics of a clip of a batch; `tried`: once with all of them, and its process died."""

    number: int
    key: str
    waves: Waves
    metrics: list[str]
    tried: bool


class Scheduler:
    """What is to be synthesized, and what is in flight."""

    def __init__(
        self, runner: Runner, actors: list[Any], make: Any, planned: deque[MicroBatch], metrics: list[str]
    ) -> None:
        self._make = make
        self._ray, self._runner, self._planned, self._metrics = runner.ray, runner, planned, metrics
        self._idle = deque(actors * BATCHES_IN_FLIGHT)
        self._synthesizing: dict[Any, Any] = {}
        self._scoring: dict[Any, _Task] = {}
        self._batches: dict[int, _Scoring] = {}
        self._score = runner.ray.remote(num_cpus=1, max_retries=0)(_score_on_one_thread)

    def finished(self, on_wait: Callable[[], None]) -> Iterator[ScoredBatch]:
        """Micro-batches as they are finished; see `Executor.run`."""
        while self._planned or self._synthesizing or self._scoring:
            while self._planned and self._idle and len(self._scoring) < _CLIPS_IN_FLIGHT * self._runner.slots():
                actor = self._idle.popleft()
                self._synthesizing[actor.synthesize.remote([self._make], self._planned.popleft())] = actor
            in_flight = [*self._synthesizing, *self._scoring]
            ready, _ = self._ray.wait(in_flight, num_returns=1, timeout=_POLL_SECONDS)
            if not ready:
                on_wait()
            for reference in ready:
                finished = self._scored(reference) if reference in self._scoring else self._synthesized(reference)
                if finished is not None:
                    yield finished

    def _synthesized(self, reference: Any) -> ScoredBatch | None:
        self._idle.append(self._synthesizing.pop(reference))
        try:
            batch: SynthesizedBatch = self._result(reference)
        except _ProcessDiedError as error:
            raise RuntimeError(
                f"an actor that synthesizes died: {error}; is there memory for fewer --max-padded-frames?"
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

    def _scored(self, reference: Any) -> ScoredBatch | None:
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
    def _merge(of: _Scoring, key: str, scores: dict[str, PairScores]) -> None:
        known = of.scores.setdefault(key, {})
        for system, scored in scores.items():
            before = known.get(system, PairScores({}, {}))
            known[system] = PairScores(before.values | scored.values, before.failed | scored.failed)

    def _result(self, reference: Any) -> Any:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except exceptions.RayTaskError as error:
            raise cause_of(error) from error
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError) as error:
            raise _ProcessDiedError(str(error).splitlines()[0]) from error
        except exceptions.RayError as error:
            raise RuntimeError(f"an actor that synthesizes died: {error}") from error


class _ProcessDiedError(RuntimeError):
    """The process of a task is gone."""


def _all_failed(task: _Task, reason: str) -> dict[str, PairScores]:
    alone = [name for name in task.metrics if metric_of(name).alone]
    return {
        system: PairScores({}, dict.fromkeys(alone if system == "original" else task.metrics, reason))
        for system in task.waves
    }


def _score_on_one_thread(waves: Waves, metrics: list[str]) -> dict[str, PairScores]:
    torch.set_num_threads(1)
    return score_waves(waves, metrics)
