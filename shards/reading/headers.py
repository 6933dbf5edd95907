"""What stands before the numbers in a `.npy` or wav member, apart from the numbers. Few headers differ: remembered."""

from __future__ import annotations

import io
import wave
from functools import lru_cache

from numpy.lib import format as npy_format


@lru_cache(maxsize=4096)
def npy_header(header: bytes) -> tuple[tuple[int, ...], bool, str] | None:
    """Shape, whether in Fortran order, and type; None if these bytes are not the header of a `.npy` file."""
    buffer = io.BytesIO(header)
    try:
        version = npy_format.read_magic(buffer)
        read_header = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}[version]
        shape, fortran, dtype = read_header(buffer)
    except (ValueError, KeyError, SyntaxError, TypeError):
        return None
    return (shape, fortran, dtype.str) if buffer.tell() == len(header) else None


@lru_cache(maxsize=4096)
def wav_header(header: bytes) -> tuple[int, int, int, int] | None:
    """Channels, bytes a sample, rate, samples; None if these bytes are not what stands before the samples."""
    try:
        with wave.open(io.BytesIO(header), "rb") as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes())
    except (wave.Error, EOFError):
        return None
    return form if header[-8:-4] == b"data" else None
