"""The decoded picture of a clip: regions of its frames, presentation times, and what was odd about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from pipeline.media.crop import UPRIGHT, Orientation
from pipeline.media.spool import Spool


@dataclass
class Picture:
    """The decoded picture of a clip.

    Attributes:
        regions: what was kept of each of N decoded frames, on disk if it is much.
        ticks: N presentation times, in units of `time_base`.
        time_base: seconds a tick.
        duration: ticks that the last frame is shown.
        orientation: how the frames are turned before they are shown and cropped.
        corrupt: frames that the decoder had to repair.
        notes: what was odd about the file, in words.
    """

    time_base: Fraction
    duration: Fraction | int
    regions: Spool = field(default_factory=Spool)
    ticks: list[int] = field(default_factory=list)
    orientation: Orientation = UPRIGHT
    corrupt: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def start(self) -> Fraction:
        """Seconds at which the first frame is shown."""
        return self.ticks[0] * self.time_base

    @property
    def length(self) -> Fraction:
        """Seconds from the first frame to the end of the last."""
        return (self.ticks[-1] - self.ticks[0] + self.duration) * self.time_base


def set_avi_times(picture: Picture, decoding_times: list[int | None]) -> None:
    """Set the presentation times of AVI, which has none: what FFmpeg makes up for them goes wrong with B-frames.

    Frames follow each other at the times of the stored packets. Between these there may be empty ones, for which the
    frame before is shown again: a capture program dropped what came there.
    """
    times = sorted(time for time in decoding_times if time is not None)
    count = len(picture.ticks)
    if len(times) < count:
        times = list(range(count))
    picture.ticks = times[:count]
    dropped = times[count - 1] - times[0] + 1 - count
    if dropped:
        picture.notes.append(f"{dropped} frames were dropped when the AVI was made: the ones before stay on")
