"""The index as the batch plan reads it: the rows of each shard, and what is known of each clip.

A large index has a hundred thousand rows and millions of words. It is looked at a column at a time, for as many rows as
are needed at once, and never becomes one object a cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class IndexedClip(NamedTuple):
    """What is known of a clip when the part that is used is drawn.

    `text` is None where the corpus has none; `words` are (word, start, end) in seconds, empty without word times.
    """

    key: str
    split: str
    set: str
    speaker: str
    frames: int
    text: str | None
    words: Sequence[tuple[str, float, float]]


def rows_by_shard(index: pa.Table, splits: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """The rows of each shard of the splits, shards in the order of their names, rows as they are stored.

    Raises:
        ValueError: a split without clips; the message lists those there are.
    """
    counted = {entry["values"]: entry["counts"] for entry in pc.value_counts(index["split"]).to_pylist()}
    for split in splits:
        if not counted.get(split):
            known = ", ".join(f"{name} ({count} clips)" for name, count in sorted(counted.items()))
            raise ValueError(f"split {split!r}: there is no clip in it; the index has {known or 'none at all'}")
    rows = np.flatnonzero(pc.is_in(index["split"], pa.array(splits, pa.string())).to_numpy())
    names = pc.dictionary_encode(index["shard"].combine_chunks()).take(pa.array(rows))
    ranks = np.argsort(np.argsort(np.array(names.dictionary.to_pylist(), dtype=object), kind="stable"))
    of_row = ranks[names.indices.to_numpy()]
    order = np.argsort(of_row, kind="stable")
    return np.split(rows[order], np.flatnonzero(np.diff(of_row[order])) + 1) if len(rows) else []


def clips_of(index: pa.Table, rows: list[int]) -> Iterator[IndexedClip]:
    """Rows of the index as clips; a column at a time, since row by row takes ten times as long."""
    table = index.select(["key", "split", "set", "speaker", "frames", "text", "words"]).take(pa.array(rows, pa.int64()))
    columns = [table[name].to_pylist() for name in ("key", "split", "set", "speaker", "frames")]
    texts = (text or None for text in table["text"].to_pylist())
    lists = table["words"].combine_chunks()
    parts = lists.values
    # by way of NumPy: to_pylist makes each number an object of Arrow's first
    fields = (parts.field(name).to_numpy(zero_copy_only=False).tolist() for name in ("word", "start", "end"))
    timed = list(zip(*fields, strict=True))
    ends = lists.offsets.to_numpy().tolist()
    words = (timed[first:last] for first, last in pairwise(ends))
    return map(IndexedClip, *columns, texts, words)
