"""Read the members of a shard's tar, as a stream: plain files with the names and sizes of a shard, nothing else.

`tarfile` reads what any tar may hold, of any size: long names, sparse files, headers that follow each other without
end. A shard has ustar headers, and before those of names that are long or not ASCII one pax header with their path.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, NamedTuple

from shards.format.errors import DatasetError
from shards.format.member_names import split_member
from shards.format.schema import is_key

_LONGEST_PAX_HEADER = 16 << 10
_PATH_RECORD = re.compile(rb"(\d{1,5}) path=(.+)\n", re.DOTALL)


class Member(NamedTuple):
    """A member of a tar: where its content begins, in bytes from the tar's beginning, and the content."""

    offset: int
    content: bytes


def read_members(file: IO[bytes], where: str, most: Mapping[str, int]) -> Iterator[tuple[str, dict[str, Member]]]:
    """Groups of members of a tar that follow each other, (key, extension -> member).

    Args:
        file: the tar, at its beginning.
        where: what errors call it.
        most: extension -> the most bytes of such a member.

    Raises:
        DatasetError: not a tar, cut short, or with members that no shard has.
    """
    key, members = "", dict[str, Member]()
    for name, offset, size in _headers(file, where):
        found = split_member(name)
        if found is None or not is_key(found[0]) or found[1] not in most:
            raise DatasetError(f"{where}: member {name[:300]!r} is not one of a shard")
        if size > most[found[1]]:
            raise DatasetError(f"{where}: member {name!r}: {size:,} bytes, and at most {most[found[1]]:,} are allowed")
        if found[0] != key:
            if members:
                yield key, members
            key, members = found[0], {}
        if found[1] in members:
            raise DatasetError(f"{where}: member {name!r} is there twice")
        members[found[1]] = Member(offset, _exactly(file, size, where))
    if members:
        yield key, members


def _headers(file: IO[bytes], where: str) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each file in a tar; its content is to be read before the next is asked for."""
    place, path = 0, None
    while (info := _header(file, where)) is not None:
        place += tarfile.BLOCKSIZE
        padding = -info.size % tarfile.BLOCKSIZE
        if info.type == tarfile.XHDTYPE and path is None and 0 <= info.size <= _LONGEST_PAX_HEADER:
            path = _path_of(_exactly(file, info.size, where), where)
        elif info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and info.size >= 0:
            yield info.name if path is None else path, place, info.size
            path = None
        else:
            raise DatasetError(f"{where}: member {info.name[:300]!r} is not one of a shard")
        _exactly(file, padding, where)
        place += info.size + padding


def _header(file: IO[bytes], where: str) -> tarfile.TarInfo | None:
    """The next header; None at the mark of a tar's end."""
    block = file.read(tarfile.BLOCKSIZE)
    if block == bytes(tarfile.BLOCKSIZE):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except tarfile.HeaderError as error:
        raise DatasetError(f"{where}: not a readable tar, or cut short: {error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where}: the name of a member is not UTF-8: {error.object[:100]!r}") from error


def _path_of(content: bytes, where: str) -> str:
    record = _PATH_RECORD.fullmatch(content)
    try:
        if record is not None and int(record[1]) == len(content):
            return record[2].decode()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where}: the name of a member is not UTF-8: {content[:100]!r}") from error
    raise DatasetError(f"{where}: a pax header says {content[:100]!r}, a path was expected")


def _exactly(file: IO[bytes], size: int, where: str) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise DatasetError(f"{where}: not a readable tar, or cut short: {size} bytes expected, found {len(content)}")
    return content
