"""Sound as it is decoded: runs without a gap, each with the time of its first sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from pipeline.media.channels import ChannelMixer
from pipeline.media.probe import Oddity, OddVideoError
from pipeline.media.spool import Spool

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


def add_sound(runs: list[SoundRun], frame: av.AudioFrame, mixer: ChannelMixer) -> None:
    """Append a decoded frame to the last run if it follows it, else begin another.

    Raises:
        OddVideoError: it has another sampling rate.
    """
    for block in mixer.mix(frame):
        if not runs:
            runs.append(SoundRun(block.sample_rate, block.time or 0.0, Spool()))
        if block.sample_rate != runs[0].rate:
            raise OddVideoError(Oddity(f"the sampling rate changes from {runs[0].rate} to {block.sample_rate} Hz"))
        start = runs[-1].end if block.time is None else block.time
        if abs(start - runs[-1].end) > _ONE_TIME:
            runs.append(SoundRun(block.sample_rate, start, runs[0].samples, len(runs[0].samples)))
        samples = mixer.samples(block)
        runs[-1].samples.append(samples)
        runs[-1].count += len(samples)
