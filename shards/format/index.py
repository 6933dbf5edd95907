"""The index: a parquet table with a row a clip, which says where in which shard each member's bytes lie.

A reader plans whole epochs on it and then touches only the bytes it needs.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runtime.limits import MAX_INDEX_BYTES, MAX_INDEX_RATIO, MAX_INDEX_ROWS, MIN_INDEX_ROOM, check_limit
from shards.format.errors import DatasetError, unreadable
from shards.format.index_checks import index_problems
from shards.format.manifest import Manifest
from shards.format.member_names import MEMBERS
from shards.format.store import Store
from shards.format.stored import read_stored

INDEX_NAME = "index.parquet"
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

_VALUE_BYTES = 8
"""In memory, of a value in any column, at most; a string's own come on top."""


def encode_index(rows: Iterable[dict[str, Any]]) -> bytes:
    """Parquet bytes of index rows; the same rows give the same bytes (same pyarrow)."""
    table = pa.Table.from_pylist(list(rows), schema=INDEX_SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", store_schema=False)
    return buffer.getvalue()


def read_index(store: Store, manifest: Manifest) -> pa.Table:
    """The index of a dataset.

    Raises:
        DatasetError: there is none, it is not the one that the manifest names, or a row of it says what cannot be.
    """
    where = store.path(INDEX_NAME)
    try:
        content = read_stored(store, INDEX_NAME, MAX_INDEX_BYTES)
    except FileNotFoundError as error:
        raise DatasetError(f"{where}: no index: the build has not finished") from error
    if hashlib.sha256(content).hexdigest() != manifest.sha256.get(INDEX_NAME):
        raise DatasetError(f"{where}: sha256 is not the manifest's: damaged, or of another build (pipeline verify)")
    index = decode_index(content, where)
    for problem in index_problems(index, manifest):
        raise DatasetError(f"{where}: {problem}")
    return index


def decode_index(content: bytes, where: str) -> pa.Table:
    """The table in the bytes of an index: of `INDEX_SCHEMA`, without nulls, its text UTF-8.

    Raises:
        DatasetError: it is no such table, or takes far more memory than its file; begins with `where`.
    """
    damage = (pa.ArrowException, LookupError, OSError, ValueError, TypeError)
    with unreadable(f"{where}: not a readable index", *damage):
        _check_room(content, where)
        index = pq.read_table(io.BytesIO(content)).cast(INDEX_SCHEMA)
        index.validate(full=True)
    for name in INDEX_SCHEMA.names:
        parts = [index[name]] if name != "words" else [index[name], *_words(index).flatten()]
        nulls = sum(part.null_count for part in parts)
        if nulls:
            raise DatasetError(f"{where}: column {name}: {nulls} nulls, expected none")
    return index


def _check_room(content: bytes, where: str) -> None:
    """Refuse columns that are not an index's, and values that take far more memory than the file that they are in.

    What a file says of itself is compared before anything is read. Then strings are read without those that repeat,
    which is how one of a megabyte may stand in a million rows.
    """
    room = max(MIN_INDEX_ROOM, MAX_INDEX_RATIO * len(content))
    plain = pq.ParquetFile(io.BytesIO(content))
    found = {field.name: field.type for field in plain.schema_arrow}
    expected = {field.name: field.type for field in INDEX_SCHEMA}
    if list(found) != list(expected) or len(plain.schema_arrow) != len(expected):
        wrong = sorted(found.keys() ^ expected.keys()) or ["one is there twice, or their order is another"]
        raise DatasetError(f"{where}: missing or unknown columns: {', '.join(map(str, wrong[:5]))}")
    for name, kind in expected.items():
        if found[name] != kind:
            raise DatasetError(f"{where}: column {name}: found {found[name]}, expected {kind}")
    metadata = plain.metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    check_limit(f"{where}: rows", metadata.num_rows, MAX_INDEX_ROWS)
    values = sum(group.column(column).num_values for group in groups for column in range(group.num_columns))
    check_limit(f"{where}: bytes in memory", _VALUE_BYTES * max(values, metadata.num_rows), room)
    check_limit(f"{where}: bytes in memory", sum(group.total_byte_size for group in groups), room)
    strings = [column.path for column in plain.schema if column.physical_type == "BYTE_ARRAY"]
    table = pq.ParquetFile(io.BytesIO(content), read_dictionary=strings).read(strings, use_threads=False)
    columns = [table[field.name] for field in INDEX_SCHEMA if field.type == pa.string()]
    sizes = (_string_bytes(column) for column in (*columns, pc.struct_field(_words(table), "word")))
    check_limit(f"{where}: bytes in memory", _VALUE_BYTES * values + sum(sizes), room)


def _words(table: pa.Table) -> pa.ChunkedArray:
    return pc.list_flatten(table["words"])


def _string_bytes(column: pa.ChunkedArray) -> int:
    """Bytes of a column of strings, each of which is held once, when each is held for itself."""
    lengths = (pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() for chunk in column.chunks)
    return sum(length or 0 for length in lengths)
