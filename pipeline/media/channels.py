"""Mix the channels of decoded sound to one, and notice channels whose mix is not what was said into the microphone.

Where two channels are in opposite phase (a cable soldered the wrong way round) their mean is next to nothing, and where
one is silent (one microphone, plugged in on the left) it has half the level: the louder channel alone is right then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from pipeline.media.decoding_limits import check_sound

_SILENT = 1e-5
"""Energy of a silent channel beside that of the other: -50 dB, what a lossy codec may leak."""
_OPPOSITE = 0.25
"""Energy of the mean of two channels beside that of unrelated ones: a correlation below -0.75."""
_NOTHING = 1e-3
"""Energy of the mean of many channels beside that of the loudest."""
_EVERY = 4
"""Blocks of which one is measured: a fault of wiring is in all of them."""


class ChannelMixer:
    """Decoded sound to mono floating point at its own rate; a stream may change its format midway.

    Attributes:
        channel: the channel to take alone; None mixes all.
        silent: whether every sample so far was zero.
    """

    def __init__(self, channel: int | None = None) -> None:
        self.channel = channel
        self.silent = True
        self.levels = ChannelLevels()
        self._form: tuple[str, str, int] | None = None
        self._resampler = av.AudioResampler(format="fltp", layout="mono")

    def mix(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            check_sound(frame.layout.nb_channels, frame.sample_rate)
            layout = "mono" if self.channel is None else None
            self._form, self._resampler = form, av.AudioResampler(format="fltp", layout=layout)
        if self.channel is None:
            self.levels.add(frame)
        return self._resampler.resample(frame)

    def samples(self, block: av.AudioFrame) -> np.ndarray[Any, Any]:
        """The float32 samples of what `mix` returned, a copy."""
        channel = min(self.channel or 0, block.layout.nb_channels - 1)
        samples = np.frombuffer(memoryview(block.planes[channel]), np.float32)[: block.samples].copy()
        self.silent = self.silent and not samples.any()
        return samples


@dataclass
class ChannelLevels:
    """Energy of each channel and of their mean, over a part of the blocks of a file."""

    blocks: int = 0
    energies: np.ndarray[Any, Any] | None = None
    mean: float = 0.0

    def add(self, frame: av.AudioFrame) -> None:
        count = frame.layout.nb_channels
        if count == 1:
            return
        self.blocks += 1
        if self.blocks % _EVERY != 1:
            return
        samples = frame.to_ndarray()
        if not frame.format.is_planar:
            samples = samples.reshape(-1, count).T
        samples = samples.astype(np.float32) - (128 if samples.dtype == np.uint8 else 0)
        energies, mean = np.square(samples).sum(axis=1), samples.mean(axis=0)
        if self.energies is None:
            self.energies = np.zeros(count)
        if len(self.energies) == count:
            self.energies += energies
            self.mean += float(mean @ mean)

    def single_channel(self) -> tuple[int, str] | None:
        """The channel that is to be taken alone and why, in words; None where the mix is right."""
        if self.energies is None or not self.energies.any():
            return None
        loudest, count = int(self.energies.argmax()), len(self.energies)
        if count == 2 and self.energies.min() < _SILENT * self.energies.max():
            return loudest, f"channel {2 - loudest} of 2 is silent: channel {loudest + 1} was taken"
        opposite = _OPPOSITE * self.energies.sum() / 4 if count == 2 else _NOTHING * self.energies.max()
        if self.mean < opposite:
            return loudest, f"the channels are in opposite phase: the louder one, {loudest + 1} of {count}, was taken"
        return None
