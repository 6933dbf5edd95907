"""The index: a parquet table with a row a clip, which says where in which shard each member's bytes lie.

A reader plans whole epochs on it and then touches only the bytes it needs.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.format.errors import DatasetError, unreadable
from shards.format.store import Store

INDEX_NAME = "index.parquet"
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
MEMBERS = ("json", "mel", "roi", "txt", "wav")
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


def split_member(name: str) -> tuple[str, str] | None:
    """`main/a/1.roi.npy` -> (`main/a/1`, `roi.npy`), as WebDataset takes names apart; None: no member is named so."""
    match = _MEMBER.fullmatch(name)
    return (match[1], match[2]) if match else None


def member_extension(member: str, roi_member: str) -> str:
    """The extension under which a clip's member lies in its tar: `roi` -> its `roi_member`, `txt` -> `txt`."""
    return {"roi": roi_member, "mel": "mel.npy"}.get(member, member)


def encode_index(rows: Iterable[dict[str, Any]]) -> bytes:
    """Parquet bytes of index rows; the same rows give the same bytes (same pyarrow)."""
    table = pa.Table.from_pylist(list(rows), schema=INDEX_SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", store_schema=False)
    return buffer.getvalue()


def read_index(store: Store) -> pa.Table:
    """The index of a dataset.

    Raises:
        DatasetError: there is none, or it is not readable as one.
    """
    try:
        content = store.read(INDEX_NAME)
    except FileNotFoundError as error:
        raise DatasetError(f"{store.path(INDEX_NAME)}: no index: the build has not finished") from error
    with unreadable(f"{store.path(INDEX_NAME)}: not a readable index", pa.ArrowException, KeyError, OSError):
        table = pq.read_table(io.BytesIO(content))
        return table.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA)
