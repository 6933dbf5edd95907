"""The neural vocoder of a checkpoint, checked against the mels that it is to take."""

from __future__ import annotations

import os

import torch

from model.checkpoint import build_network, load_checkpoint
from model.mel import MelSettings
from model.synthesis import check_task
from model.vocoders.neural_vocoder import Vocoder, check_mel


def load_vocoder(
    path: str | os.PathLike[str], mel: MelSettings = MelSettings(), device: str | torch.device = "cpu"
) -> Vocoder:
    """The neural vocoder of a checkpoint of the task `vocoder`, in evaluation mode.

    Args:
        path: of the checkpoint.
        mel: the analysis of the mels that it is to take.
        device: where to run it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError, ValueError: it is damaged, of another task, or of another mel; names what differs.
    """
    checkpoint = load_checkpoint(path)
    check_task(checkpoint, path, "vocoder")
    vocoder = build_network(checkpoint, path)
    assert isinstance(vocoder, Vocoder)
    check_mel(vocoder, mel, path)
    return vocoder.to(device)
