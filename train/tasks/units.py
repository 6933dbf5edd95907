"""Units in training: the targets that the frozen ASR model gives, and their loss beside the others of a task."""

from __future__ import annotations

import torch
from torch import Tensor

from model.asr import ASRModel
from model.losses import unit_loss
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME
from train.tasks.task import Losses


def units_of(asr_model: ASRModel, mel: Tensor, lengths: Tensor) -> Tensor:
    """int64 (B, T): the units of ground-truth mels (B, n_mels, 4 T), of so many video frames (B,)."""
    with torch.no_grad():
        return asr_model.units(mel, MEL_FRAMES_PER_VIDEO_FRAME * lengths)


def with_unit_loss(
    losses: Losses, logits: Tensor, asr_model: ASRModel, mel: Tensor, lengths: Tensor, weight: float
) -> Losses:
    """Losses, and beside them the weighted cross-entropy of logits (B, T, units) and the units of ground-truth mels;
    other arguments as of `units_of`."""
    loss = unit_loss(logits, units_of(asr_model, mel, lengths), lengths)
    return Losses(losses.total + weight * loss, losses.parts | {"units": loss.detach()})
