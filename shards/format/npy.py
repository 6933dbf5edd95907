"""Arrays as `.npy` members, read without trusting the file: no pickles, no allocation that the bytes do not back."""

from __future__ import annotations

import io
import math
import re
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from shards.format.errors import DatasetError, unreadable
from shards.format.member_sizes import LONGEST_HEADER


def encode_npy(array: np.ndarray[Any, Any]) -> bytes:
    """The bytes of a `.npy` file (NumPy format 1.0, C order) of `array`."""
    array = np.ascontiguousarray(array)
    return b"".join([encode_npy_header(array), array.data])


def encode_npy_header(array: np.ndarray[Any, Any]) -> bytes:
    """What stands before the numbers of `array` in its `.npy` file."""
    buffer = io.BytesIO()
    npy_format.write_array_header_1_0(buffer, npy_format.header_data_from_array_1_0(array))
    return buffer.getvalue()


_SIZE_BYTES = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}
"""Magic bytes of formats 1.0 and 2.0 -> bytes of the number after them, the length of the header."""

# as NumPy writes it: its own reader evaluates what stands there as a Python expression, nested as deep as it may be
_HEADER = re.compile(
    rb"\{'descr': '([<>|=][A-Za-z]\d{0,4})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,15}, ?)*(?:\d{1,15})?)\)(?:, ?)?\} *\n"
)


def _read_header(content: bytes, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran order, type, and at which byte the numbers begin, of a file of format 1.0 or 2.0."""
    with unreadable(f"{name}: not a readable .npy array", KeyError, TypeError, ValueError):
        begin = 8 + _SIZE_BYTES[content[:8]]
        offset = begin + int.from_bytes(content[8:begin], "little")
        found = _HEADER.fullmatch(content[begin:offset]) if offset - begin <= LONGEST_HEADER else None
        if found is None:
            raise ValueError("its header is not as NumPy writes it")
        shape = tuple(int(size) for size in found[3].replace(b" ", b"").split(b",") if size)
        return shape, found[2] == b"True", np.dtype(found[1].decode()), offset


@lru_cache(maxsize=4096)  # few headers differ
def npy_header(header: bytes) -> tuple[tuple[int, ...], bool, str] | None:
    """Shape, whether in Fortran order, and type; None if these bytes are not all that stands before the numbers."""
    try:
        shape, fortran_order, dtype, offset = _read_header(header, "")
    except DatasetError:
        return None
    return (shape, fortran_order, dtype.str) if offset == len(header) else None


def decode_npy(content: bytes, name: str) -> np.ndarray[Any, Any]:
    """The array in the bytes of a `.npy` file, read-only and without a copy.

    Raises:
        DatasetError: naming `name`, when the bytes are no such file, hold Python objects, or end too early or too late.
    """
    shape, fortran_order, dtype, offset = _read_header(content, name)
    if dtype.hasobject or fortran_order:
        raise DatasetError(f"{name}: a .npy array of plain numbers in C order was expected, found {dtype}")
    expected = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 1 or not dtype.itemsize or len(content) - offset != expected:
        raise DatasetError(
            f"{name}: the header says {shape} of {dtype} ({expected} bytes), the file holds {len(content) - offset}"
        )
    return np.frombuffer(content, dtype, offset=offset).reshape(shape)
