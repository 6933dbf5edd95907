"""Waveforms that metrics compare: cropped to a common length and checked."""

from __future__ import annotations

from typing import Any

import numpy as np

Wave = np.ndarray[Any, np.dtype[np.float32]]


class MetricError(ValueError):
    """A metric has no figure for this pair: the message is the reason."""


def crop_to_common_length(original: Wave, generated: Wave) -> tuple[Wave, Wave]:
    """Both (L,) float32, L the shorter one's length; `MetricError` for a waveform that is empty, silent throughout or
    not finite, `ValueError` for what is no one-dimensional array of floating point."""
    for side, wave in (("original", original), ("generated", generated)):
        check_dtype(side, wave)
    common = min(len(original), len(generated))
    for side, wave in (("original", original), ("generated", generated)):
        check_audible(side, wave[:common])
    return original[:common].astype(np.float32), generated[:common].astype(np.float32)


def check_dtype(side: str, wave: Wave) -> None:
    """`ValueError` unless it is a one-dimensional array of floating point, `MetricError` where it is empty."""
    if wave.ndim != 1 or wave.dtype.kind != "f":
        raise ValueError(f"the {side} is {wave.dtype} {wave.shape}: expected float32 (samples,) at 16 kHz")
    if not len(wave):
        raise MetricError(f"the {side} is empty")


def check_audible(side: str, wave: Wave) -> None:
    """`MetricError` where it is not finite or silent throughout."""
    if not np.isfinite(wave).all():
        raise MetricError(f"the {side} holds values that are not finite")
    if not wave.any():
        raise MetricError(f"the {side} is silent throughout")
