"""Open and read files that strangers made: regular files only, of at most so many bytes.

A FIFO or a device would be waited for without end, and a sparse file of a few blocks may claim terabytes.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, cast

from runtime.limits import MAX_HOLES, SPARSE_FROM_BYTES

_BLOCK_BYTES = 1 << 20

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class IrregularFileError(ValueError):
    """No regular file, one of holes, or one that is too large; names the file, what was found and what is allowed."""


def open_regular(path: str | os.PathLike[str], max_bytes: int | None = None) -> BinaryIO:
    """Open a regular file for reading, without waiting for anything.

    Raises:
        IrregularFileError: it is a FIFO, a socket or a device, nearly all holes, or has more than `max_bytes`.
        OSError: it is a folder, or cannot be opened; of links that lead in a circle, too.
    """
    return cast(BinaryIO, os.fdopen(regular_descriptor(path, max_bytes), "rb"))


def regular_descriptor(path: str | os.PathLike[str], max_bytes: int | None = None) -> int:
    """The same as a descriptor, which is the caller's to close (errors as `open_regular`)."""
    # opening a FIFO waits for its writer, unless it must not
    descriptor = _checked(path, os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), max_bytes)
    os.set_blocking(descriptor, True)
    return descriptor


def open_in_place(path: str | os.PathLike[str], append: bool = False) -> int:
    """The descriptor of a regular file that is read and written where it lies; it is made where there is none.

    Raises:
        IrregularFileError: it is a link, which would have another file written to, or as `open_regular`.
        OSError: it cannot be opened.
    """
    if os.path.islink(path):
        raise IrregularFileError(f"{os.fspath(path)}: a link, where a regular file was expected: remove it")
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return _checked(path, os.open(path, flags | (os.O_APPEND if append else 0), 0o666))


def _checked(path: str | os.PathLike[str], descriptor: int, max_bytes: int | None = None) -> int:
    """The descriptor, which is closed where it is of no regular file."""
    try:
        check_regular(path, os.fstat(descriptor), max_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_regular(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """The content of a regular file (errors as `open_regular`)."""
    with open_regular(path, max_bytes) as file:
        content = read_at_most(file, max_bytes + 1)
    if len(content) > max_bytes:  # it grew, or is one of those that have no size (/proc)
        raise IrregularFileError(f"{os.fspath(path)}: more than the {max_bytes:,} bytes that are allowed")
    return content


def read_at_most(file: BinaryIO, most: int) -> bytes:
    """So many bytes of a file, or all that there are; memory is taken for these, not for what is allowed."""
    content = file.read(min(most, os.fstat(file.fileno()).st_size + 1))
    while len(content) < most and (block := file.read(min(most - len(content), _BLOCK_BYTES))):
        content += block  # it grew, or is one of those that have no size (/proc)
    return content


def read_regular_text(path: str | os.PathLike[str], max_bytes: int) -> str:
    """The content of a regular UTF-8 file (errors as `open_regular`; `IrregularFileError` where it is no UTF-8)."""
    try:
        return read_regular(path, max_bytes).decode()
    except UnicodeDecodeError as error:
        raise IrregularFileError(f"{os.fspath(path)}: not UTF-8 at byte {error.start:,}") from error


def check_regular(
    path: str | os.PathLike[str], found: os.stat_result | None = None, max_bytes: int | None = None
) -> None:
    """Refuse what `open_regular` would refuse, by its name, for those that open it themselves.

    Raises:
        IrregularFileError, OSError: as `open_regular`.
    """
    found = os.stat(path) if found is None else found
    kind = stat.S_IFMT(found.st_mode)
    name = os.fspath(path)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, "a folder, where a file was expected", name)
    if kind != stat.S_IFREG:
        raise IrregularFileError(f"{name}: {_KINDS.get(kind, 'no file')}, where a regular file was expected")
    if max_bytes is not None and found.st_size > max_bytes:
        raise IrregularFileError(f"{name}: {found.st_size:,} bytes, and at most {max_bytes:,} are allowed")
    if found.st_size >= SPARSE_FROM_BYTES and found.st_blocks * 512 * MAX_HOLES < found.st_size:
        stored = found.st_blocks * 512
        raise IrregularFileError(f"{name}: claims {found.st_size:,} bytes, and the disk has {stored:,}: mostly holes")


def is_inside(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> bool:
    """Whether a file, with its links followed, lies inside a folder, with its links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))
