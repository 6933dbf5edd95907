"""Ground-truth mels of a batch: stored ones of clips used whole, computed ones of segments."""

from __future__ import annotations

from torch import Tensor

from model.mel import clip_mels
from runtime.constants import SAMPLES_PER_FRAME
from shards.loading.collate import Batch


def target_mels(batch: Batch, frames: Tensor) -> Tensor:
    """(B, n_mels, 4 T) mels of the clips; -1 beyond their lengths.

    A segment's mel is computed from its samples: its peak is its own, so that a cut out of the stored mel of the whole
    clip would be off by a constant.

    Args:
        batch: on its device.
        frames: (n,) video frames of the clips whose samples it holds, on the CPU.
    """
    if not len(batch.wav_rows):
        return batch.mel
    return batch.mel.index_copy(0, batch.wav_rows, clip_mels(batch.wav, SAMPLES_PER_FRAME * frames))
