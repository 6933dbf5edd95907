"""Another clip's lips in the place of a clip's own, everything else as it is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pyarrow as pa
import torch

from shards.loading.batch_plan import MicroBatch, PlannedClip
from shards.loading.collate import Batch


def partners_of(index: pa.Table, rows: Sequence[int]) -> dict[int, int]:
    """For each row another one of them: of the same speaker where there is one, of nearly the same length.

    Neighbours in length are each other's partners; of an odd number the last three go round. Clips that are alone with
    their speaker are paired among themselves.

    Raises:
        ValueError: a single clip.
    """
    if len(rows) < 2:
        raise ValueError("a single clip, where another one's lips are wanted")
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


def with_partners(index: pa.Table, planned: Sequence[MicroBatch]) -> list[MicroBatch]:
    """The same micro-batches with each clip's partner in its place, cut where the clip itself ends."""
    rows = [clip.row for micro_batch in planned for clip in micro_batch.clips]
    partner = partners_of(index, rows)
    length = dict(zip(rows, index["frames"].take(rows).to_pylist(), strict=True))
    changed = []
    for micro_batch in planned:
        pairs = [(clip, partner[clip.row]) for clip in micro_batch.clips]
        stops = [min(clip.stop, length[other]) for clip, other in pairs]
        clips = tuple(PlannedClip(other, 0, stop, None, False) for (_, other), stop in zip(pairs, stops, strict=True))
        changed.append(MicroBatch(micro_batch.number, micro_batch.frames, clips))
    return changed


def lips_of(other: Batch, batch: Batch) -> torch.Tensor:
    """(B, T, R, R) the partners' lip regions for the clips of a batch: a shorter partner holds its last picture."""
    last = (other.lengths - 1)[:, None]
    frame = torch.minimum(torch.arange(batch.roi.shape[1])[None], last)
    held = other.roi[torch.arange(len(last))[:, None], frame]
    there = torch.arange(batch.roi.shape[1])[None] < batch.lengths[:, None]
    return held * there[:, :, None, None]
