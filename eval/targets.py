"""Mels of a batch: the true ones, how far others are from them, and what they sound like."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.losses import mel_l1
from model.mel import log_mel_batch
from model.padding import valid_mask
from model.vocoders.mel_to_wav import VocoderSettings, mel_to_wav
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, SAMPLES_PER_FRAME
from shards.loading.collate import SILENCE, Batch


def true_mels(batch: Batch, device: torch.device) -> Tensor:
    """(B, 80, 4T) the mels of the clips as they are used, -1 beyond their lengths."""
    frames = batch.wav.shape[1] // SAMPLES_PER_FRAME * MEL_FRAMES_PER_VIDEO_FRAME
    mel = log_mel_batch(batch.wav.to(device), SAMPLES_PER_FRAME * batch.lengths)[..., :frames]
    return mel.masked_fill(~valid_mask(MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths, frames, device)[:, None], SILENCE)


def l1_of(mel: Tensor, true: Tensor, lengths: Tensor) -> Tensor:
    """(B,) mean absolute difference of each clip's mel from the true one, natural-log units, each as if it were alone.

    Args:
        mel, true: (B, n_mels, S).
        lengths: (B,) mel frames that count.
    """
    ones = (slice(number, number + 1) for number in range(len(mel)))
    return torch.stack([mel_l1(mel[one], true[one], lengths[one], "masked") for one in ones])


def waves_of(
    mel: Tensor, lengths: Tensor, keys: Sequence[str], vocoder: VocoderSettings = VocoderSettings()
) -> np.ndarray[Any, Any]:
    """float32 (B, L) the waveforms of mels (`model.vocoders.mel_to_wav`), start phases seeded by the clips' keys.

    So a clip has the same sound in whatever company, and in training, in evaluation and in a table.

    Args:
        mel: (B, n_mels, S).
        lengths: (B,) mel frames that count.
        keys: of the clips.
        vocoder: its settings.
    """
    seeds = [zlib.crc32(key.encode()) for key in keys]
    wave: np.ndarray[Any, Any] = mel_to_wav(mel, lengths, seeds, vocoder).cpu().numpy()
    return wave
