"""Validation metrics, summed batch by batch on one rank and averaged over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.metrics.pool import ScoringPool
from train.distributed import DistributedContext
from train.state import TrainingError

Array = np.ndarray[Any, Any]

Transcript = tuple[str, str, str]
"""Key, text, and greedy hypothesis of the CTC head."""


@dataclass(frozen=True)
class Example:
    """A clip for TensorBoard: mels (n_mels, S), synthesized and ground truth, and waveforms by name, 16 kHz."""

    key: str
    mels: list[Array]
    waveforms: dict[str, Array]


@dataclass
class ValidationMetrics:
    """What is gathered while clips are scored, on one rank.

    Attributes:
        scorers: score speech; None: speech is not scored.
        shown: keys of the clips that TensorBoard shows.
        sums: by score, a total and what it is divided by.
        examples: of clips that are shown.
        transcripts: of clips that are shown.
    """

    scorers: ScoringPool | None
    shown: frozenset[str]
    sums: dict[str, list[float]] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    transcripts: list[Transcript] = field(default_factory=list)

    def add(self, name: str, total: float, count: float) -> None:
        """Add to a score."""
        kept = self.sums.setdefault(name, [0.0, 0.0])
        kept[0] += total
        kept[1] += count

    def score_speech(self, key: str, original: Array, synthesized: Array) -> None:
        """Have a clip's speech scored, in the background where there are processes for it."""
        if self.scorers is not None:
            with _death_named():
                self.scorers.submit(key, original, synthesized)

    def finish(self) -> None:
        """Wait for the speech that is being scored."""
        with _death_named():
            found = {} if self.scorers is None else self.scorers.results()
        for scored in found.values():
            for name, value in scored.values.items():
                self.add(name, value, 1)
            for name in scored.failed:
                self.add(f"{name}_failed", 1, 0)

    def means(self, context: DistributedContext) -> dict[str, float]:
        """By score, over all ranks, which may have met different ones."""
        names = sorted(set(context.all_gather(list(self.sums))))
        flat = [number for name in names for number in self.sums.get(name, [0.0, 0.0])]
        summed = context.all_reduce_sum(flat)
        pairs = zip(names, summed[::2], summed[1::2], strict=True)
        # clips that failed or were skipped are counted; a score without any clip is not reported
        return {
            name: total / count if count else total
            for name, total, count in pairs
            if count or name == "skipped" or name.endswith("_failed")
        }


@contextmanager
def _death_named() -> Iterator[None]:
    """The death of a process that scores, as a `TrainingError` that says what to do."""
    try:
        yield
    except RuntimeError as error:
        advice = "resume with --resume auto, or without such scores with --validation.speech '[]'"
        raise TrainingError(f"validation: {error}: {advice}") from None
