"""Take what is kept of decoded frames, some frames at once: lip regions with their times, and sound.

One by one each frame would find the caches filled by the decoder: some at once cost a third less.
"""

from __future__ import annotations

import av

from pipeline.media.channels import ChannelMixer
from pipeline.media.crop import Crop, Orientation
from pipeline.media.decoding_limits import FRAMES_BETWEEN_CHECKS, DecodingLimits
from pipeline.media.length import refuse_long
from pipeline.media.picture import Picture
from pipeline.media.probe import FrameProbe
from pipeline.media.sound_runs import SoundRun, add_sound

_FRAMES_AT_ONCE = 16
_PIXELS_AT_ONCE = 4 << 20
"""Of frames that wait: two of 1080p."""


class DecodedFrames:
    """Adds decoded frames to a picture, and to runs of sound.

    Args:
        picture: to add to.
        crop: what to keep of each frame.
        longest: seconds that the picture may have.
        limits: of the file.

    Attributes:
        runs: of sound.
        mixer: of its channels.
    """

    def __init__(self, picture: Picture, crop: Crop, longest: float, limits: DecodingLimits) -> None:
        self.runs: list[SoundRun] = []
        self.mixer = ChannelMixer()
        self._picture, self._crop, self._longest, self._limits = picture, crop, longest, limits
        self._tick = float(picture.time_base)
        self._probe = FrameProbe()
        self._pictures: list[av.VideoFrame] = []
        self._sounds: list[av.AudioFrame] = []
        self._pixels = 0

    def add(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        """Keep the next frame until there are some (errors as `process`)."""
        if isinstance(frame, av.AudioFrame):
            self._sounds.append(frame)
            waiting = len(self._sounds)
        else:
            self._pictures.append(frame)
            self._pixels += frame.width * frame.height
            waiting = len(self._pictures)
        # the first picture at once: it says whether the file is plain
        if waiting >= _FRAMES_AT_ONCE or self._pixels >= _PIXELS_AT_ONCE or not self._picture.ticks:
            self.process()

    def process(self) -> None:
        """Add the frames that wait.

        Raises:
            OddVideoError: they are not those of a plain file.
            ClipError: they are too many, or go on for too long.
        """
        pictures, sounds = self._pictures, self._sounds
        self._pictures, self._sounds, self._pixels = [], [], 0
        ticks = self._picture.ticks
        for frame in pictures:
            self._probe.check(frame)
            self._add_picture(frame)
            shown = (ticks[-1] - ticks[0]) * self._tick
            if shown > self._longest:
                refuse_long(ticks, self._picture.time_base, self._longest)
            if not len(ticks) % FRAMES_BETWEEN_CHECKS:
                self._limits.check_frames(len(ticks), shown)
        for sound in sounds:
            add_sound(self.runs, sound, self.mixer)

    def _add_picture(self, frame: av.VideoFrame) -> None:
        picture = self._picture
        if not picture.ticks:
            picture.orientation = Orientation.of(frame)
        picture.corrupt += frame.is_corrupt
        picture.regions.append(self._crop(len(picture.regions), frame, picture.orientation)[None])
        if frame.pts is not None:
            picture.ticks.append(frame.pts)
        else:  # containers without presentation times, such as raw AVI: frames follow each other
            picture.ticks.append(round(picture.ticks[-1] + picture.duration) if picture.ticks else 0)
        if frame.duration:
            picture.duration = frame.duration
