"""Keep what a long clip decodes to out of memory: rows of an array, moved to a temporary file beyond some size."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, Any]

MEMORY_BYTES = 16 << 20
"""Of a spool: 80 seconds of lip regions of 90 pixels, or of sound at 48 kHz."""


class Spool:
    """A growing array. Blocks of rows are appended, and read back by the numbers of their rows.

    The temporary file has no name and goes with the spool (OSError: there is no room for it).
    """

    def __init__(self, *blocks: Array) -> None:
        self._blocks: list[Array] = []
        self._starts: list[int] = []  # row at which each block in memory begins
        self._rows = self._rows_in_file = self._bytes = 0
        self._file: IO[bytes] | None = None
        for block in blocks:
            self.append(block)

    def append(self, block: Array) -> None:
        """Append (n, ...) rows, all of one type and shape."""
        self._blocks.append(block)
        self._starts.append(self._rows)
        self._rows += len(block)
        self._bytes += block.nbytes
        if self._bytes > MEMORY_BYTES:
            self._move_to_file()

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> Array:
        """One row."""
        if not 0 <= row < self._rows:
            raise IndexError(row)
        found: Array = self.read(row, row + 1)[0]
        return found

    def read(self, first: int, last: int) -> Array:
        """Rows from `first` up to, not including, `last`; of one block without a copy."""
        parts = list(self._parts(first, last))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def take(self, rows: Array) -> Array:
        """Rows by their numbers, which do not decrease."""
        first = int(rows[0])
        block = self.read(first, int(rows[-1]) + 1)
        return block if (np.diff(rows) == 1).all() else block[rows - first]

    def _parts(self, first: int, last: int) -> Iterator[Array]:
        if first < self._rows_in_file:
            yield self._read_file(first, min(last, self._rows_in_file))
            first = self._rows_in_file
        number = bisect_right(self._starts, first) - 1
        while first < last:
            block, start = self._blocks[number], self._starts[number]
            yield block[first - start : last - start]
            first, number = start + len(block), number + 1

    def _move_to_file(self) -> None:
        if len({(block.dtype, block.shape[1:]) for block in self._blocks}) > 1:
            return  # no array, and no use of it has many
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="spool-")  # noqa: SIM115
        for block in self._blocks:
            self._file.write(block.tobytes())
        self._file.flush()
        self._like = self._blocks[0][:0]
        self._rows_in_file, self._bytes = self._rows, 0
        self._blocks.clear()
        self._starts.clear()

    def _read_file(self, first: int, last: int) -> Array:
        assert self._file is not None, "rows are in the file once there is one"
        rows: Array = np.empty((last - first, *self._like.shape[1:]), self._like.dtype)
        rest = rows.reshape(-1).view(np.uint8).data
        offset = first * math.prod(self._like.shape[1:]) * self._like.itemsize
        while rest:  # one call reads 2 GB at most
            count = os.preadv(self._file.fileno(), [rest], offset)
            if not count:
                raise OSError(errno.EIO, "the temporary file of a long clip was cut short")
            rest, offset = rest[count:], offset + count
        return rows
