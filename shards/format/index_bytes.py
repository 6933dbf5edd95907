"""The bytes of an index as a local file, and their checksum: that of a local dataset itself, of a remote one a copy."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from typing import Any, cast

from runtime.limits import MAX_INDEX_BYTES
from runtime.regular_file import IrregularFileError
from shards.format.errors import DatasetError
from shards.format.store import Store

INDEX_NAME = "index.parquet"

_READ_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class FetchedIndex:
    """The bytes of an index as a local file: that of a local dataset itself, or a copy.

    Attributes:
        path: of the file.
        sha256: of its content.
        identity: of the very file that this was taken of.
        copy: deletes the file when nobody needs it any more; None: it is the dataset's own.
    """

    path: str
    sha256: str
    identity: tuple[int, ...]
    copy: Any = None


def fetch_index(store: Store) -> FetchedIndex:
    """The index of a dataset as a local file.

    Raises:
        FileNotFoundError: there is none.
        DatasetError: it is no regular file, or too large.
        StorageError: as `Store.read`.
    """
    where, digest = store.path(INDEX_NAME), hashlib.sha256()
    try:
        size = store.size(INDEX_NAME)
        if size > MAX_INDEX_BYTES:
            raise IrregularFileError(f"{where}: {size:,} bytes, and at most {MAX_INDEX_BYTES:,} are allowed")
        with store.open(INDEX_NAME) as file:
            if store.is_local:
                identity = identity_of(os.fstat(file.fileno()))
                return FetchedIndex(where, hashlib.file_digest(cast(Any, file), "sha256").hexdigest(), identity)
            copy = tempfile.NamedTemporaryFile(suffix=f".{INDEX_NAME}")  # noqa: SIM115
            while block := file.read(_READ_AT_ONCE):
                digest.update(block)
                if copy.write(block) and copy.tell() > size:
                    raise IrregularFileError(f"{where}: has more than the {size:,} bytes that it is said to have")
            copy.flush()
    except IrregularFileError as error:
        raise DatasetError(str(error)) from error
    return FetchedIndex(copy.name, digest.hexdigest(), identity_of(os.fstat(copy.fileno())), copy)


def identity_of(found: os.stat_result) -> tuple[int, ...]:
    """What tells a file from another that took its place."""
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
