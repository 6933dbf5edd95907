"""Inputs of `lip2speech`: a batch of clips, cut into windows, augmented and normalized on the device; target mels.

Everything that is drawn for a micro-batch is drawn on the CPU from one generator, whose seed never depends on the rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.mel import clip_mels
from model.padding import Padding, ValidFrames, valid_frames, valid_positions
from model.segment_sampling import (
    Windows,
    draw_windows,
    first_windows,
    speaker_reference,
    take_window,
    whole_windows,
    with_references,
)
from model.transforms import draw_augmentation, transform
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, SAMPLES_PER_FRAME
from shards.loading.collate import SILENCE, Batch
from train.settings import TrainSettings


@dataclass(frozen=True)
class Inputs:
    """A micro-batch as the network takes it, on its device (lengths stay on the CPU).

    Attributes:
        video: (B, 1, T, size, size).
        lengths: (B,) video frames.
        reference: (B, n_mels, reference_padded) mel of the speaker reference, and zeros.
        reference_lengths: (B,) mel frames of each reference; None with `published` padding, where the zeros count.
        windows, window_frames: of the video, whose mel is generated; on the device.
        mel: (B, n_mels, 4 T) of the whole clips.
        target: (B, n_mels, 4 window_frames), -1 past each window.
        valid, reference_valid: valid frames of clips and references, for batch norm in training.
    """

    video: Tensor
    lengths: Tensor
    reference: Tensor
    reference_lengths: Tensor | None
    windows: Windows
    window_frames: int
    mel: Tensor
    target: Tensor
    valid: ValidFrames
    reference_valid: Tensor

    def references_of(self, keys: Sequence[str], references: Mapping[str, Tensor], frames: int) -> Tensor:
        """(B, n_mels, frames) the speaker references of validation, by key; the clip's own frames where it has none.
        Unpadded, as in the published evaluation: the mean over time runs over the reference alone."""
        return with_references(self.reference[..., :frames], keys, references)


def target_mels(batch: Batch, frames: Tensor) -> Tensor:
    """(B, n_mels, 4 T) ground-truth mels: stored ones of clips used whole, computed ones of segments; -1 beyond.

    A segment's mel is computed from its samples: its peak is its own, so that a cut out of the stored mel of the whole
    clip would be off by a constant.

    Args:
        batch: on its device.
        frames: (n,) video frames of the clips whose samples it holds, on the CPU.
    """
    if not len(batch.wav_rows):
        return batch.mel
    return batch.mel.index_copy(0, batch.wav_rows, clip_mels(batch.wav, SAMPLES_PER_FRAME * frames))


def prepare(
    batch: Batch, settings: TrainSettings, device: torch.device, seed: int | None, padding: Padding | None = None
) -> Inputs:
    """A batch as read, transformed on the device.

    `seed` is that of the augmentation; None: none, as in validation (whole clips, their first frames as reference).
    `padding` is the network's; None: as the settings say.
    """
    ranges, lengths = settings.segments, batch.lengths.cpu()
    cut_lengths = lengths[batch.wav_rows]  # both still lie on the CPU: no GPU has to be waited for
    on_device = batch.to(device, non_blocking=True)
    mel = target_mels(on_device, cut_lengths)
    frames = batch.roi.shape[1]
    if seed is None:
        windows, augmentation, window_frames = whole_windows(lengths), None, frames
        reference_windows = first_windows(MEL_FRAMES_PER_VIDEO_FRAME * lengths, ranges.reference_frames)
    else:
        generator = torch.Generator().manual_seed(seed)
        windows = draw_windows(lengths, generator, ranges.window_frames)
        window_frames = min(ranges.window_frames, frames)
        reference_windows = draw_windows(MEL_FRAMES_PER_VIDEO_FRAME * lengths, generator, ranges.reference_frames)
        augmentation = draw_augmentation(*windows, generator, settings.transforms)
    windows = Windows(*(x.to(device, non_blocking=True) for x in windows))
    reference, sizes = speaker_reference(mel, reference_windows, ranges.reference_padded)
    if seed is not None and on_device.reference.shape[2]:
        other = F.pad(on_device.reference, (0, ranges.reference_padded - on_device.reference.shape[2]))
        from_other = batch.reference_frames > 0
        reference = torch.where(from_other.to(device, non_blocking=True)[:, None, None], other, reference)
        sizes = torch.where(from_other, batch.reference_frames, sizes)
    mel_windows = windows.scaled(MEL_FRAMES_PER_VIDEO_FRAME)
    return Inputs(
        video=transform(on_device.roi, lengths, augmentation, settings.transforms),
        lengths=lengths,
        reference=reference,
        reference_lengths=sizes if (padding or settings.network.padding) == "masked" else None,
        windows=windows,
        window_frames=window_frames,
        mel=mel,
        target=take_window(mel, *mel_windows, length=MEL_FRAMES_PER_VIDEO_FRAME * window_frames, dim=2, fill=SILENCE),
        valid=valid_frames(lengths, frames, device),
        reference_valid=valid_positions(sizes, ranges.reference_padded, device),
    )
