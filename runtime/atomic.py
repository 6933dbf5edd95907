"""Write a local file so that it appears whole or not at all: under a temporary name beside it, synced, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PART_SUFFIX = ".part"
"""End of the temporary names, `.NAME.<hex>.part`: unique to the attempt, so two writers never share one."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path to write to, which takes the place of `path` when the block ends without an error.

    Folders are made. Whatever goes wrong, the file that was under `path` before stays, and nothing else is left.

    Raises:
        OSError: naming a file: it cannot be written (full disk, no permission).
    """
    final = Path(path)
    part = final.with_name(f".{final.name}.{uuid.uuid4().hex}{PART_SUFFIX}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _sync(part)
        os.replace(part, final)
        with suppress(OSError):  # makes the rename survive a power cut, where the platform lets a folder be synced
            _sync(final.parent)
    except OSError as error:
        if error.filename is None and type(error) is OSError:  # a write to a full disk does not say which file
            raise OSError(error.errno, error.strerror or str(error), str(final)) from error
        raise
    finally:
        with suppress(OSError):
            os.remove(part)


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """The same as a binary file, open for writing (OSError, as `atomic_path`)."""
    with atomic_path(path) as part, part.open("xb") as file:
        yield file


def atomic_write(path: str | os.PathLike[str], content: bytes | str) -> None:
    """The same for content that is already in memory; text is written as UTF-8 (OSError, as `atomic_path`)."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
