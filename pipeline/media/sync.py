"""Put picture and sound on one clock: 25 frames and 16,000 samples a second from the time of the first frame.

Times are the container's presentation times, so a sound that starts off the first frame, a variable frame rate, gaps
and overlaps all come out in step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import soxr

from pipeline.media.decode import Picture, SoundRun
from pipeline.media.errors import ClipError
from runtime.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

_JITTER = 0.01
"""Seconds by which sound may be off its place before it is moved: containers round times to milliseconds."""

_MAX_STRETCH = 10
"""A decoded frame may on average be shown for this many 25ths of a second."""


def frames_at_25(picture: Picture) -> np.ndarray[Any, Any]:
    """Which decoded frame is shown in each 25th of a second.

    The frame shown at the middle of the interval is taken, so that times rounded by the container do not matter and
    the picture is neither early nor late on average.

    Returns:
        int64 (T,), indices into the decoded frames; 0, 1, 2 ... for a video of 25 frames a second.

    Raises:
        ClipError: the times are broken: so far apart that they cannot be those of a talking face.
    """
    count = max(1, round(picture.length * FPS))
    if count > _MAX_STRETCH * len(picture.ticks) + FPS:
        detail = f"{len(picture.ticks)} frames spread over {float(picture.length):.0f} seconds"
        raise ClipError("decode", "times_broken", detail)
    # whole units of a common clock compare exactly, seconds in floating point would not
    clock = math.lcm(2 * FPS, picture.time_base.denominator)
    per_tick = picture.time_base.numerator * (clock // picture.time_base.denominator)
    ticks = (np.array(picture.ticks) - picture.ticks[0]) * per_tick
    middles = (2 * np.arange(count) + 1) * (clock // (2 * FPS))
    return np.maximum(np.searchsorted(ticks, middles, side="right") - 1, 0)


def sound_at_16k(runs: Sequence[SoundRun], start: float, frames: int) -> tuple[np.ndarray[Any, Any], tuple[int, int]]:
    """The sound that belongs to the picture, cut or padded with silence to its length.

    Args:
        runs: decoded sound of one sampling rate, in order.
        start: seconds at which the first frame is shown.
        frames: T, frames at 25 a second.

    Returns:
        float32 (640 T,), and the range [first, last) of samples that the source had: the rest is padding.
    """
    wanted = SAMPLES_PER_FRAME * frames
    samples, begin = _join(runs, start - 1, start + frames / FPS + 1)
    if len(samples) and runs[0].rate != SAMPLE_RATE:
        samples = soxr.resample(samples, runs[0].rate, SAMPLE_RATE, quality="HQ")
    offset = round((begin - start) * SAMPLE_RATE)
    first, last = max(offset, 0), min(offset + len(samples), wanted)
    sound = np.zeros(wanted, np.float32)
    if first >= last:
        return sound, (0, 0)
    sound[first:last] = samples[first - offset : last - offset]
    return sound, (first, last)


def to_pcm16(sound: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """float32 in [-1, 1] -> int16, rounded to nearest and clipped, as swresample does it."""
    return np.clip(np.rint(sound * 32768.0), -32768, 32767).astype(np.int16)


def _join(runs: Sequence[SoundRun], earliest: float, latest: float) -> tuple[np.ndarray[Any, Any], float]:
    """Lay runs end to end, each at its time: gaps become silence, overlaps are cut.

    What lies before `earliest` or after `latest` is cut off, so that a broken time stamp cannot ask for hours of
    silence. Returns the samples and the seconds at the first.
    """
    joined: list[np.ndarray[Any, Any]] = []
    start, position = 0.0, 0
    for run in runs:
        if run.end < earliest or run.start > latest:
            continue
        if not joined:
            start = run.start
        samples = np.concatenate(run.blocks)
        place = round((run.start - start) * run.rate)
        if abs(place - position) > _JITTER * run.rate:
            if place > position:
                joined.append(np.zeros(place - position, np.float32))
                position = place
            else:
                samples = samples[position - place :]
        joined.append(samples)
        position += len(samples)
    if not joined:
        return np.zeros(0, np.float32), start
    rate = runs[0].rate
    first, last = max(0, math.floor((earliest - start) * rate)), max(0, math.ceil((latest - start) * rate))
    return np.concatenate(joined)[first:last], start + first / rate
