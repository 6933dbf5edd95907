"""What training changes, and a checkpoint keeps: the model with its optimizer and average, and `TrainState`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import torch
from torch import nn

from model.checkpoint import Network
from runtime.stored_json import Count, Name
from train.distributed import DistributedContext
from train.optim import WeightAverage, build_optimizer
from train.settings import TrainSettings


class TrainingError(RuntimeError):
    """Training cannot continue; the message says why and where."""


@dataclass
class TrainState:
    """How far a run is: all that a checkpoint keeps besides weights and optimizer.

    Attributes:
        step: global steps done.
        seconds: of training when the last of them was taken, with validations; 0 where the schedule has no minutes.
        epoch, step_in_epoch: the next step is this one of this epoch; epochs count from 1.
        content_on: whether the output content loss is on.
        scores: of the last validation.
        validated_step: the step that it was at.
        best: the best score in validation so far; None before the first.
        best_criterion: what it was measured on: it is forgotten when that changes.
        loss_sums, loss_counts: of each part of the loss, and of the micro-batches that had it, in this epoch so far,
            over all ranks.
        nonfinite_steps, nonfinite_in_a_row: steps skipped because their loss or gradient was not finite.
        skipped_clips: clips that could not be read.
    """

    step: Count = 0
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    epoch: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)] = 1
    step_in_epoch: Count = 0
    content_on: bool = False
    scores: dict[Name, float] = field(default_factory=dict)
    validated_step: Count = 0
    best: float | None = None
    best_criterion: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    loss_sums: dict[Name, float] = field(default_factory=dict)
    loss_counts: dict[Name, float] = field(default_factory=dict)
    nonfinite_steps: Count = 0
    nonfinite_in_a_row: Count = 0
    skipped_clips: Annotated[float, msgspec.Meta(ge=0)] = 0.0


@dataclass
class TrainedModel:
    """A network on its device, the optimizer over its parameters, and the average of its weights where one is kept."""

    network: Network
    optimizer: torch.optim.Optimizer
    ema: WeightAverage | None


def prepare_model(network: Network, settings: TrainSettings, context: DistributedContext) -> TrainedModel:
    """Move a network to its device, and make its optimizer and average."""
    if settings.precision != "bf16":
        torch.backends.cudnn.allow_tf32 = False  # it keeps 11 of the 24 bits in convolutions; matrix products have none
    network.to(context.device)
    if settings.sync_batch_norm and context.world_size > 1:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    optimizer = build_optimizer(network.parameters(), settings.optimizer)
    ema = None if settings.ema is None else WeightAverage(network, settings.ema)
    return TrainedModel(network, optimizer, ema)
