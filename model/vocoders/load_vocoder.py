"""The neural vocoder of a checkpoint, checked against the mels that it is to take."""

from __future__ import annotations

import os

import torch

from model.checkpoint import Checkpoint, build_network, check_task, load_checkpoint
from model.mel import MelSettings
from model.vocoders.neural_vocoder import Vocoder, check_mel


def load_vocoder(
    path: str | os.PathLike[str], mel: MelSettings = MelSettings(), device: str | torch.device = "cpu"
) -> Vocoder:
    """The neural vocoder of a checkpoint of the task `vocoder`, in evaluation mode.

    Args:
        path: of the checkpoint, or of a released file with one.
        mel: the analysis of the mels that it is to take.
        device: where to run it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError, ValueError: it is damaged, of another task, or of another mel; names what differs.
    """
    return vocoder_of_checkpoint(load_checkpoint(path, "vocoder"), path, mel, device)


def vocoder_of_checkpoint(
    checkpoint: Checkpoint, name: str | os.PathLike[str], mel: MelSettings, device: str | torch.device = "cpu"
) -> Vocoder:
    """As `load_vocoder`, of a loaded checkpoint that errors call `name`."""
    check_task(checkpoint, name, "vocoder")
    vocoder = build_network(checkpoint, name)
    assert isinstance(vocoder, Vocoder)
    check_mel(vocoder, mel, name)
    return vocoder.to(device)
