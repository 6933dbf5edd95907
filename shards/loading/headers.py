"""What stands before the numbers in a `.npy` or wav member, apart from the numbers. Few headers differ: remembered."""

from __future__ import annotations

import io
import wave
from functools import lru_cache

from shards.format.npy import read_npy_header


@lru_cache(maxsize=4096)
def npy_header(header: bytes) -> tuple[tuple[int, ...], bool, str] | None:
    """Shape, whether in Fortran order, and type; None if these bytes are not the header of a `.npy` file."""
    try:
        found = read_npy_header(header)
    except ValueError:
        return None
    return (found.shape, found.fortran_order, found.dtype.str) if found.offset == len(header) else None


@lru_cache(maxsize=4096)
def wav_header(header: bytes) -> tuple[int, int, int, int] | None:
    """Channels, bytes a sample, rate, samples; None if these bytes are not what stands before the samples."""
    try:
        with wave.open(io.BytesIO(header), "rb") as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes())
    except (wave.Error, EOFError):
        return None
    return form if header[-8:-4] == b"data" else None
