"""Write the index, shard after shard."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.format.hashing_file import HashingFile
from shards.format.index import INDEX_SCHEMA

ROWS_OF_GROUP = 2048
"""Of a row group, at least, but for the last: smaller ones make opening slower, larger ones drawing texts."""


class IndexWriter:
    """Writes the index to a file, shard after shard; the same rows give the same bytes (same pyarrow).

    A row group ends with the shard that fills it, so that a reader of few shards decodes few rows.

    Args:
        file: open for writing, at its beginning.

    Attributes:
        sha256: of what was written; once the block has ended.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._pending, self._rows, self._groups = HashingFile(file), list[pa.Table](), 0, 0
        self._parquet = pq.ParquetWriter(
            pa.PythonFile(self._file, "w"), INDEX_SCHEMA, compression="zstd", store_schema=False
        )
        self.sha256 = ""

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and (self._rows or not self._groups):
            self._write_group()
        self._parquet.close()
        self.sha256 = self._file.digest.hexdigest()

    def write(self, rows: list[dict[str, Any]]) -> None:
        """The rows of a shard, all of them."""
        self._pending.append(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA))
        self._rows += len(rows)
        if self._rows >= ROWS_OF_GROUP:
            self._write_group()

    def _write_group(self) -> None:
        table = pa.concat_tables([INDEX_SCHEMA.empty_table(), *self._pending])
        self._parquet.write_table(table, row_group_size=max(1, len(table)))
        self._pending, self._rows, self._groups = [], 0, self._groups + 1


def encode_index(rows: Iterable[dict[str, Any]]) -> bytes:
    """The bytes that `IndexWriter` writes of all rows, which come shard after shard."""
    buffer = io.BytesIO()
    with IndexWriter(buffer) as writer:
        for _, of_shard in groupby(rows, key=itemgetter("shard")):
            writer.write(list(of_shard))
    return buffer.getvalue()
