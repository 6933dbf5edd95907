"""Executors of an evaluation: this process (`eval.local_executor`), or Ray actors that synthesize and tasks that score.

An actor a GPU, or one for two cores where there is none, synthesizes whole micro-batches; each clip is then scored by a
task of its own. Metrics are measured in a process beside the one that asks for them, with and without Ray: one that
crashes, exits or hangs costs its figure (`eval.metrics.scoring_process`). What is in flight is bounded, whatever the
length of the list.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from threading import Lock
from typing import Any

import torch

from eval.batch_synthesis import BatchSynthesizer, SynthesizedBatch
from eval.local_executor import LocalExecutor, ScoredBatch, Scores
from eval.metrics.pair_scores import PairScores
from eval.metrics.scoring_process import ScoringProcess
from eval.scoring import Waves, metrics_for, score_waves
from eval.systems import device_of
from runtime.ray_jobs import Runner, TaskTimeoutError, cause_of
from runtime.ray_watch import Watch
from shards.loading.planned_batches import MicroBatch

_RETRIES = 5
_TRIES_OF_A_TIMEOUT = 3
_BATCHES_IN_FLIGHT = 2
"""Micro-batches that an actor has at once: it reads one while it synthesizes the other."""
_CLIPS_IN_FLIGHT = 4
"""Clips a core that may wait to be scored: each holds its waveforms."""
_POLL_SECONDS = 1.0


@contextmanager
def start_executor(
    runner: Runner,
    make: Callable[..., BatchSynthesizer],
    device: str | None,
    batches: int,
    metric_timeout: float,
    scorers: Sequence[ScoringProcess] = (),
) -> Iterator[LocalExecutor | RayExecutor]:
    """An executor, whose actors live until the block ends.

    Args:
        runner: of Ray; without it everything is done here.
        make: makes what synthesizes, of keywords `device` and `threads`.
        device: `cpu`, `cuda`, or None: GPUs if there are any; `ValueError` where one is asked for and there is none.
        batches: how many there are: no more actors are started.
        metric_timeout: seconds that a metric may take for a clip of a system.
        scorers: of this machine, that score where Ray does not.
    """
    if runner.ray is None:
        kind = device_of(device).type
        # where several processes score, as on Ray: one thread, whose figures are the same
        yield LocalExecutor(make(device=kind, threads=1 if kind == "cpu" and len(scorers) > 1 else None), scorers)
        return
    # those that other jobs hold would be waited for
    gpus = int(runner.ray.available_resources().get("GPU", 0))
    on_gpus = device_of(device, gpus).type == "cuda"
    count = gpus if on_gpus else max(1, runner.slots() // 2)
    actor = runner.ray.remote(
        num_cpus=0,  # tasks take the cores: an actor runs beside them
        num_gpus=int(on_gpus),
        max_concurrency=_BATCHES_IN_FLIGHT,
        max_restarts=-1,
        max_task_retries=_RETRIES,
        scheduling_strategy="SPREAD",
    )(_Actor)
    arguments = {"device": "cuda", "threads": None} if on_gpus else {"device": "cpu", "threads": 1}
    shared = runner.ray.put(partial(make, **arguments))
    actors = [actor.remote() for _ in range(min(count, batches))]
    try:
        yield RayExecutor(runner, actors, shared, metric_timeout)
    finally:
        for one in actors:
            runner.ray.kill(one)


class _Actor:
    """A `BatchSynthesizer` in a process of its own. It is made with the first micro-batch, and again after a restart:
    made in `__init__`, an error of the user's would look like an actor that died."""

    def __init__(self) -> None:
        self._synthesizer: BatchSynthesizer | None = None
        self._making = Lock()

    def synthesize(self, make: list[Any], micro_batch: MicroBatch) -> SynthesizedBatch:
        """`make` holds the reference of what makes it: weights are fetched once, not with every micro-batch."""
        import ray

        with self._making:
            if self._synthesizer is None:
                self._synthesizer = ray.get(make[0])()
        return self._synthesizer.synthesize(micro_batch)


@dataclass
class _Scoring:
    """A batch whose clips are being scored: how many tasks are in flight, and the scores so far."""

    batch: SynthesizedBatch
    left: int = 0
    scores: dict[str, Scores] = field(default_factory=dict)


@dataclass
class _Task:
    """Scores some metrics of a clip of a batch; `tried`: once with all of them, and its process died."""

    number: int
    key: str
    waves: Waves
    metrics: list[str]
    tried: bool


class _ProcessDiedError(RuntimeError):
    """The process of a task is gone."""


