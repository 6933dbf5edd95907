"""What is particular to a task: its network, what that is fed, its losses and its scores.

The loop knows no more of a task than this; each is a chapter of its own (`train/tasks/vsr.py`, `train/tasks/asr.py`,
`train/tasks/lip2speech.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from model.checkpoint import Network
from model.tokenizer import Tokenizer
from shards.loading.batch_plan import MicroBatch
from shards.loading.collate import Batch, Contents
from train.settings import Score, TrainSettings

if TYPE_CHECKING:
    from train.state import Run
    from train.validation import Tally


@dataclass(frozen=True)
class Losses:
    """Of a micro-batch: the total, which is trained on, and its parts as measured, scalars."""

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        kind: of the network.
        build: a new network for the settings and the tokenizer.
        contents: what is read of a clip in training.
        wants_voice: whether a clip may come with the voice of another.
        losses: of a micro-batch, given the run, its network (or what wraps that: parallel, compiled), the batch, and
            the seed of everything that is drawn for it.
        idle: a scalar of zero gradient that has gone through all of the network: what a rank does that has no batch
            while others have.
        validated: what is read of a clip in validation.
        scoring: given the run and this rank's share of the validation, gets ready, and returns what scores a batch.
        parts: names of the losses' parts.
        scores: what is measured in validation, scores of speech apart.
        best: the score that the best checkpoint is chosen by, unless the settings name another.
    """

    kind: type[Network]
    build: Callable[[TrainSettings, Tokenizer], Network]
    contents: Contents
    wants_voice: bool
    losses: Callable[[Run, Any, Batch, int], Losses]
    idle: Callable[[Run, Any], Tensor]
    validated: Contents
    scoring: Callable[[Run, list[MicroBatch]], Callable[[Batch, Tally], None]]
    parts: tuple[str, ...]
    scores: tuple[Score, ...]
    best: Score
