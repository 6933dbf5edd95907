"""The index: a parquet table with a row a clip, which says where in which shard each member's bytes lie.

A reader plans whole epochs on it and then touches only the bytes it needs. The index of 10,000 hours is a gigabyte,
most of it texts and word times: `IndexFile` reads the columns that are asked for, and these of some rows.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runtime.limits import MAX_INDEX_RATIO, MAX_INDEX_ROWS, MIN_INDEX_ROOM, check_limit
from shards.format.errors import DatasetError, unreadable
from shards.format.index_bytes import INDEX_NAME, FetchedIndex, fetch_index, identity_of
from shards.format.index_checks import index_problems
from shards.format.manifest import Manifest
from shards.format.member_names import MEMBERS
from shards.format.store import Store

INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("set", pa.string()),
        ("shard", pa.string()),
        ("frames", pa.int32()),
        ("speaker", pa.string()),
        ("source", pa.string()),
        ("text", pa.string()),
        ("words", pa.list_(pa.struct([("word", pa.string()), ("start", pa.float64()), ("end", pa.float64())]))),
        ("roi_member", pa.string()),
        *((f"{member}_{what}", pa.int64()) for member in MEMBERS for what in ("offset", "size")),
    ]
)
"""Columns of the index. Offsets are of a member's first content byte in its tar, sizes are in bytes."""

ENCODED = ("split", "set", "shard", "speaker", "roi_member")
"""Columns of strings that many rows have."""

_VALUE_BYTES = 8
"""In memory, of a value in any column, at most; a string's own come on top."""

_DAMAGE = (pa.ArrowException, LookupError, OSError, ValueError, TypeError)


