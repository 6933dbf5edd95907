"""The index as training and evaluation use it: what is known of each clip in columns, texts and word times on disk.

The index of 10,000 hours has 5 million rows and 100 million words. It is looked at a column at a time, never becomes
one object a cell, and a text or the times of a word are read where a clip's part is drawn.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shards.format.errors import DatasetError
from shards.format.index import ENCODED, IndexFile, open_index
from shards.format.index_bytes import INDEX_NAME
from shards.format.index_checks import codes_of, index_problems, text_problems
from shards.format.manifest import Manifest
from shards.format.store import Store

Array = np.ndarray[Any, Any]

READ_MEMBERS = ("mel", "roi", "wav")
"""Whose places are kept: those that batches are made of."""

_COLUMNS = (*ENCODED, "frames", *(f"{name}_{what}" for name in READ_MEMBERS for what in ("offset", "size")))
_TEXTS = ("key", "text", "words")
_MOST_TEXT_BYTES = 256 << 20
"""In memory, of row groups whose texts were read last."""


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


class WordTimes(NamedTuple):
    """Words of some clips: int64 (n + 1,) where in the times those of each clip begin, and after the last end; float64
    (words,) seconds."""

    edges: Array
    start: Array
    end: Array


class ClipIndex:
    """Columns of an index.

    Attributes:
        keys: Arrow strings, of each row.
        frames: int32 (rows,) video frames.
        split, set, shard, speaker: distinct names, and int32 (rows,) which of them each row has.
        video: bool (rows,): whether its lip region is a small video.
        offsets, sizes: int64 (rows,) of each of `READ_MEMBERS`.
    """

    def __init__(self, table: pa.Table, texts: IndexFile | pa.Table) -> None:
        self.keys = table["key"].combine_chunks()
        self.split, self.set, self.shard, self.speaker = (codes_of(table[name]) for name in ENCODED[:-1])
        self.frames: Array = table["frames"].to_numpy()
        self.video: Array = pc.equal(table["roi_member"], "roi.mkv").to_numpy()
        self.offsets, self.sizes = (
            {name: table[f"{name}_{what}"].to_numpy() for name in READ_MEMBERS} for what in ("offset", "size")
        )
        self._texts, self._where = texts, ""
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()

    @classmethod
    def open(cls, store: Store, manifest: Manifest) -> ClipIndex:
        """The index of a dataset. What batches are made from is compared at once, texts and words as they are read.

        Raises:
            DatasetError: as `read_index`.
        """
        file = open_index(store, manifest)
        keys = file.columns(["key"]).combine_chunks()["key"]
        table = file.columns(_COLUMNS, ENCODED).append_column("key", keys)
        where = store.path(INDEX_NAME)
        for problem in index_problems(table, manifest):
            raise DatasetError(f"{where}: {problem}")
        index = cls(table, file)
        index._where = where
        return index

    @classmethod
    def of(cls, index: ClipIndex | pa.Table) -> ClipIndex:
        """The same of a table in memory, which has all columns of `INDEX_SCHEMA`."""
        return index if isinstance(index, ClipIndex) else cls(index, index)

    def __len__(self) -> int:
        return len(self.frames)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_groups": OrderedDict()}

    def keys_of(self, rows: Sequence[int] | Array) -> list[str]:
        """The keys of rows."""
        found: list[str] = self.keys.take(pa.array(rows, pa.int64())).to_pylist()
        return found

    def rows_of(self, splits: Sequence[str]) -> Array:
        """The rows of splits, as they are stored.

        Raises:
            ValueError: a split without clips; the message lists those there are.
        """
        names, split_of = self.split
        counts = np.bincount(split_of, minlength=len(names)).tolist()
        counted = {name: count for name, count in zip(names, counts, strict=True) if count}
        for split in splits:
            if split not in counted:
                known = ", ".join(f"{name} ({count} clips)" for name, count in sorted(counted.items()))
                raise ValueError(f"split {split!r}: there is no clip in it; the index has {known or 'none at all'}")
        chosen = np.isin(names, list(splits)) if names else np.empty(0, bool)
        return np.flatnonzero(chosen[split_of])

    def has_text(self, splits: Sequence[str]) -> bool:
        """Whether a clip of the splits has a transcript (`ValueError`: as `rows_of`)."""
        rows = self.rows_of(splits)
        for table, first in self._text_groups(("key", "text")):
            mine = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(table))] - first
            if any(text.strip() for text in table["text"].take(pa.array(mine)).to_pylist()):
                return True
        return False

    def word_times(self) -> Iterator[tuple[int, WordTimes]]:
        """When the words of all clips are said, in parts: the first row of each, and its words."""
        for table, first in self._text_groups(("key", "words.list.element.start", "words.list.element.end")):
            yield first, _times_of(table["words"].combine_chunks())

    def texts_of(self, rows: Sequence[int] | Array) -> pa.Table:
        """Key, text and words of rows."""
        if not isinstance(self._texts, IndexFile):
            return self._texts.select(_TEXTS).take(pa.array(rows, pa.int64()))
        wanted = np.asarray(rows, np.int64)
        order = np.argsort(wanted, kind="stable")
        groups = np.searchsorted(self._texts.first_rows, wanted[order], side="right") - 1
        parts = []
        for places in np.split(order, np.flatnonzero(np.diff(groups)) + 1) if len(order) else ():
            number = self._texts.group_of(int(wanted[places[0]]))
            parts.append(self._group(number).take(pa.array(wanted[places] - self._texts.first_rows[number])))
        if not parts:
            return self._texts.group(0, _TEXTS).slice(0, 0)
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return pa.concat_tables(parts).take(pa.array(back))

    def _group(self, number: int) -> pa.Table:
        """The texts of a row group, which are kept while others are not more than fit."""
        assert isinstance(self._texts, IndexFile)
        if number not in self._groups:
            self._groups[number] = self._checked(self._texts.group(number, _TEXTS))
            while len(self._groups) > 1 and sum(each.nbytes for each in self._groups.values()) > _MOST_TEXT_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(number)
        return self._groups[number]

    def _text_groups(self, names: Sequence[str]) -> Iterator[tuple[pa.Table, int]]:
        first = 0
        if isinstance(self._texts, IndexFile):
            for table in self._texts.groups(names):
                yield self._checked(table), first
                first += len(table)
        else:
            yield self._texts, 0

    def _checked(self, table: pa.Table) -> pa.Table:
        for problem in text_problems(table):
            raise DatasetError(f"{self._where}: {problem}")
        return table


def rows_by_shard(index: ClipIndex, splits: Sequence[str]) -> list[Array]:
    """The rows of each shard of the splits, shards in the order of their names, rows as they are stored.

    Raises:
        ValueError: a split without clips; the message lists those there are.
    """
    rows = index.rows_of(splits)
    names, shard_of = index.shard
    ranks = np.argsort(np.argsort(np.array(names, dtype=object), kind="stable"))
    of_row = ranks[shard_of[rows]]
    order = np.argsort(of_row, kind="stable")
    return np.split(rows[order], np.flatnonzero(np.diff(of_row[order])) + 1) if len(rows) else []


def clips_of(index: ClipIndex, rows: Sequence[int] | Array) -> Iterator[IndexedClip]:
    """Rows of the index as clips; a column at a time, since row by row takes ten times as long."""
    taken = np.asarray(rows, np.int64)
    table = index.texts_of(taken)
    names = ([names[code] for code in of_row[taken]] for names, of_row in (index.split, index.set, index.speaker))
    columns = [table["key"].to_pylist(), *names, index.frames[taken].tolist()]
    texts = (text or None for text in table["text"].to_pylist())
    lists = table["words"].combine_chunks()
    edges, start, end = _times_of(lists)
    said = pc.struct_field(lists.values, "word").to_numpy(zero_copy_only=False).tolist()
    timed = list(zip(said, start.tolist(), end.tolist(), strict=True))
    words = (timed[first:last] for first, last in pairwise(edges.tolist()))
    return map(IndexedClip, *columns, texts, words)


def _times_of(words: pa.Array) -> WordTimes:
    # by way of NumPy: to_pylist makes each number an object of Arrow's first
    start, end = (pc.struct_field(words.values, name).to_numpy(zero_copy_only=False) for name in ("start", "end"))
    return WordTimes(words.offsets.to_numpy().astype(np.int64), start, end)
