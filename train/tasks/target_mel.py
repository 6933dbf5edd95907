"""The mels of a batch, wherever they come from."""

from __future__ import annotations

import torch
from torch import Tensor

from model.mel import log_mel_batch
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, SAMPLES_PER_FRAME
from shards.loading.collate import SILENCE, Batch


def mels(batch: Batch, frames: Tensor) -> Tensor:
    """(B, n_mels, 4 T): stored ones of clips used whole, computed ones of parts, each with its own peak.

    Args:
        batch: on its device.
        frames: (n,) video frames of the clips whose samples it holds, on the CPU.
    """
    mel = batch.mel
    if len(batch.wav_rows):
        computed = log_mel_batch(batch.wav, SAMPLES_PER_FRAME * frames)[..., : mel.shape[2]]
        late = (
            torch.arange(mel.shape[2], device=mel.device)
            >= MEL_FRAMES_PER_VIDEO_FRAME * frames.to(mel.device)[:, None, None]
        )
        mel = mel.index_copy(0, batch.wav_rows, computed.masked_fill(late, SILENCE))
    return mel