class RayExecutor:
    """Actors synthesize, and tasks score; some of both die."""

    def __init__(self, runner: Runner, actors: list[Any], make: Any, metric_timeout: float) -> None:
        self._runner, self._ray, self._actors, self._make = runner, runner.ray, actors, make
        self._metric_timeout = metric_timeout
        self._score = runner.ray.remote(num_cpus=1, max_retries=0)(_score_on_one_thread)

    def run(
        self, planned: Sequence[MicroBatch], metrics: Sequence[str], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[ScoredBatch]:
        """As `LocalExecutor.run`, and `RuntimeError` where an actor died time and again, or its node is gone."""
        waiting, self._metrics = deque(planned), list(metrics)
        self._idle = deque(self._actors * _BATCHES_IN_FLIGHT)
        self._synthesizing: dict[Any, tuple[Any, MicroBatch]] = {}
        self._late: Counter[int] = Counter()
        self._watch = Watch(self._ray, self._runner.workers, self._runner.task_timeout)
        self._scoring: dict[Any, _Task] = {}
        self._batches: dict[int, _Scoring] = {}
        while waiting or self._synthesizing or self._scoring:
            while waiting and self._idle and len(self._scoring) < _CLIPS_IN_FLIGHT * self._watch.slots():
                actor = self._idle.popleft()
                micro_batch = waiting.popleft()
                reference = actor.synthesize.remote([self._make], micro_batch)
                self._synthesizing[reference] = actor, micro_batch
                self._watch.begin(reference)
            in_flight = [*self._synthesizing, *self._scoring]
            ready, _ = self._ray.wait(in_flight, num_returns=1, timeout=_POLL_SECONDS)
            if not ready:
                on_wait()
            for reference in ready:
                finished = self._scored(reference) if reference in self._scoring else self._synthesized(reference)
                if finished is not None:
                    yield finished
            self._end(self._watch.overdue(ready))

    def _end(self, late: list[Any]) -> None:
        """Kill what takes too long, also what was stopped: clips are then scored metric by metric, and batches
        synthesized by the actor that is started again."""
        for reference in late:
            if reference in self._scoring:
                self._ray.cancel(reference, force=True)
        late_batches = [self._synthesizing[reference] for reference in late if reference in self._synthesizing]
        for _, micro_batch in late_batches:
            self._late[micro_batch.number] += 1
            if self._late[micro_batch.number] == _TRIES_OF_A_TIMEOUT:
                rows = ", ".join(str(clip.row) for clip in micro_batch.clips[:5])
                raise TaskTimeoutError(
                    f"a batch of {len(micro_batch.clips)} clips (rows {rows} of the index among them) took longer than "
                    f"the task timeout of {self._runner.task_timeout:g} s, {_TRIES_OF_A_TIMEOUT} times: its worker "
                    "hangs or was stopped; if it only needs more time, set --task-timeout"
                )
        for actor in self._actors:
            if any(actor is its for its, _ in late_batches):
                self._ray.kill(actor, no_restart=False)
                for reference, (its, _) in self._synthesizing.items():
                    if its is actor:
                        self._watch.begin(reference)

    def _synthesized(self, reference: Any) -> ScoredBatch | None:
        self._idle.append(self._synthesizing.pop(reference)[0])
        try:
            batch: SynthesizedBatch = self._result(reference)
        except _ProcessDiedError as error:
            raise RuntimeError(
                f"an actor that synthesizes died: {error}; is there memory for fewer --max-padded-frames?"
            ) from error
        if not batch.clips:
            return batch, {}
        self._batches[batch.number] = _Scoring(batch)
        for clip in batch.clips:
            self._begin(_Task(batch.number, clip.key, clip.waves, self._metrics, False))
        return None

    def _begin(self, task: _Task) -> None:
        self._batches[task.number].left += 1
        reference = self._score.remote(task.waves, task.metrics, self._metric_timeout)
        self._scoring[reference] = task
        self._watch.begin(reference)

    def _scored(self, reference: Any) -> ScoredBatch | None:
        task = self._scoring.pop(reference)
        of = self._batches[task.number]
        of.left -= 1
        scores: Scores = {}
        try:
            scores = self._result(reference)
        except _ProcessDiedError as error:
            if task.tried or not task.metrics:
                why = f"the process that measured it died: {error}"
                scores = {
                    system: PairScores({}, dict.fromkeys(metrics_for(system, task.metrics), why))
                    for system in task.waves
                }
            else:
                for name in task.metrics:
                    self._begin(_Task(task.number, task.key, task.waves, [name], True))
        known = of.scores.setdefault(task.key, {})
        for system, scored in scores.items():
            values, failed = known.setdefault(system, PairScores({}, {}))
            values.update(scored.values)
            failed.update(scored.failed)
        if of.left:
            return None
        del self._batches[task.number]
        return of.batch, of.scores

    def _result(self, reference: Any) -> Any:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except exceptions.RayTaskError as error:
            raise cause_of(error) from error
        except exceptions.TaskCancelledError as error:
            raise _ProcessDiedError(f"it took longer than {self._runner.task_timeout:g} s") from error
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError) as error:
            raise _ProcessDiedError(str(error).splitlines()[0]) from error
        except exceptions.RayError as error:
            raise RuntimeError(f"an actor that synthesizes died: {error}") from error


def _score_on_one_thread(waves: Waves, metrics: list[str], metric_timeout: float) -> Scores:
    torch.set_num_threads(1)
    return score_waves(waves, metrics, _scorer_of(tuple(metrics), metric_timeout))


@lru_cache(1)  # of the worker, for the next tasks
def _scorer_of(metrics: tuple[str, ...], metric_timeout: float) -> ScoringProcess:
    return ScoringProcess(metrics, metric_timeout, threads=1)
