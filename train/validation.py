"""Validation: the same clips every time, cut at the longest segment; the best weights are kept apart.

Each rank takes every so-many-th micro-batch; nothing is done together until the sums are, so shares may differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import torch

from eval.metrics.pool import ScoringPool
from eval.metrics.registry import SPEECH_METRICS
from eval.metrics.text import word_errors
from shards.loading.batch_plan import MicroBatch, plan_evaluation
from shards.loading.collate import Batch
from train.curriculum import whole_clips
from train.logger import Logger
from train.state import Run


@dataclass(frozen=True)
class Example:
    """A clip to look at and listen to: mels (n_mels, S), generated and true, and sounds by name, 16 kHz."""

    key: str
    mels: list[np.ndarray[Any, Any]]
    sounds: dict[str, np.ndarray[Any, Any]]


@dataclass
class Tally:
    """What is gathered while clips are scored, on one rank.

    Attributes:
        scorers: score speech.
        speech: whether they are asked anything.
        shown: keys of the clips that are shown.
        sums: by score, a total and what it is divided by.
        examples: of clips that are shown.
        read: key, text, and what a CTC head read, of clips that are shown.
    """

    scorers: ScoringPool
    speech: bool
    shown: frozenset[str]
    sums: dict[str, list[float]] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    read: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, name: str, total: float, count: float) -> None:
        """Add to a score."""
        kept = self.sums.setdefault(name, [0.0, 0.0])
        kept[0] += total
        kept[1] += count

    def shows(self, key: str) -> bool:
        """Whether a clip is one that is shown."""
        return key in self.shown

    def show_text(self, key: str, said: str, read: str) -> None:
        """Note what was read of a clip, if it is one that is shown."""
        if self.shows(key):
            self.read.append((key, said, read))

    def submit(self, key: str, original: np.ndarray[Any, Any], generated: np.ndarray[Any, Any]) -> None:
        """Have a clip's speech scored, sooner or later."""
        if self.speech:
            self.scorers.submit(key, original, generated)

    def finish(self) -> None:
        """Wait for what was submitted."""
        for scored in self.scorers.results().values():
            for name, value in scored.values.items():
                self.add(name, value, 1)
            for name in scored.failed:
                self.add(f"{name}_failed", 1, 0)


@dataclass(frozen=True)
class Validation:
    """What is validated on: this rank's share, what scores a batch of it, and the clips that are shown."""

    share: list[MicroBatch]
    score: Callable[[Batch, Tally], None]
    shown: frozenset[str]


def plan_validation(run: Run) -> Validation | None:
    """Choose the clips, and get ready to score them; None if the settings name no split.

    Raises:
        ValueError: as `plan_evaluation`; or the score that the best is chosen by is not one of those measured.
        PackageMissingError: a package that scores is not installed.
    """
    settings, ranks = run.settings.validation, run.ranks
    if settings.split is None:
        return None
    best, measured = run.best_score, {*run.task.scores, *_speech(run)}
    if best not in measured:
        raise ValueError(
            f"checkpoint.best: {best} is not measured by this task; it measures {', '.join(sorted(measured))}"
        )
    draw = whole_clips(run.settings.segments)
    planned = plan_evaluation(run.dataset.index, [settings.split], draw, run.settings.batch, settings.clips)
    share = planned[ranks.rank :: ranks.world]
    with ScoringPool(_speech(run), 0):  # says now, and not after hours, what is not installed
        word_errors("a", "a")
    keys = run.dataset.index["key"].take([clip.row for micro_batch in planned for clip in micro_batch.clips])
    chosen = sorted(keys.to_pylist(), key=lambda key: Random(f"shown {key}").random())[: settings.examples]
    return Validation(share, run.task.scoring(run, share), frozenset(chosen))


def _speech(run: Run) -> tuple[str, ...]:
    return run.settings.validation.speech if run.settings.task == "lip2speech" else ()


@torch.no_grad()
def validate(run: Run, validation: Validation | None, book: Logger) -> None:
    """Mean scores over the fixed clips; the best weights so far are kept apart."""
    if validation is None:
        return
    # of batch norm's statistics the first rank's are what is saved; the others' may be a step apart from them
    run.ranks.spread(run.network.buffers())
    kept = None
    if run.average is not None:
        run.ranks.spread(run.average.values())
        kept = {name: x.clone() for name, x in run.network.state_dict().items()}
        run.network.load_state_dict(run.average)
    run.network.eval()
    speech = _speech(run)
    with ScoringPool(speech, run.settings.validation.processes if speech else 0) as scorers:
        tally = Tally(scorers, bool(speech), validation.shown)
        with closing(run.batches(validation.share, run.task.validated)) as batches:
            for batch in batches:
                if batch is not None:
                    for skipped in batch.skipped:
                        book.warn(f"validation: skipped {skipped.key}: {skipped.reason}")
                        tally.add("skipped", 1, 0)
                    if batch.keys:
                        validation.score(batch, tally)
        tally.finish()
    if kept is not None:
        run.network.load_state_dict(kept)
    means = _means(run, tally)
    run.place.scores, run.place.validated = means, run.place.step
    book.scalars("validation", run.place.step, **means)
    book.say(f"step {run.place.step}: validation: {', '.join(f'{name} {value:.3g}' for name, value in means.items())}")
    examples = sorted(run.ranks.gathered(tally.examples), key=lambda example: example.key)
    book.examples(run.place.step, examples, sorted(run.ranks.gathered(tally.read)), first=run.place.best is None)
    _keep_best(run, means, book)


def _means(run: Run, tally: Tally) -> dict[str, float]:
    """Over all ranks, which may have met different scores."""
    names = sorted(set(run.ranks.gathered(list(tally.sums))))
    flat = [number for name in names for number in tally.sums.get(name, [0.0, 0.0])]
    summed = run.ranks.totals(flat)
    pairs = zip(names, summed[::2], summed[1::2], strict=True)
    # clips that failed or were skipped are counted; a score of no clip is none
    return {
        name: total / count if count else total
        for name, total, count in pairs
        if count or name == "skipped" or name.endswith("_failed")
    }


def _keep_best(run: Run, means: dict[str, float], book: Logger) -> None:
    name, place = run.best_score, run.place
    value = means.get(name, math.nan)
    if not math.isfinite(value):
        book.say(f"step {place.step}: {name} could be measured of no clip; this is not the best")
        return
    higher = name in SPEECH_METRICS and SPEECH_METRICS[name].display.higher_is_better  # losses and error rates are not
    better = place.best is None or (value > place.best if higher else value < place.best)
    if better:
        place.best = value
        if run.ranks.first:
            run.folder.save_best(run.checkpoint(to_go_on=False))
