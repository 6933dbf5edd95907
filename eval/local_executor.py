"""Executor of an evaluation on this machine, without Ray: this process synthesizes, processes beside it score.

Ray takes longer to start than it takes to score a few minutes of sound. The caller starts the scoring processes, early:
they import and compile while the networks load.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue

from eval.batch_synthesis import BatchSynthesizer, SynthesizedBatch
from eval.metrics.pair_scores import PairScores
from eval.metrics.scoring_process import ScoringProcess
from eval.scoring import Waves, score_waves
from shards.loading.planned_batches import MicroBatch

Scores = dict[str, PairScores]
"""Scores of a clip by system."""

ScoredBatch = tuple[SynthesizedBatch, dict[str, Scores]]
"""A micro-batch as synthesized, and the scores of its clips by key."""

_BATCHES_AHEAD = 2
"""Micro-batches that may wait to be scored: each holds its waveforms."""
_POLL_SECONDS = 1.0

_Scoring = tuple[SynthesizedBatch, dict[str, Future[Scores]]]


class LocalExecutor:
    """Synthesizes here, scores in processes; all systems of a clip in the same one, which knows the original by then.

    Args:
        scorers: one or more, of the metrics that `run` is given; the caller closes them.
    """

    def __init__(self, synthesizer: BatchSynthesizer, scorers: Sequence[ScoringProcess]) -> None:
        self._synthesizer, self._scorers, self._free = synthesizer, scorers, free_scorers(scorers)

    def run(
        self, planned: Sequence[MicroBatch], metrics: Sequence[str], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[ScoredBatch]:
        """Synthesize and score micro-batches; they come as they are finished.

        `on_wait` is called about once a second while nothing has finished. `ValueError` and `OSError` as
        `BatchSynthesizer` and its `synthesize`; `RuntimeError` where no process that scores can be started.
        """
        ahead: deque[_Scoring] = deque()
        with ThreadPoolExecutor(len(self._scorers)) as threads:
            try:
                for micro_batch in planned:
                    batch = self._synthesizer.synthesize(micro_batch)
                    scoring = {clip.key: threads.submit(self._score, clip.waves, metrics) for clip in batch.clips}
                    ahead.append((batch, scoring))
                    while len(ahead) > _BATCHES_AHEAD or all(future.done() for future in ahead[0][1].values()):
                        yield _finished(ahead.popleft(), on_wait)
                        if not ahead:
                            break
                while ahead:
                    yield _finished(ahead.popleft(), on_wait)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for scorer in self._scorers:  # a metric that hangs is not waited for
                    scorer.close()
                raise

    def _score(self, waves: Waves, metrics: Sequence[str]) -> Scores:
        scorer = self._free.get()
        try:
            return score_waves(waves, metrics, scorer)
        finally:
            self._free.put(scorer)


def free_scorers(scorers: Sequence[ScoringProcess]) -> SimpleQueue[ScoringProcess]:
    """From which whoever has a clip to score takes one, and to which it comes back."""
    free: SimpleQueue[ScoringProcess] = SimpleQueue()
    for scorer in scorers:
        free.put(scorer)
    return free


def _finished(scoring: _Scoring, on_wait: Callable[[], None]) -> ScoredBatch:
    batch, futures = scoring
    while not all(future.done() for future in futures.values()):
        waiting = [future for future in futures.values() if not future.done()]
        if not wait(waiting, _POLL_SECONDS, FIRST_COMPLETED).done:
            on_wait()
    return batch, {key: future.result() for key, future in futures.items()}
