"""Sound as it is decoded: runs without a gap, each with the time of its first sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.stream import Discard

from pipeline.media.channels import ChannelMixer
from pipeline.media.errors import ClipError
from pipeline.media.probe import Oddity, OddVideoError
from pipeline.media.spool import Spool
from runtime.limits import MAX_SOUND_AHEAD

_ONE_TIME = 1e-5
"""Seconds within which two times are the same: less than a sample, more than the rounding of floating point."""


@dataclass
class SoundRun:
    """Sound without a gap: a stretch of the decoded samples.

    Attributes:
        rate: samples a second.
        start: seconds at the first sample.
        samples: mono float32 samples in [-1, 1] of all runs of a file.
        first, count: those of this run.
    """

    rate: int
    start: float
    samples: Spool
    first: int = 0
    count: int = 0

    @property
    def end(self) -> float:
        """Seconds at which the next sample would come."""
        return self.start + self.count / self.rate

    def read(self, first: int, last: int) -> np.ndarray[Any, Any]:
        """Samples of this run from number `first` up to `last`."""
        return self.samples.read(self.first + first, self.first + last)


class NearbySound:
    """Which packets of sound lie within some minutes of the picture, as far as it was read: others are not decoded.

    `may_discard`: whether they need not be read either; hours of sound are some million packets.
    """

    def __init__(self, video: av.VideoStream, audio: av.AudioStream | None, may_discard: bool) -> None:
        self._audio = audio
        self._may_discard, self._discards = may_discard and audio is not None, False
        self._tick = float((audio.time_base if audio is not None else None) or 1)
        self._ratio = float(video.time_base or 1) / self._tick
        self._ahead = MAX_SOUND_AHEAD / self._tick
        self._until: float | None = None
        self._began = False
        self._last_before = -math.inf
        self._first_after = math.inf

    def picture_at(self, packet: av.Packet[Any]) -> None:
        """Note how far the picture was read."""
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None:
            self._until = time * self._ratio + self._ahead
            self._began = True
            if self._discards:
                self._discard(False)

    def is_far(self, packet: av.Packet[Any]) -> bool:
        """Whether a packet of sound is not to be decoded."""
        time = packet.pts
        if time is None:
            return False
        if self._until is None:
            self._until = time + self._ahead
        if time <= self._until:
            return False
        if self._began:
            self._first_after = min(self._first_after, time * self._tick)
            if self._may_discard:
                self._discard(True)
        else:
            self._last_before = time * self._tick
        return True

    def _discard(self, far: bool) -> None:
        assert self._audio is not None, "what is discarded is there"
        self._discards = far
        self._audio.discard = Discard.all if far else Discard.default

    def notes(self, start: Fraction, end: Fraction) -> list[str]:
        """What was not decoded of the sound of a picture that lasts from `start` to `end`, in words.

        Raises:
            ClipError: it belongs to the picture: it is stored minutes before that.
        """
        if self._last_before > start or self._first_after < end:
            detail = f"the sound is stored more than {MAX_SOUND_AHEAD} s before the picture that it belongs to"
            raise ClipError("sound", "sound_unreadable", detail)
        if self._first_after < math.inf:
            return [f"the sound goes on for more than {MAX_SOUND_AHEAD} s after the picture: it was not decoded"]
        return []


def add_sound(runs: list[SoundRun], frame: av.AudioFrame, mixer: ChannelMixer) -> None:
    """Append a decoded frame to the last run if it follows it, else begin another.

    Raises:
        OddVideoError: it has another sampling rate.
    """
    for block in mixer.mix(frame):
        rate, time = block.sample_rate, block.time
        if not runs:
            runs.append(SoundRun(rate, time or 0.0, Spool()))
        run = runs[-1]
        if rate != run.rate:
            raise OddVideoError(Oddity(f"the sampling rate changes from {run.rate} to {rate} Hz"))
        if time is not None and abs(time - run.end) > _ONE_TIME:
            run = SoundRun(rate, time, run.samples, len(run.samples))
            runs.append(run)
        samples = mixer.samples(block)
        run.samples.append(samples)
        run.count += len(samples)
