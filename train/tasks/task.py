"""The `Task` base class: what is particular to what is trained. The loop knows no more of a task than this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from model.asr import ASRModel
from model.checkpoint import Network
from model.lip_to_speech import LipToSpeech
from model.tokenizer import Tokenizer
from model.vocoders.mel_to_wav import DEFAULT_GRIFFIN_LIM, GriffinLimSettings
from model.vocoders.neural_vocoder import Vocoder
from shards.loading.collate import Batch, Contents
from train.settings import Score, TrainSettings
from train.state import TrainState
from train.validation_metrics import ValidationMetrics


@dataclass(frozen=True)
class Losses:
    """Of a micro-batch: the total, which is minimized, and its parts by name, detached scalars."""

    total: Tensor
    parts: dict[str, Tensor]


@dataclass
class Task(ABC):
    """What a run trains.

    Attributes:
        settings: of the run.
        tokenizer: of the texts; None: there is no CTC head.
        device: that the network is on.
        asr: the frozen ASR model of the output content loss, of units and of distillation; None: they stay off.
        vocoder: what synthesized mels are heard through in validation, on the device.
        lip2speech: the frozen network whose mels a vocoder is trained on; None: on those of the ground truth.
        validation_contents: which members of a clip are read to validate.
        loss_names: parts of the loss, some of which a micro-batch may not have.
        default_best: the score that the best checkpoint is chosen by, unless the settings name another.
        uses_speaker_reference: whether a clip may come with a reference utterance of another.
        synthesizes: whether there is speech to be scored in validation.
    """

    settings: TrainSettings
    tokenizer: Tokenizer | None
    device: torch.device
    asr: ASRModel | None = None
    vocoder: GriffinLimSettings | Vocoder = DEFAULT_GRIFFIN_LIM
    lip2speech: LipToSpeech | None = None
    validation_contents: ClassVar[Contents]
    loss_names: ClassVar[tuple[str, ...]]
    default_best: ClassVar[Score]
    uses_speaker_reference: ClassVar[bool] = False
    synthesizes: ClassVar[bool] = False

    @property
    @abstractmethod
    def scores(self) -> tuple[Score, ...]:
        """Measured in validation, scores of speech apart."""

    @property
    def contents(self) -> Contents:
        """Members of a clip that are read to train on it; by default those that validation reads."""
        return self.validation_contents

    @abstractmethod
    def build_model(self) -> Network:
        """A new network for the settings and the tokenizer."""

    @abstractmethod
    def loss(self, network: Any, batch: Batch, seed: int, state: TrainState) -> Losses:
        """The losses of a micro-batch, for which `seed` seeds all that is drawn.

        `network` is `build_model`'s, or what wraps it: parallel, compiled.
        """

    @abstractmethod
    def dummy_inputs(self) -> tuple[Tensor, ...]:
        """Inputs of the network: a clip of zeros."""

    def dummy_loss(self, network: Any) -> Tensor:
        """A scalar of zero gradient through all of the network, for a rank without a batch while others have one."""
        output: tuple[Tensor | None, ...] = network(*self.dummy_inputs())
        return 0.0 * torch.stack([x.float().sum() for x in output if x is not None and x.requires_grad]).sum()

    @abstractmethod
    def validate(
        self, network: Any, batch: Batch, references: Mapping[str, Tensor], metrics: ValidationMetrics
    ) -> None:
        """Add to the metrics the scores of a batch of whole clips; the network is in evaluation mode.

        `references` are speaker references by key, (n_mels, reference_frames), of clips that have one.
        """

    @property
    def best_score(self) -> Score:
        """The score that the best checkpoint is chosen by."""
        return self.settings.checkpoint.best or self.default_best

    def autocast(self) -> torch.autocast:
        """A context in which networks run in the precision of the settings."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")