class IndexFile:
    """An index that lies open: what it says of itself is compared, its rows are not (`index_problems`).

    Columns are read as they are asked for. Whatever is read is of `INDEX_SCHEMA`, without nulls, its text UTF-8; what
    is not is a `DatasetError`, and so is what takes far more memory than its file. It travels to other processes by its
    path, and each opens it for itself.

    Args:
        fetched: from `fetch_index`.
        where: what errors call it.

    Attributes:
        rows: how many there are.
        first_rows: the number of the first row of each row group, and at its end `rows`.
    """

    def __init__(self, fetched: FetchedIndex, where: str) -> None:
        self._fetched, self._where = fetched, where
        self._opened: tuple[int, Any] | None = None
        size = fetched.identity[-1]
        self._room = max(MIN_INDEX_ROOM, MAX_INDEX_RATIO * size)
        with self._unreadable():
            metadata = self._parquet().metadata
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            self.rows: int = metadata.num_rows
            self.first_rows = [0, *accumulate(group.num_rows for group in groups)]
            check_limit(f"{where}: rows", max(self.rows, self.first_rows[-1]), MAX_INDEX_ROWS)
            values = sum(group.column(column).num_values for group in groups for column in range(group.num_columns))
            self._value_bytes = _VALUE_BYTES * max(values, self.rows)
            check_limit(f"{where}: bytes in memory", self._value_bytes, self._room)
            check_limit(f"{where}: bytes in memory", sum(group.total_byte_size for group in groups), self._room)

    def __getstate__(self) -> dict[str, Any]:
        fetched = self._fetched
        return vars(self) | {"_opened": None, "_fetched": FetchedIndex(fetched.path, fetched.sha256, fetched.identity)}

    def columns(self, names: Sequence[str], encoded: Sequence[str] = ()) -> pa.Table:
        """Columns of all rows, but for `words`; the strings of `encoded` ones are kept once each, in dictionaries."""
        with self._unreadable():
            return self._plain(self._parquet().read(list(names), use_threads=True), encoded, self._value_bytes)[0]

    def groups(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Columns of all rows, `words` or a part of it (`words.list.element.start`) too, a row group at a time."""
        taken = self._value_bytes
        for number in range(len(self.first_rows) - 1):
            with self._unreadable():
                table, strings = self._plain(self._read_group(number, names), (), taken)
            taken += strings
            yield table

    def group(self, number: int, names: Sequence[str]) -> pa.Table:
        """Columns of a row group."""
        with self._unreadable():
            return self._plain(self._read_group(number, names), (), 0)[0]

    def group_of(self, row: int) -> int:
        """The number of the row group that a row is in."""
        return bisect_right(self.first_rows, row) - 1

    def table(self) -> pa.Table:
        """All of it, in memory."""
        with self._unreadable():
            return pa.concat_tables([INDEX_SCHEMA.empty_table(), *self.groups(INDEX_SCHEMA.names)])

    def _parquet(self) -> Any:
        """The file as it is open in this very process: after a fork a lock may be held that nobody gives back."""
        if self._opened is None or self._opened[0] != os.getpid():
            path = self._fetched.path
            if identity_of(os.stat(path)) != self._fetched.identity:
                raise DatasetError(f"{self._where}: was replaced while it was read: by another build?")
            plain = pq.ParquetFile(path)
            _check_columns(plain.schema_arrow, self._where)
            strings = [column.path for column in plain.schema if column.physical_type == "BYTE_ARRAY"]
            parquet = pq.ParquetFile(path, metadata=plain.metadata, read_dictionary=strings)
            self._opened = os.getpid(), parquet
        return self._opened[1]

    def _read_group(self, number: int, names: Sequence[str]) -> pa.Table:
        return self._parquet().read_row_group(number, list(names), use_threads=False)

    def _plain(self, read: pa.Table, encoded: Sequence[str], taken: int) -> tuple[pa.Table, int]:
        """What was read as dictionaries, which is how a string of a megabyte may stand in a million rows, as plain
        strings, once it is known that these fit into the room of which so many bytes are taken; and their bytes."""
        strings = sum(_string_bytes(read[name]) for name in read.column_names if name not in encoded)
        check_limit(f"{self._where}: bytes in memory", taken + strings, self._room)
        kinds = [
            field if field.name in encoded else field.with_type(_plain_type(field.type, INDEX_SCHEMA.field(field.name)))
            for field in read.schema
        ]
        table = read.cast(pa.schema(kinds))
        table.validate(full=True)
        for name in table.column_names:
            parts = [table[name]] if name != "words" else [table[name], *_words(table).flatten()]
            nulls = sum(part.null_count for part in parts)
            if nulls:
                raise DatasetError(f"{self._where}: column {name}: {nulls} nulls, expected none")
        return table, strings

    @contextmanager
    def _unreadable(self) -> Iterator[None]:
        with unreadable(f"{self._where}: not a readable index", *_DAMAGE):
            yield


def open_index(store: Store, manifest: Manifest) -> IndexFile:
    """The index of a dataset, without a look at its rows.

    Raises:
        DatasetError: there is none, it is not the one that the manifest names, or not readable as one.
    """
    where = store.path(INDEX_NAME)
    try:
        fetched = fetch_index(store)
    except FileNotFoundError as error:
        raise DatasetError(f"{where}: no index: the build has not finished") from error
    if fetched.sha256 != manifest.sha256.get(INDEX_NAME):
        raise DatasetError(f"{where}: sha256 is not the manifest's: damaged, or of another build (pipeline verify)")
    return IndexFile(fetched, where)


def read_index(store: Store, manifest: Manifest) -> pa.Table:
    """The index of a dataset, all of it: of 10,000 hours it takes gigabytes.

    Raises:
        DatasetError: as `open_index`, or a row of it says what cannot be.
    """
    index = open_index(store, manifest).table()
    for problem in index_problems(index, manifest):
        raise DatasetError(f"{store.path(INDEX_NAME)}: {problem}")
    return index


def _check_columns(schema: pa.Schema, where: str) -> None:
    found = {field.name: field.type for field in schema}
    expected = {field.name: field.type for field in INDEX_SCHEMA}
    if list(found) != list(expected) or len(schema) != len(expected):
        wrong = sorted(found.keys() ^ expected.keys()) or ["one is there twice, or their order is another"]
        raise DatasetError(f"{where}: missing or unknown columns: {', '.join(map(str, wrong[:5]))}")
    for name, kind in expected.items():
        if found[name] != kind:
            raise DatasetError(f"{where}: column {name}: found {found[name]}, expected {kind}")


def _plain_type(found: pa.DataType, expected: pa.Field) -> pa.DataType:
    """The type of the schema, or of those fields of words that were read."""
    if not pa.types.is_list(found):
        return expected.type
    read = [field for field in expected.type.value_type if found.value_type.get_field_index(field.name) >= 0]
    return pa.list_(pa.struct(read))


def _words(table: pa.Table) -> pa.ChunkedArray:
    return pc.list_flatten(table["words"])


def _string_bytes(column: pa.ChunkedArray) -> int:
    """Bytes of the strings in a column, each of which is held once, when each is held for itself."""
    if pa.types.is_list(column.type):
        if column.type.value_type.get_field_index("word") < 0:
            return 0
        column = pc.struct_field(pc.list_flatten(column), "word")
    if not pa.types.is_dictionary(column.type):
        return 0
    lengths = (pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() for chunk in column.chunks)
    return sum(length or 0 for length in lengths)
