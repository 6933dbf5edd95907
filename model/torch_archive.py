"""Reads the members of a zip as `torch.save` writes it, and compares their checksums, which torch itself does not.

Members are stored, not deflated, and lie side by side from the first byte on: a file that two readers of zips could
understand in two ways, or whose members claim more than it has, is refused.
"""

from __future__ import annotations

import os
import struct
import sys
import zipfile
import zlib
from typing import IO

from runtime import limits
from runtime.limits import check_limit

_FLAGS = 0x8 | 0x800
"""That a member may have: sizes noted after its data, a name in UTF-8."""


class TorchArchive:
    """The members of such a zip, by their names below its one folder.

    Raises:
        ValueError: it is no such zip, or larger than `runtime.limits` allows.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        check_limit("bytes of the file", self.size, limits.MAX_CHECKPOINT_BYTES)
        self._check_directory_size()
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # it meets damage with errors of many kinds
            raise ValueError(f"damaged: the zip's list of members: {type(error).__name__}: {error}") from error
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        ends = [*(info.header_offset for info in infos[1:]), archive.start_dir]
        self._members = {info.orig_filename: (info, end) for info, end in zip(infos, ends, strict=True)}
        if archive.comment or not infos or infos[0].header_offset != 0 or len(self._members) < len(infos):
            raise ValueError("a zip with a comment, with bytes before it, or with one member twice")
        self._root = infos[0].orig_filename.partition("/")[0]
        byte_order = bytes(self.read("byteorder", 16)).decode("latin1") if "byteorder" in self else sys.byteorder
        if byte_order != sys.byteorder:
            raise ValueError(f"numbers in {byte_order!r} byte order, and this machine's is {sys.byteorder}")

    def _check_directory_size(self) -> None:
        """Before `zipfile` reads the list of members."""
        self._file.seek(max(0, self.size - 98))
        tail = self._file.read()
        end = tail[-22:]
        if len(end) < 22 or end[:4] != b"PK\x05\x06":
            raise ValueError("no zip, as torch.save writes since version 1.6, or one that was cut short")
        directory = struct.unpack("<L", end[12:16])[0]
        if tail[-42:-38] == b"PK\x06\x07" and tail[-98:-94] == b"PK\x06\x06":
            directory = struct.unpack("<Q", tail[-58:-50])[0]
        check_limit("bytes of the zip's list of members", directory, limits.MAX_ZIP_DIRECTORY_BYTES)

    def __contains__(self, name: str) -> bool:
        return f"{self._root}/{name}" in self._members

    def length(self, name: str) -> int:
        """Bytes of a member, which the file has at its place; `ValueError` where there is none."""
        return self._place(name)[1]

    def read(self, name: str, allowed: int) -> bytearray:
        """A member whose checksum is right; `ValueError` where it is not, or it is too large."""
        start, length = self._place(name)
        check_limit(f"bytes of {name}", length, allowed)
        content = bytearray(length)
        self._file.seek(start)
        read, expected = self._file.readinto(content), self._members[f"{self._root}/{name}"][0].CRC  # type: ignore[attr-defined]
        if read != length or zlib.crc32(content) != expected:
            raise ValueError(f"damaged: {name} has the checksum {zlib.crc32(content):08x}, and {expected:08x} is noted")
        return content

    def _place(self, name: str) -> tuple[int, int]:
        """Where a member's bytes begin, and how many there are."""
        if name not in self:
            raise ValueError(f"the zip has no {name}")
        info, end = self._members[f"{self._root}/{name}"]
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"{name} is compressed: {info.compress_size:,} bytes that claim {info.file_size:,}")
        self._file.seek(info.header_offset)
        header = self._file.read(30)
        if info.flag_bits & ~_FLAGS or len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise ValueError(f"damaged: {name} has no header as torch.save writes it")
        named, extra = struct.unpack("<HH", header[26:30])
        start = info.header_offset + 30 + named + extra
        if self._file.read(named) != info.orig_filename.encode() or start + info.file_size > end:
            raise ValueError(f"damaged: {name} is not where the zip's list of members says")
        return start, int(info.file_size)
