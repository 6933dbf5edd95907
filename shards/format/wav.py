"""Sound as `wav` members: 16 kHz, mono, PCM16."""

from __future__ import annotations

import io
import struct
import wave
from functools import lru_cache
from typing import Any

import numpy as np

from runtime.constants import SAMPLE_RATE
from shards.format.errors import DatasetError, unreadable

WAV_DAMAGE = (wave.Error, EOFError, struct.error, ValueError, RuntimeError)
"""What `wave` raises over a damaged file."""


def encode_wav(samples: np.ndarray[Any, Any]) -> bytes:
    """The bytes of a 16 kHz mono PCM16 wav file of int16 samples."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.ascontiguousarray(samples, "<i2").data)
    return buffer.getvalue()


def decode_wav(content: bytes, name: str) -> np.ndarray[Any, Any]:
    """The int16 samples in the bytes of such a file (`DatasetError`, naming `name`: they are no such file)."""
    with unreadable(f"{name}: not a readable wav file", *WAV_DAMAGE), wave.open(io.BytesIO(content), "rb") as file:
        form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        if form != (1, 2, SAMPLE_RATE):
            raise DatasetError(
                f"{name}: expected 16 kHz mono PCM16, found {form[2]} Hz, {form[0]} channels, {form[1]} bytes"
            )
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


@lru_cache(maxsize=4096)  # few headers differ
def wav_header(header: bytes) -> tuple[int, int, int, int] | None:
    """Channels, bytes a sample, rate, samples; None if these bytes are not all that stands before the samples."""
    try:
        with wave.open(io.BytesIO(header), "rb") as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes())
    except WAV_DAMAGE:
        return None
    return form if header[-8:-4] == b"data" else None
