"""Choose reference utterances: another clip of the same speaker, never the clip itself, which would give away how loud
and noisy its very recording is.

In training it is one that is read at about the same time, another one each epoch; in evaluation always the same one.
The words of the seeds ("voice") are older than these names, and decide what is drawn: they stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME
from shards.loading.index_view import ClipIndex

Array = np.ndarray[Any, Any]


class Reference(NamedTuple):
    """A reference utterance: the row of a clip, and mel frames [start, stop) of it."""

    row: int
    start: int
    stop: int


def nearby_references(
    index: ClipIndex, rows: Sequence[int], among: Array, seed: str, mel_frames: int
) -> list[Reference | None]:
    """For each row a reference utterance in another row of the same speaker; None where there is no other.

    Args:
        index: of the dataset (`Dataset.clip_index`).
        rows: of clips that need a reference.
        among: rows of the clips that are read at about the same time, these among them, each once, in any order.
        seed: what clip and frames are drawn from, with the key.
        mel_frames: of a reference; a shorter clip is used whole.
    """
    ordered = np.sort(among)
    speakers, speaker_of = index.speaker[1][ordered], index.speaker[1]
    random = Random()
    found: list[Reference | None] = []
    for row, key in zip(rows, index.keys_of(rows), strict=True):
        random.seed(f"{seed} {key}")
        other = _another(ordered[speakers == speaker_of[row]], row, random)
        if other is None:
            found.append(None)
            continue
        length = MEL_FRAMES_PER_VIDEO_FRAME * int(index.frames[other])
        start = random.randrange(max(1, length - mel_frames + 1))
        found.append(Reference(other, start, min(start + mel_frames, length)))
    return found


def reference_rows(index: ClipIndex | pa.Table, rows: Sequence[int]) -> list[int | None]:
    """For each row of the index another one of the same speaker and split, always the same; None where there is none.

    Args:
        index: of the dataset (`Dataset.clip_index`).
        rows: of the clips that need a reference.
    """
    index, wanted = ClipIndex.of(index), np.asarray(rows, np.int64)
    group_of = index.speaker[1].astype(np.int64) * len(index.split[0]) + index.split[1]
    several = np.flatnonzero(np.isin(group_of, group_of[wanted]))
    by_key = several[pc.sort_indices(index.keys.take(pa.array(several))).to_numpy()]  # as Python sorts: by code point
    by_group = by_key[np.argsort(group_of[by_key], kind="stable")]
    edges = np.searchsorted(group_of[by_group], np.stack([group_of[wanted], group_of[wanted] + 1]))
    place_of = np.zeros(len(index), np.int64)
    place_of[by_group] = np.arange(len(by_group))
    found: list[int | None] = []
    for row, key, first, last in zip(wanted.tolist(), index.keys_of(wanted), *edges.tolist(), strict=True):
        if last - first < 2:
            found.append(None)
            continue
        place = first + Random(f"voice of {key}").choice(range(last - first - 1))
        found.append(int(by_group[place + (place >= place_of[row])]))
    return found


def _another(rows: Array, row: int, random: Random) -> int | None:
    """One of ascending rows that is not `row`, which is among them; None where there is none."""
    if len(rows) < 2:
        return None
    place = random.choice(range(len(rows) - 1))
    return int(rows[place + (rows[place] >= row)])
