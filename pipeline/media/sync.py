"""Put picture and sound on one clock: 25 frames and 16,000 samples a second from the time of the first frame.

Times are the container's presentation times, so a sound that starts off the first frame, a variable frame rate, gaps
and overlaps all come out in step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soxr

from pipeline.media.errors import ClipError
from pipeline.media.length import is_stretched
from pipeline.media.picture import Picture
from pipeline.media.sound_runs import SoundRun
from runtime.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

_JITTER = 0.01
"""Seconds by which sound may be off its place before it is moved: containers round times to milliseconds."""

_CHUNK = 1 << 20
"""Samples that are joined and resampled at once."""


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
    if is_stretched(len(picture.ticks), float(picture.length)):
        detail = f"{len(picture.ticks)} frames spread over {float(picture.length):.0f} seconds"
        raise ClipError("decode", "times_broken", detail)
    # whole units of a common clock compare exactly, seconds in floating point would not
    clock = math.lcm(2 * FPS, picture.time_base.denominator)
    per_tick = picture.time_base.numerator * (clock // picture.time_base.denominator)
    ticks = (np.array(picture.ticks) - picture.ticks[0]) * per_tick
    middles = (2 * np.arange(count) + 1) * (clock // (2 * FPS))
    return np.maximum(np.searchsorted(ticks, middles, side="right") - 1, 0)


def sound_at_16k(runs: Sequence[SoundRun], start: float, frames: int) -> tuple[np.ndarray[Any, Any], tuple[int, int]]:
    """The sound that belongs to a stretch of the picture, cut or padded with silence to its length.

    Args:
        runs: decoded sound of one sampling rate, in order.
        start: seconds at which the first frame of the stretch is shown.
        frames: T, frames at 25 a second.

    Returns:
        float32 (640 T,), and the range [first, last) of samples that the source had: the rest is padding.
    """
    wanted = SAMPLES_PER_FRAME * frames
    joined = _join(runs, start - 1, start + frames / FPS + 1)
    place = round((joined.start + joined.first / joined.rate - start) * SAMPLE_RATE)
    sound, first = np.zeros(wanted, np.float32), max(place, 0)
    for chunk in _resampled(joined):
        begin, end = max(place, 0), min(place + len(chunk), wanted)
        if begin < end:
            sound[begin:end] = chunk[begin - place : end - place]
        place += len(chunk)
    last = min(place, wanted)
    return sound, (first, last) if first < last else (0, 0)


def to_pcm16(sound: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """float32 in [-1, 1] -> int16, rounded to nearest and clipped, as swresample does it."""
    samples = np.empty(sound.shape, np.int16)  # of one clip, or of a batch
    for first in range(0, len(sound), _CHUNK):
        scaled = sound[first : first + _CHUNK] * 32768.0
        samples[first : first + _CHUNK] = np.clip(np.rint(scaled), -32768, 32767)
    return samples


@dataclass
class _JoinedRuns:
    """Runs laid end to end, each at its time, of which samples from `first` up to `last` are wanted.

    Attributes:
        rate: samples a second.
        start: seconds at sample 0.
        pieces: of each run its place, itself, and how many of its samples are cut off at its beginning.
    """

    rate: int
    start: float
    pieces: list[tuple[int, SoundRun, int]] = field(default_factory=list)
    length: int = 0
    first: int = 0
    last: int = 0

    def chunks(self) -> Iterator[np.ndarray[Any, Any]]:
        """The wanted samples, float32, silence in the gaps."""
        for begin in range(self.first, self.last, _CHUNK):
            end = min(begin + _CHUNK, self.last)
            chunk = np.zeros(end - begin, np.float32)
            for place, run, cut in self.pieces:
                first, last = max(begin, place), min(end, place + run.count - cut)
                if first < last:
                    chunk[first - begin : last - begin] = run.read(first - place + cut, last - place + cut)
            yield chunk


def _join(runs: Sequence[SoundRun], earliest: float, latest: float) -> _JoinedRuns:
    """Lay runs end to end: gaps become silence, overlaps are cut.

    What lies before `earliest` or after `latest` is left out, so that a broken time stamp cannot ask for hours of
    silence.
    """
    near = [run for run in runs if run.end >= earliest and run.start <= latest]
    if not near:
        return _JoinedRuns(SAMPLE_RATE, earliest)
    joined = _JoinedRuns(near[0].rate, near[0].start)
    for run in near:
        place, cut = round((run.start - joined.start) * run.rate), 0
        if abs(place - joined.length) <= _JITTER * run.rate:
            place = joined.length
        elif place < joined.length:
            place, cut = joined.length, min(joined.length - place, run.count)
        joined.pieces.append((place, run, cut))
        joined.length = place + run.count - cut
    joined.first = max(0, math.floor((earliest - joined.start) * joined.rate))
    joined.last = min(joined.length, max(0, math.ceil((latest - joined.start) * joined.rate)))
    return joined


def _resampled(joined: _JoinedRuns) -> Iterator[np.ndarray[Any, Any]]:
    """The wanted samples at 16 kHz, chunk by chunk: to the bit what they are in one go."""
    if joined.rate == SAMPLE_RATE:
        yield from joined.chunks()
        return
    stream = soxr.ResampleStream(joined.rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for chunk in joined.chunks():
        yield stream.resample_chunk(chunk)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
