"""The plan of an epoch, written the plain way, clip by clip on Python's own objects: what plans are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from random import Random
from typing import Any

import pyarrow as pa

from shards.loading.batch_plan import BatchSettings
from shards.loading.draws import Draw
from shards.loading.index_view import IndexedClip
from shards.loading.planned_batches import MicroBatch, PlannedClip
from shards.loading.reference_clips import Reference


def plain_plan(
    index: pa.Table,
    splits: Sequence[str],
    seed: int,
    epoch: int,
    draw: Draw,
    settings: BatchSettings,
    reference_frames: int = 0,
) -> list[MicroBatch]:
    """As `plan_epoch`."""
    clips, order = index.to_pylist(), Random(f"order {seed} {epoch}")
    rows = sorted(
        (row for row, clip in enumerate(clips) if clip["split"] in splits), key=lambda row: _shard(clips, row)
    )
    shards = [list(of_shard) for _, of_shard in groupby(rows, key=lambda row: _shard(clips, row))]
    order.shuffle(shards)
    planned: list[tuple[int, tuple[PlannedClip, ...]]] = []
    for first in range(0, len(shards), settings.window_shards):
        window = [row for shard in shards[first : first + settings.window_shards] for row in shard]
        order.shuffle(window)
        drawn = [_drawn(clips, row, f"part {seed} {epoch}", draw) for row in window]
        parts = [clip for clip in drawn if clip is not None]
        if reference_frames:
            together = sorted(clip.row for clip in parts)
            voice = f"voice {seed} {epoch}"
            parts = [
                clip._replace(reference=_reference(clips, clip.row, together, voice, reference_frames))
                for clip in parts
            ]
        parts.sort(key=lambda clip: clip.start - clip.stop)
        packed = []
        while parts:
            frames = -(-(parts[0].stop - parts[0].start) // settings.round_frames) * settings.round_frames
            count = min(max(1, settings.max_padded_frames // frames), settings.max_clips or len(parts))
            packed.append((frames, tuple(parts[:count])))
            parts = parts[count:]
        order.shuffle(packed)
        planned += packed
    return [MicroBatch(number, *micro_batch) for number, micro_batch in enumerate(planned)]


def _shard(clips: list[dict[str, Any]], row: int) -> str:
    return str(clips[row]["shard"])


def _drawn(clips: list[dict[str, Any]], row: int, seed: str, draw: Draw) -> PlannedClip | None:
    known = clips[row]
    words = [(word["word"], word["start"], word["end"]) for word in known["words"]]
    names = ("key", "split", "set", "speaker", "frames")
    clip = IndexedClip(*[known[name] for name in names], known["text"] or None, words)  # type: ignore[call-arg]
    segment = draw(clip, Random(f"{seed} {clip.key}"))
    return None if segment is None else PlannedClip(row, *segment, segment[1] - segment[0] == clip.frames)


def _reference(clips: list[dict[str, Any]], row: int, rows: list[int], seed: str, mel_frames: int) -> Reference | None:
    others = [other for other in rows if other != row and clips[other]["speaker"] == clips[row]["speaker"]]
    if not others:
        return None
    random = Random(f"{seed} {clips[row]['key']}")
    other = random.choice(others)
    length = 4 * clips[other]["frames"]
    start = random.randrange(max(1, length - mel_frames + 1))
    return Reference(other, start, min(start + mel_frames, length))
