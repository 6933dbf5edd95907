"""Where a clip's video is decoded from: memory, or, of a large file, the disk."""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.media.errors import ClipError
from pipeline.media.source_store import OutsideError
from runtime.regular_file import IrregularFileError
from shards import StorageError, Store
from shards.format.sidecar import Reason

_MEMORY_BYTES = 64 << 20


def read_file(store: Store, path: str, unreadable: Reason) -> bytes:
    """The content of a corpus's file.

    Raises:
        ClipError: it may not be read, with the reason `unreadable`; it is no regular file, or lies outside the corpus.
        StorageError: the disk or network failed, or the file is gone.
    """
    with _named(store, path, unreadable):
        return store.read(path)


@contextmanager
def opened_file(store: Store, path: str, unreadable: Reason) -> Iterator[IO[bytes]]:
    """A corpus's file, opened for reading (errors as `read_file`)."""
    with _named(store, path, unreadable), store.open(path) as file:
        yield file


@contextmanager
def video_file(store: Store, path: str, size: int) -> Iterator[tuple[bytes | Path, str]]:
    """A video and the sha256 of its file, in hexadecimal digits.

    Args:
        store, path: where it lies.
        size: bytes of it, as the corpus was indexed.

    Returns:
        Its content, or of a large one its path: where it lies, or that of a temporary copy.

    Raises:
        ClipError, StorageError: as `read_file`.
    """
    if store.is_local:  # it may have grown since
        with _named(store, path, "video_unreadable"):
            size = store.size(path)
    if size <= _MEMORY_BYTES:
        content = read_file(store, path, "video_unreadable")
        yield content, hashlib.sha256(content).hexdigest()
        return
    with _named(store, path, "video_unreadable"):
        digest = store.sha256(path)
    if store.is_local:
        yield Path(store.path(path)), digest
        return
    with tempfile.TemporaryDirectory(prefix="video-") as folder:
        copy = Path(folder) / "video"
        with _named(store, path, "video_unreadable"), store.open(path) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        yield copy, digest


@contextmanager
def _named(store: Store, path: str, unreadable: Reason) -> Iterator[None]:
    """A file that was there when the corpus was indexed: if it is not now, the corpus is not mounted here."""
    try:
        yield
    except FileNotFoundError as error:
        message = "gone since the corpus was indexed: is the corpus mounted on this machine?"
        raise StorageError(error.errno or 0, message, store.path(path)) from error
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise ClipError("read", unreadable, f"{type(error).__name__}: {error.strerror}") from error
    except OutsideError as error:
        raise ClipError("read", "outside_corpus", f"{path}: a link that leads out of the corpus") from error
    except IrregularFileError as error:
        detail = f"{path}: {str(error).removeprefix(f'{store.path(path)}: ')}"
        raise ClipError("read", "not_regular", detail) from error
    except StorageError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ClipError("read", "not_regular", f"{path}: links that lead in a circle") from error
