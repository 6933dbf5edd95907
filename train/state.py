"""A run: what it works on, where it is, and both as a checkpoint."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from model.asr import ASRModel
from model.checkpoint import Checkpoint, Network
from model.mel import MelSettings
from model.tokenizer import Tokenizer
from shards import Dataset
from shards.loading.batch_plan import MicroBatch
from shards.loading.collate import Batch, Contents
from shards.loading.loader import LoaderSettings, load
from train.distributed import Ranks
from train.optim import build_optimizer
from train.run_dir import RunDir
from train.settings import TrainSettings
from train.tasks.task import Task


class TrainingError(RuntimeError):
    """A run cannot go on; the message says why and where."""


@dataclass
class Place:
    """Where a run is: all that a checkpoint keeps besides weights and optimizer.

    Attributes:
        step: global steps done.
        epoch, step_in_epoch: the next step is this one of this epoch; epochs count from 1.
        content_on: whether the output content loss is on.
        scores: of the last validation.
        validated: the step that it was at.
        best: the best score in validation so far; None before the first.
        best_of: what it was measured on: it is forgotten when that changes.
        sums, counts: of each part of the loss, and of the micro-batches that had it, in this epoch so far, over all
            ranks.
        max_nonfinite_steps, bad_in_a_row: steps skipped since their gradient was not finite.
        skipped: clips that could not be read.
    """

    step: int = 0
    epoch: int = 1
    step_in_epoch: int = 0
    content_on: bool = False
    scores: dict[str, float] = field(default_factory=dict)
    validated: int = 0
    best: float | None = None
    best_of: str = ""
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    max_nonfinite_steps: int = 0
    bad_in_a_row: int = 0
    skipped: float = 0.0


@dataclass
class Run:
    """What a run works on."""

    settings: TrainSettings
    dataset: Dataset
    tokenizer: Tokenizer
    mel: MelSettings
    task: Task
    network: Network
    recogniser: ASRModel | None
    ranks: Ranks
    folder: RunDir
    identity: dict[str, Any]
    place: Place = field(default_factory=Place)

    def __post_init__(self) -> None:
        self.network.to(self.ranks.device)
        if self.settings.sync_batch_norm and self.ranks.world > 1:
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        self.optimizer = build_optimizer(self.network.parameters(), self.settings.optimizer)
        self.place.best_of = self.measured_on
        self.average: dict[str, Tensor] | None = None
        if self.settings.ema is not None:
            self.average = {name: x.detach().clone() for name, x in self.network.state_dict().items()}

    @property
    def best_score(self) -> str:
        """The score that the best checkpoint is chosen by."""
        return self.settings.checkpoint.best or self.task.best

    @property
    def measured_on(self) -> str:
        """What the best is the best of, in words."""
        chosen = self.settings.validation
        return f"{self.best_score} of {chosen.clips} clips of {chosen.split}, voice {chosen.speaker_reference}"

    def checkpoint(self, to_go_on: bool) -> Checkpoint:
        """The run as a checkpoint: the weights to use, which are the average where there is one.

        Args:
            to_go_on: whether it also holds what a run needs to go on: the optimizer's state, and the weights that are
                trained.
        """
        weights = self.network.state_dict()
        training = {
            "identity": self.identity,
            "place": asdict(self.place),
            "optimizer": self.optimizer.state_dict(),
            "weights": None if self.average is None else weights,
        }
        return Checkpoint(
            settings=self.network.settings,
            weights=weights if self.average is None else self.average,
            tokenizer=self.tokenizer,
            mel=self.mel,
            step=self.place.step,
            metrics={f"validation_{name}": value for name, value in self.place.scores.items()},
            transforms=self.settings.transforms,
            training=training if to_go_on else None,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of this run."""
        assert checkpoint.training is not None
        self.network.load_state_dict(checkpoint.training["weights"] or dict(checkpoint.weights))
        self.optimizer.load_state_dict(checkpoint.training["optimizer"])
        self.place = Place(**checkpoint.training["place"])
        if self.average is not None:
            self.average = {name: x.to(self.ranks.device) for name, x in checkpoint.weights.items()}

    def batches(
        self, slots: Sequence[MicroBatch | None], contents: Contents | None = None
    ) -> Generator[Batch | None, None, None]:
        """The batches of planned micro-batches, read as the settings say. Close it, and its processes are gone.

        Args:
            slots: planned.
            contents: what is read; None: what the task trains on.
        """
        settings = self.settings
        how = LoaderSettings(
            workers=settings.workers,
            on_error=settings.on_error,
            contents=contents or self.task.contents,
            cache=settings.cache,
        )
        yield from load(self.dataset, slots, how)
