"""An epoch's micro-batches, planned on the index before anything is read.

What an epoch reads, and in which order, is a pure function of (index, seed, epoch, settings): shards are permuted and
taken in windows of several; the clips of a window are permuted; of each, the part that is used is drawn; parts of about
the same length are put together into micro-batches of a bounded size; the micro-batches of a window are permuted.
Windows keep reading local: at any time only a few shards are open, or have to be fetched.

    planned = plan_epoch(dataset.clip_index, ["train"], seed=0, epoch=3, draw=draw)
    slots = distribute_from(planned, per_step, step, rank, world)     # this rank's micro-batches, from a step on

A plan knows the row and the length of each part, a few bytes a clip. Its micro-batches are made when they are looked
at: then each part is drawn once more, with its text.

A global batch is `per_step` consecutive micro-batches, whatever the number of ranks: a run that resumes, on other ranks
too, reads the rest, nothing twice. No picture and no sound is touched here, and torch is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa

from shards.loading.draws import Draw, segment_lengths, whole
from shards.loading.index_view import ClipIndex, rows_by_shard
from shards.loading.planned_batches import MicroBatch, PlannedBatches, PlannedClip, rows_at
from shards.loading.reference_clips import reference_rows
from shards.loading.seeded_random import SeededRandoms

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class BatchSettings:
    """What a micro-batch is.

    Attributes:
        max_padded_frames: the most video frames, padding counted: clips times the longest of them.
        window_shards: shards whose clips are mixed, and which are in use at once.
        max_clips: the most clips; None: as many as fit.
        round_frames: micro-batches are padded to a multiple of this, so that they have few distinct shapes,
            for what is compiled for each.
        long_alone: a clip that is longer than `max_padded_frames` is a micro-batch of its own, in place of an error.

    Raises:
        ValueError: a number below 1, or no room for one clip of `round_frames`.
    """

    max_padded_frames: int = 2400
    window_shards: int = 8
    max_clips: int | None = None
    round_frames: int = 1
    long_alone: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and name != "long_alone" and value < 1:
                raise ValueError(f"{name}: {value} is too small, at least 1 was expected")
        if self.round_frames > self.max_padded_frames:
            raise ValueError(
                f"round_frames: {self.round_frames} is more than max_padded_frames, {self.max_padded_frames}"
            )


def plan_epoch(
    index: ClipIndex | pa.Table,
    splits: Sequence[str],
    seed: int,
    epoch: int,
    draw: Draw = whole,
    settings: BatchSettings = BatchSettings(),
    reference_frames: int = 0,
) -> PlannedBatches:
    """The micro-batches of an epoch, in order. Every clip of the splits that `draw` takes is in one of them, once.

    Args:
        index: of the dataset (`Dataset.clip_index`), or a table of `INDEX_SCHEMA`.
        splits: which splits to read.
        seed, epoch: what the order and the parts are drawn from. A clip's part depends on nothing else.
        draw: the part of each clip that is used; default: the whole clip.
        settings: sizes.
        reference_frames: mel frames of another clip of the same speaker that each clip comes with; 0: none. It is read
            at about the same time (it is of the same window of shards): a speaker's only clip there has none.

    Raises:
        ValueError: a split without clips; a part that lies outside of its clip; a clip that is longer than
            `max_padded_frames`, which is named.
    """
    index, order = ClipIndex.of(index), Random(f"order {seed} {epoch}")
    shards = rows_by_shard(index, splits)
    order.shuffle(shards)
    part = f"part {seed} {epoch}"
    references = (f"voice {seed} {epoch}", reference_frames) if reference_frames else None
    return _packed(index, shards, draw, part, settings, references, order)


def plan_evaluation(
    index: ClipIndex | pa.Table,
    splits: Sequence[str],
    draw: Draw = whole,
    settings: BatchSettings = BatchSettings(),
    clips: int | None = None,
) -> PlannedBatches:
    """The micro-batches of a pass that scores: the same clips, parts and order every time, shard after shard.

    Args:
        index, splits, draw, settings: as for `plan_epoch`; what is drawn is drawn from the key alone.
        clips: take only this number, chosen by the seedless hash of their keys: the same ones every time, from
            anywhere in the splits.

    Raises as `plan_epoch`.
    """
    index = ClipIndex.of(index)
    shards = rows_by_shard(index, splits)
    if clips is not None:
        rows = np.concatenate(shards)
        ranks = SeededRandoms([f"chosen {key}" for key in index.keys_of(rows)], outputs=2).random()
        chosen = rows[np.argsort(ranks, kind="stable")[:clips]]
        shards = [kept for kept in (found[np.isin(found, chosen)] for found in shards) if len(kept)]
    return _packed(index, shards, draw, "fixed", settings)


def plan_references(index: ClipIndex | pa.Table, planned: Sequence[MicroBatch]) -> dict[int, MicroBatch]:
    """Reference utterances of planned clips: for each row, another clip of its speaker, a micro-batch of its own.

    Always the same one (`reference_rows`); clips that share one share its micro-batch. Clips whose speaker has no other
    clip in the split are not in it.
    """
    index, rows = ClipIndex.of(index), [row for place in range(len(planned)) for row in rows_at(planned, place)]
    others = {row: other for row, other in zip(rows, reference_rows(index, rows), strict=True) if other is not None}
    wanted = sorted(set(others.values()))
    single = {
        row: MicroBatch(number, int(index.frames[row]), (PlannedClip(row, 0, int(index.frames[row]), None, True),))
        for number, row in enumerate(wanted)
    }
    return {row: single[other] for row, other in others.items()}


def _packed(
    index: ClipIndex,
    shards: list[Array],
    draw: Draw,
    seed: str,
    settings: BatchSettings,
    references: tuple[str, int] | None = None,
    order: Random | None = None,
) -> PlannedBatches:
    """Windows of shards in this order, packed into micro-batches; `order` permutes the clips of a window, and then its
    micro-batches."""
    lengths = segment_lengths(index, np.sort(np.concatenate([np.empty(0, np.int64), *shards])), draw, seed)
    _refuse_long(index, lengths, settings)
    rows_of: list[Array] = [np.empty(0, np.int64)]
    sizes, frames, windows = list[int](), list[int](), [0]
    for first in range(0, len(shards), settings.window_shards):
        rows = np.concatenate(shards[first : first + settings.window_shards])
        if order is not None:
            permuted = rows.tolist()
            order.shuffle(permuted)
            rows = np.array(permuted, np.int64)
        rows = rows[lengths[rows] > 0]
        rows = rows[np.argsort(-lengths[rows], kind="stable")]
        packed = _cut(lengths[rows].tolist(), settings)
        if order is not None:
            order.shuffle(packed)
        rows_of += [rows[first : first + count] for _, first, count in packed]
        frames += [length for length, _, _ in packed]
        sizes += [count for _, _, count in packed]
        windows.append(len(frames))
    edges = np.concatenate([[0], np.cumsum(np.array(sizes, np.int64))])
    padded, first_of, every = np.array(frames, np.int64), np.array(windows, np.int64), range(len(frames))
    return PlannedBatches(index, np.concatenate(rows_of), edges, padded, first_of, draw, seed, references, every)


def _cut(lengths: list[int], settings: BatchSettings) -> list[tuple[int, int, int]]:
    """Frames, first clip and number of clips of each micro-batch, of clips of descending lengths. Only the last, of the
    shortest, may be far from full."""
    packed, first = [], 0
    while first < len(lengths):
        frames = _rounded(lengths[first], settings)
        count = min(max(1, settings.max_padded_frames // frames), settings.max_clips or len(lengths))
        packed.append((frames, first, min(count, len(lengths) - first)))
        first += count
    return packed


def _refuse_long(index: ClipIndex, lengths: Array, settings: BatchSettings) -> None:
    most = settings.max_padded_frames // settings.round_frames * settings.round_frames
    if not settings.long_alone and len(lengths) and lengths.max() > most:
        row = int(np.flatnonzero(lengths > most)[0])
        raise ValueError(
            f"{index.keys_of([row])[0]}: {lengths[row]} frames do not fit into a micro-batch of "
            f"{settings.max_padded_frames}: raise max_padded_frames, or cut long clips"
        )


def _rounded(frames: int, settings: BatchSettings) -> int:
    return -(-frames // settings.round_frames) * settings.round_frames
