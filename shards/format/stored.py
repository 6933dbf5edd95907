"""Read a dataset's own files: bounded in bytes, and JSON against its schema; what is wrong is a `DatasetError`."""

from __future__ import annotations

from typing import Any, TypeVar

from runtime.regular_file import IrregularFileError
from runtime.stored_json import StoredJsonError, convert, decode_json
from shards.format.errors import DatasetError
from shards.format.store import Store

Kind = TypeVar("Kind")


def read_stored(store: Store, name: str, max_bytes: int) -> bytes:
    """The content of a dataset's file.

    Raises:
        DatasetError: it is no regular file, or has more than `max_bytes`.
        FileNotFoundError, StorageError: as `Store.read`.
    """
    try:
        return store.read(name, max_bytes)
    except IrregularFileError as error:
        raise DatasetError(str(error)) from error


def decode_stored(content: bytes, kind: type[Kind], where: str, max_bytes: int, *, extra: bool = False) -> Kind:
    """`runtime.stored_json.decode_json` of a dataset's JSON (`DatasetError`, which begins with `where`)."""
    try:
        return decode_json(content, kind, where, max_bytes=max_bytes, extra=extra)
    except StoredJsonError as error:
        raise DatasetError(str(error)) from error


def convert_stored(values: Any, kind: type[Kind], where: str) -> Kind:
    """The same from values that are there already (`runtime.stored_json.convert`)."""
    try:
        return convert(values, kind, where)
    except StoredJsonError as error:
        raise DatasetError(str(error)) from error
