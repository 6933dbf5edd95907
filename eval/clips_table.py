"""Read `clips.parquet`, the rows of an evaluation: sizes, checksum, schema and values are checked.

A small parquet file may claim billions of rows, or repeat a text of megabytes a million times: texts are read as
indices into a dictionary and measured before they are written out.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eval.result_schema import ResultsError, check_columns, check_rows, schema_of
from runtime.limits import MAX_TABLE_BYTES, MAX_TABLE_COLUMNS, MAX_TABLE_ROWS, check_limit
from runtime.regular_file import IrregularFileError, open_regular

_ROWS_AT_ONCE = 65_536

_UNREADABLE = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)
"""What pyarrow raises for damaged files, beside its own `pa.ArrowException`."""


def read_clips(path: Path, checksum: str | None = None) -> pa.Table | None:
    """The rows of an evaluation, of the columns of `schema_of` its metrics; None where there is no such file.

    Args:
        path: of the parquet file.
        checksum: SHA-256 that it had when it was written; None: not known.

    Raises:
        ResultsError: it is no regular file, too large, changed or damaged, or holds what an evaluation never writes.
    """
    try:
        with open_regular(path, MAX_TABLE_BYTES) as file:
            found = pq.read_metadata(file)
            sizes = [found.row_group(number).total_byte_size for number in range(found.num_row_groups)]
            check_limit("rows", found.num_rows, MAX_TABLE_ROWS)
            check_limit("columns", found.num_columns, MAX_TABLE_COLUMNS)
            check_limit("bytes of rows", sum(sizes), MAX_TABLE_BYTES)
            file.seek(0)
            if checksum is not None and hashlib.file_digest(cast(Any, file), "sha256").hexdigest() != checksum:
                raise ResultsError(f"{path}: is not as it was written: its checksum is another one than in SHA256SUMS")
            file.seek(0)
            check_columns(pq.ParquetFile(file).schema_arrow, str(path))
            file.seek(0)
            texts = [column.name for column in schema_of(()) if pa.types.is_string(column.type)]
            parquet = pq.ParquetFile(file, read_dictionary=texts)
            table = _read_rows(parquet)
            table.validate(full=True)
    except FileNotFoundError:
        return None
    except ResultsError:
        raise
    except (*_UNREADABLE, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    check_rows(table, str(path))
    return table


def unreadable(path: Path, error: BaseException) -> ResultsError:
    """That a stored file cannot be read, and why, with its name once."""
    if isinstance(error, IrregularFileError):
        return ResultsError(str(error))
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()[:500]
    return ResultsError(f"{path}: not readable: {reason or type(error).__name__}")


def _read_rows(parquet: pq.ParquetFile) -> pa.Table:
    """The rows, their texts measured before they are written out; `ValueError` for too many bytes."""
    schema, size = _without_dictionaries(parquet.schema_arrow), 0
    batches = []
    for batch in parquet.iter_batches(_ROWS_AT_ONCE, use_threads=False):
        for column in batch.columns:
            if pa.types.is_dictionary(column.type):
                column.validate(full=True)
                lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
                size += pc.sum(lengths).as_py() or 0
            else:
                size += column.nbytes
        check_limit("bytes of rows", size, MAX_TABLE_BYTES)
        batches.append(batch.cast(schema))
    return pa.Table.from_batches(batches, schema)


def _without_dictionaries(schema: pa.Schema) -> pa.Schema:
    """A schema whose texts are no indices into a dictionary, and that has no metadata."""
    plain = (column.type.value_type if pa.types.is_dictionary(column.type) else column.type for column in schema)
    return pa.schema([pa.field(name, kind) for name, kind in zip(schema.names, plain, strict=True)])
