"""Shuffled lips: which other clip's lips stand in the place of a clip's own, and how they are fitted to its length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import pyarrow as pa
import torch
from torch import Tensor

from model.padding import valid_mask
from shards.loading.batch_plan import MicroBatch, PlannedClip


def partners_of(index: pa.Table, rows: Sequence[int]) -> dict[int, int]:
    """For each row another one of them: of the same speaker where there is one, of nearly the same length.

    Neighbors in length are each other's partners; of an odd number the last three go round. Clips that are alone with
    their speaker are paired among themselves.

    Raises:
        ValueError: a single clip.
    """
    if len(rows) < 2:
        raise ValueError("systems: shuffled_lips takes another clip's lips, and there is a single clip")
    keys, speakers, frames = (index[name].take(list(rows)).to_pylist() for name in ("key", "speaker", "frames"))
    order = sorted(range(len(rows)), key=lambda at: (speakers[at], frames[at], keys[at]))
    groups = [list(group) for _, group in groupby(order, key=lambda at: speakers[at])]
    alone = sorted((group[0] for group in groups if len(group) == 1), key=lambda at: (frames[at], keys[at]))
    partner: dict[int, int] = {}
    for group in [*(group for group in groups if len(group) > 1), alone]:
        for first in range(0, len(group) - 1, 2):
            ring = group[first:] if len(group) - first == 3 else group[first : first + 2]
            partner |= {rows[a]: rows[b] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)}
    if len(alone) == 1:
        mine = rows[alone[0]]
        nearest = min((at for at in order if at != alone[0]), key=lambda at: abs(frames[at] - frames[alone[0]]))
        partner[mine] = rows[nearest]
    return partner


def with_partners(index: pa.Table, micro_batch: MicroBatch, partners: Mapping[int, int]) -> MicroBatch:
    """The same micro-batch with each clip's partner in its place, cut where the clip itself ends."""
    others = [partners[clip.row] for clip in micro_batch.clips]
    frames = index["frames"].take(pa.array(others, pa.int64())).to_pylist()
    clips = tuple(
        PlannedClip(other, 0, min(clip.stop, length), None, False)
        for clip, other, length in zip(micro_batch.clips, others, frames, strict=True)
    )
    return MicroBatch(micro_batch.number, micro_batch.frames, clips)


def fit_lips(other: Tensor, other_lengths: Tensor, lengths: Tensor) -> Tensor:
    """Lips of other clips fitted to the clips in whose place they stand: a shorter one holds its last frame.

    Args:
        other: (B, T, R, R) crops.
        other_lengths, lengths: (B,) frames of them, and of the clips themselves.

    Returns:
        (B, T, R, R), 0 beyond the clips' lengths.
    """
    frames = torch.arange(other.shape[1])
    held = other[torch.arange(len(other))[:, None], torch.minimum(frames, (other_lengths - 1)[:, None])]
    return held * valid_mask(lengths, len(frames))[:, :, None, None]
