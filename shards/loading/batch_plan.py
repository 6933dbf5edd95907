"""An epoch's micro-batches, planned on the index before anything is read.

What an epoch reads, and in which order, is a pure function of (index, seed, epoch, settings): shards are permuted and
taken in windows of several; the clips of a window are permuted; of each, the part that is used is drawn; parts of about
the same length are put together into micro-batches of a bounded size; the micro-batches of a window are permuted.
Windows keep reading local: at any time only a few shards are open, or have to be fetched.

    planned = plan_epoch(dataset.index, ["train"], seed=0, epoch=3, draw=draw)
    slots = distribute_from(planned, per_step, step, rank, world)     # this rank's micro-batches, from a step on

A global batch is `per_step` consecutive micro-batches, whatever the number of ranks: a run that resumes, on other ranks
too, reads the rest, nothing twice. No picture and no sound is touched here, and torch is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from shards.loading.index_view import IndexedClip, clips_of, rows_by_shard
from shards.loading.reference_clips import Reference, nearby_references, reference_rows


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


Segment = tuple[int, int, str | None]
"""The part of a clip that is used: its first video frame, the one after its last, and its text, None if unknown."""

Draw = Callable[[IndexedClip, Random], Segment | None]
"""Chooses the segment of a clip that is used, or None: not this time. Its Random is seeded by (seed, epoch, key), and
belongs to this clip."""


class PlannedClip(NamedTuple):
    """One clip of a micro-batch: its row in the index, video frames [start, stop), text; `whole`: all of its frames;
    a reference utterance of the same speaker, if one is wanted and there is one."""

    row: int
    start: int
    stop: int
    text: str | None
    whole: bool
    reference: Reference | None = None


class MicroBatch(NamedTuple):
    """What is read and run at once: its number in the epoch, the frames it is padded to, and its clips."""

    number: int
    frames: int
    clips: tuple[PlannedClip, ...]


def whole(clip: IndexedClip, random: Random) -> Segment:
    """Every clip as it is."""
    return 0, clip.frames, clip.text


def plan_epoch(
    index: pa.Table,
    splits: Sequence[str],
    seed: int,
    epoch: int,
    draw: Draw = whole,
    settings: BatchSettings = BatchSettings(),
    reference_frames: int = 0,
) -> list[MicroBatch]:
    """The micro-batches of an epoch, in order. Every clip of the splits that `draw` takes is in one of them, once.

    Args:
        index: of the dataset (`Dataset.index`).
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
    order = Random(f"order {seed} {epoch}")
    shards = rows_by_shard(index, splits)
    order.shuffle(shards)
    planned = []
    for first in range(0, len(shards), settings.window_shards):
        rows = np.concatenate(shards[first : first + settings.window_shards]).tolist()
        order.shuffle(rows)
        clips = _planned(index, rows, f"part {seed} {epoch}", draw, settings)
        if reference_frames:
            references = nearby_references(
                index, [clip.row for clip in clips], f"voice {seed} {epoch}", reference_frames
            )
            clips = [clip._replace(reference=reference) for clip, reference in zip(clips, references, strict=True)]
        packed = _packed(clips, settings)
        order.shuffle(packed)
        planned += packed
    return [MicroBatch(number, *micro_batch) for number, micro_batch in enumerate(planned)]


def plan_evaluation(
    index: pa.Table,
    splits: Sequence[str],
    draw: Draw = whole,
    settings: BatchSettings = BatchSettings(),
    clips: int | None = None,
) -> list[MicroBatch]:
    """The micro-batches of a pass that scores: the same clips, parts and order every time, shard after shard.

    Args:
        index, splits, draw, settings: as for `plan_epoch`; what is drawn is drawn from the key alone.
        clips: take only this number, chosen by the seedless hash of their keys: the same ones every time, from
            anywhere in the splits.

    Raises as `plan_epoch`.
    """
    shards = rows_by_shard(index, splits)
    if clips is not None:
        rows = np.concatenate(shards)
        keys = index["key"].take(pa.array(rows)).to_pylist()
        ranked = sorted(range(len(rows)), key=lambda at: Random(f"chosen {keys[at]}").random())
        chosen = rows[ranked[:clips]]
        shards = [kept for kept in (found[np.isin(found, chosen)] for found in shards) if len(kept)]
    planned = []
    for first in range(0, len(shards), settings.window_shards):
        rows = np.concatenate(shards[first : first + settings.window_shards]).tolist()
        planned += _packed(_planned(index, rows, "fixed", draw, settings), settings)
    return [MicroBatch(number, *micro_batch) for number, micro_batch in enumerate(planned)]


def plan_references(index: pa.Table, planned: Sequence[MicroBatch]) -> dict[int, MicroBatch]:
    """Reference utterances of planned clips: for each row, another clip of its speaker, a micro-batch of its own.

    Always the same one (`reference_rows`); clips that share one share its micro-batch. Clips whose speaker has no other
    clip in the split are not in it.
    """
    rows = [clip.row for micro_batch in planned for clip in micro_batch.clips]
    others = {row: other for row, other in zip(rows, reference_rows(index, rows), strict=True) if other is not None}
    wanted = sorted(set(others.values()))
    frames = index["frames"].take(pa.array(wanted, pa.int64())).to_pylist()
    single = {
        row: MicroBatch(number, length, (PlannedClip(row, 0, length, None, True),))
        for number, (row, length) in enumerate(zip(wanted, frames, strict=True))
    }
    return {row: single[other] for row, other in others.items()}


def _planned(index: pa.Table, rows: list[int], seed: str, draw: Draw, settings: BatchSettings) -> list[PlannedClip]:
    random, clips = Random(), []
    for row, clip in zip(rows, clips_of(index, rows), strict=True):
        random.seed(f"{seed} {clip.key}")
        segment = draw(clip, random)
        if segment is None:
            continue
        start, stop, text = segment
        if not 0 <= start < stop <= clip.frames:
            raise ValueError(f"{clip.key}: frames {start} to {stop} were drawn of a clip of {clip.frames}")
        if _rounded(stop - start, settings) > settings.max_padded_frames and not settings.long_alone:
            raise ValueError(
                f"{clip.key}: {stop - start} frames do not fit into a micro-batch of {settings.max_padded_frames}: "
                "raise max_padded_frames, or cut long clips"
            )
        clips.append(PlannedClip(row, start, stop, text, stop - start == clip.frames))
    return clips


def _packed(clips: list[PlannedClip], settings: BatchSettings) -> list[tuple[int, tuple[PlannedClip, ...]]]:
    """Frames and clips of each micro-batch, the longest first. Only the last, of the shortest, may be far from full."""
    rest, packed = sorted(clips, key=lambda clip: clip.start - clip.stop), []
    while rest:
        frames = _rounded(rest[0].stop - rest[0].start, settings)
        count = min(max(1, settings.max_padded_frames // frames), settings.max_clips or len(clips))
        packed.append((frames, tuple(rest[:count])))
        rest = rest[count:]
    return packed


def _rounded(frames: int, settings: BatchSettings) -> int:
    return -(-frames // settings.round_frames) * settings.round_frames
