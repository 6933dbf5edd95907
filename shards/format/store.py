"""Where a dataset lies: a local folder or any fsspec URL, with writes that appear whole or not at all.

A local file is written beside its final name under a name unique to the attempt, synced, then renamed. An object store
gets one completed put of a local temporary file: the object appears when the upload is complete. Failures of the medium
come out as `StorageError`; a missing file stays `FileNotFoundError` and a forbidden one `PermissionError`, since those
say something about the file and not about the disk. So does `IrregularFileError`: a local FIFO, a device, a file of
holes, or one that is larger than its reader allows is never read.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from runtime.atomic import PART_SUFFIX, atomic_file
from runtime.regular_file import IrregularFileError, check_regular, open_regular, read_regular
from shards.format.errors import StorageError

_ABOUT_THE_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


@contextmanager
def _named(action: str, url: str, client: bool = True) -> Iterator[None]:
    """Turn a failure of the medium into `StorageError`, saying what was tried and on which file.

    `client`: also what is no OSError. The client of a file system raises classes of its own: botocore, aiohttp ...
    """
    try:
        yield
    except (StorageError, IrregularFileError):
        raise
    except _ABOUT_THE_FILE as error:
        if error.filename is None:  # object stores name neither the file nor, at times, the reason
            raise type(error)(error.errno, str(error) or action, url) from error
        raise
    except OSError as error:
        raise StorageError(error.errno or 0, f"{action} failed: {error.strerror or error}", url) from error
    except Exception as error:
        if not client:
            raise
        raise StorageError(0, f"{action} failed: {type(error).__name__}: {error}", url) from error


def _check_size(path: str, found: int, allowed: int) -> None:
    if found > allowed:
        raise IrregularFileError(f"{path}: {found:,} bytes, and at most {allowed:,} are allowed")


@dataclass(frozen=True)
class Store:
    """A folder or bucket prefix, given as a local path or a URL that fsspec understands (s3://, gs://, memory:// ...).

    Values only: a Store travels to other processes as its URL and opens its file system there.
    """

    url: str

    @cached_property
    def _opened(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            filesystem, path = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise ValueError(f"{self.url}: {error} (s3:// needs lip-to-speech's extra s3)") from error
        except ValueError as error:
            raise ValueError(f"{self.url}: no such kind of storage: {error}") from error
        return filesystem, path.rstrip("/") or "/"

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}  # the open file system stays behind

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's own file system (`ValueError`: no such kind of storage)."""
        return isinstance(self._opened[0], LocalFileSystem)

    def path(self, name: str = "") -> str:
        """The full name of a member of this store, as its file system wants it."""
        root = self._opened[1]
        return f"{root.rstrip('/')}/{name}" if name else root

    def parent(self, name: str = "") -> str:
        """The path or URL of what lies beside this store, or of the folder that both are in; a bucket has none."""
        if self.is_local:
            return os.path.join(os.path.dirname(self.path()), name)
        protocol, _, path = self.url.rstrip("/").partition("://")
        folder = path.rpartition("/")[0] or path
        return f"{protocol}://{folder}/{name}".rstrip("/")

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder of that name; without a name, the store itself (`StorageError`)."""
        with _named("looking", self.path(name)):
            return cast(bool, self._opened[0].exists(self.path(name)))

    def size(self, name: str) -> int:
        """Bytes of a file (`FileNotFoundError`, `IrregularFileError`, `StorageError`)."""
        with _named("asking the size", self.path(name)):
            if self.is_local:
                found = os.stat(self.path(name))
                check_regular(self.path(name), found)
                return found.st_size
            self._opened[0].invalidate_cache(self.path())
            return int(self._opened[0].size(self.path(name)))

    def read(self, name: str, max_bytes: int | None = None) -> bytes:
        """The whole content of a file.

        Raises:
            FileNotFoundError, PermissionError, StorageError: as the module says.
            IrregularFileError: no regular file, or one of more than `max_bytes`.
        """
        if max_bytes is not None and not self.is_local:
            _check_size(self.path(name), self.size(name), max_bytes)
        with _named("reading", self.path(name)):
            if self.is_local and max_bytes is not None:
                return read_regular(self.path(name), max_bytes)
            if self.is_local:
                with open_regular(self.path(name)) as file:
                    return file.read()
            content = cast(bytes, self._opened[0].cat_file(self.path(name)))
        if max_bytes is not None:
            _check_size(self.path(name), len(content), max_bytes)
        return content

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes of a file from `offset` on; fewer where the file ends before. Raises as `read`."""
        if size == 0:  # an object store would answer an empty range with other bytes
            return b""
        with _named("reading", self.path(name)):
            if self.is_local:
                with open_regular(self.path(name)) as file:
                    file.seek(offset)
                    left = max(0, os.fstat(file.fileno()).st_size - offset)
                    return file.read(min(size, left))  # takes room for what it is asked for
            return cast(bytes, self._opened[0].cat_file(self.path(name), start=offset, end=offset + size))

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for reading. Raises as `read`."""
        with _named("reading", self.path(name)):
            if self.is_local:
                file: IO[bytes] = open_regular(self.path(name))
            else:
                file = self._opened[0].open(self.path(name), "rb")
        with file:
            yield file

    def sha256(self, name: str) -> str:
        """The checksum of a file's content, in hexadecimal digits. Raises as `read`."""
        with self.open(name) as file, _named("reading", self.path(name)):
            return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()

    def names(self) -> list[str]:
        """Names of the files and folders directly in this store, sorted; none where it does not exist."""
        filesystem, root = self._opened
        with _named("listing", root):
            filesystem.invalidate_cache(root)
            try:
                found = filesystem.ls(root, detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in found if str(path).rstrip("/") != root)

    def remove(self, name: str) -> None:
        """Delete a file; it is no error if it is already gone."""
        with _named("deleting", self.path(name)), suppress(FileNotFoundError):
            self._opened[0].rm_file(self.path(name))

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Write a file that appears under its name only when the block ends without an error.

        Raises:
            StorageError: the medium failed (full disk, lost network); nothing is left under `name` by this attempt.
        """
        path = self.path(name)
        if self.is_local:
            with _named("writing", path, client=False), atomic_file(path) as file:
                yield file
            return
        with tempfile.NamedTemporaryFile(suffix=PART_SUFFIX) as part:
            with _named("writing", path, client=False):
                yield cast(IO[bytes], part)
                part.flush()
            with _named("writing", path):
                self._opened[0].put_file(part.name, path)
                self._opened[0].invalidate_cache(self.path())

    def write(self, name: str, content: bytes) -> None:
        """`create` for content that is already in memory."""
        with self.create(name) as file:
            file.write(content)


def absolute_url(url: str) -> str:
    """A local path made absolute, so that it means the same in another process; a URL as it is."""
    return url if "://" in url else os.path.abspath(os.path.expanduser(url))
