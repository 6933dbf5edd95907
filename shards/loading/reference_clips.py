"""Choose reference utterances: another clip of the same speaker, never the clip itself, which would give away how loud
and noisy its very recording is.

In training it is one that is read at about the same time, another one each epoch; in evaluation always the same one.
The words of the seeds ("voice") are older than these names, and decide what is drawn: they stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME


class Reference(NamedTuple):
    """A reference utterance: the row of a clip, and mel frames [start, stop) of it."""

    row: int
    start: int
    stop: int


def nearby_references(index: pa.Table, rows: Sequence[int], seed: str, mel_frames: int) -> list[Reference | None]:
    """For each row a reference utterance in another of these rows, of the same speaker; None where there is no other.

    Args:
        index: of the dataset (`Dataset.index`).
        rows: of clips that are read at about the same time, each once, in any order.
        seed: what clip and frames are drawn from, with the key.
        mel_frames: of a reference; a shorter clip is used whole.
    """
    ordered = sorted(rows)
    columns = (index[name].take(pa.array(ordered, pa.int64())).to_pylist() for name in ("key", "speaker", "frames"))
    known = {row: clip for row, *clip in zip(ordered, *columns, strict=True)}
    of_speaker: dict[str, list[int]] = {}
    for row in ordered:
        of_speaker.setdefault(known[row][1], []).append(row)
    random = Random()
    found: list[Reference | None] = []
    for row in rows:
        key, speaker, _ = known[row]
        others = [one for one in of_speaker[speaker] if one != row]
        if not others:
            found.append(None)
            continue
        random.seed(f"{seed} {key}")
        other = random.choice(others)
        length = MEL_FRAMES_PER_VIDEO_FRAME * known[other][2]
        start = random.randrange(max(1, length - mel_frames + 1))
        found.append(Reference(other, start, min(start + mel_frames, length)))
    return found


def reference_rows(index: pa.Table, rows: Sequence[int]) -> list[int | None]:
    """For each row of the index another one of the same speaker and split, always the same; None where there is none.

    Args:
        index: of the dataset (`Dataset.index`).
        rows: of the clips that need a reference.
    """
    keys, speakers, in_split = (index[name].to_pylist() for name in ("key", "speaker", "split"))
    wanted = {speakers[row] for row in rows}
    known: dict[tuple[str, str], list[int]] = {}
    for row in np.argsort(np.array(keys, dtype=object), kind="stable").tolist():
        if speakers[row] in wanted:
            known.setdefault((speakers[row], in_split[row]), []).append(row)
    found: list[int | None] = []
    for row in rows:
        others = [other for other in known[speakers[row], in_split[row]] if other != row]
        found.append(Random(f"voice of {keys[row]}").choice(others) if others else None)
    return found
