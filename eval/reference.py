"""The voices that clips are spoken with: the loudest stretch of another clip of the same speaker.

The published evaluation takes the voice from the first frames of the very clip that is scored; clips often begin in
silence, and the true sound is not to be had where speech is wanted of silent video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from model.segment_sampling import SegmentSettings, first_windows, loudest_windows, speaker_reference
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME
from shards import Dataset
from shards.loading.batch_plan import MicroBatch, PlannedClip
from shards.loading.collate import Batch, Contents
from shards.loading.loader import LoaderSettings, load
from shards.loading.reference_clips import reference_rows

OF_VOICES = Contents(roi=False)
"""What is read of a clip that lends its voice."""


def lenders_of(dataset: Dataset, planned: Sequence[MicroBatch]) -> dict[int, MicroBatch]:
    """Row of a clip of the micro-batches -> the other clip that lends it its voice, a micro-batch of its own.

    Clips whose speaker has no other clip in the split are not in it.
    """
    rows = [clip.row for micro_batch in planned for clip in micro_batch.clips]
    found = zip(rows, reference_rows(dataset.index, rows), strict=True)
    others = {row: other for row, other in found if other is not None}
    lent = sorted(set(others.values()))
    frames = dataset.index["frames"].take(lent).to_pylist() if lent else []
    single = {
        row: MicroBatch(number, length, (PlannedClip(row, 0, length, None, True),))
        for number, (row, length) in enumerate(zip(lent, frames, strict=True))
    }
    return {row: single[other] for row, other in others.items()}


def loudest(batch: Batch, frames: int) -> Tensor:
    """(B, n_mels, frames) the loudest stretches of clips that were read whole."""
    windows = loudest_windows(batch.mel, MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths, frames)
    return speaker_reference(batch.mel, windows, frames)[0]


def voices_of(
    dataset: Dataset, planned: Sequence[MicroBatch], ranges: SegmentSettings, how: LoaderSettings
) -> dict[str, Tensor]:
    """Speaker references by key, (n_mels, reference_frames) on the CPU.

    Clips whose speaker has no other clip in the split, or whose other clip is damaged, are not in it.

    Args:
        dataset: of the clips.
        planned: micro-batches that the clips are in.
        ranges: how long a reference is.
        how: clips are read. Pictures are not, and a clip that is damaged is done without.
    """
    lenders = lenders_of(dataset, planned)
    single = sorted({each.number: each for each in lenders.values()}.values())
    how = replace(how, on_error="skip", contents=OF_VOICES)
    references = {
        one.number: loudest(batch, ranges.reference_frames)[0]
        for one, batch in zip(single, load(dataset, single, how), strict=True)
        if batch is not None and batch.keys
    }
    keys = dataset.index["key"]
    return {keys[row].as_py(): references[one.number] for row, one in lenders.items() if one.number in references}


def own_voices(mel: Tensor, lengths: Tensor, frames: int) -> Tensor:
    """(B, n_mels, frames) the first frames of mels (B, n_mels, S) of so many frames (B,), as published; then zeros."""
    return speaker_reference(mel, first_windows(lengths, frames), frames)[0]


def references_of(keys: Sequence[str], voices: Mapping[str, Tensor], own: Tensor) -> Tensor:
    """(B, n_mels, frames) the voices of clips; its own (B, n_mels, frames) where a clip has none."""
    return torch.stack([voices[key].to(own.device) if key in voices else own[at] for at, key in enumerate(keys)])
