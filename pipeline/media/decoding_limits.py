"""Limits on decoding one file: pixels, frames, bytes of a packet, channels, and processor time by its length.

They are far above those of real videos (`runtime.limits`), and bound what a file can cost that is larger than it looks.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import av
import av.logging

from pipeline.media.errors import ClipError
from runtime.limits import (
    DECODING_SECONDS_A_SECOND,
    MAX_CHANNELS,
    MAX_FRAME_PIXELS,
    MAX_FRAME_RATE,
    MAX_FRAMES_BESIDE,
    MAX_PACKET_BYTES,
    MAX_SAMPLE_RATE,
    MIN_DECODING_SECONDS,
    MIN_SAMPLE_RATE,
)

DECODER_OPTIONS = {"max_pixels": str(MAX_FRAME_PIXELS), "max_samples": str(1 << 20)}
"""With which FFmpeg refuses larger pictures, and more samples in a packet, before it takes memory for them."""

FRAMES_BETWEEN_CHECKS = _PACKETS_BETWEEN_CHECKS = 32
PICTURE_SIZE = re.compile(r"[Pp]icture size (\d+)x(\d+) exceeds")
"""In FFmpeg's words."""


@dataclass
class DecodingLimits:
    """What one file may still cost.

    Attributes:
        seconds: of the picture that were decoded so far.
        began: processor time of this thread when decoding began.
    """

    seconds: float = 0.0
    began: float = field(default_factory=time.thread_time)
    _packets: int = 0
    _frames_allowed: int = MAX_FRAMES_BESIDE

    def check_packet(self, packet: av.Packet[Any]) -> None:
        """Count a packet that was read.

        Raises:
            ClipError: `too_large`: it has more bytes than are allowed; `too_slow`: too much time was taken so far.
        """
        if packet.size > MAX_PACKET_BYTES:
            detail = f"a packet of {packet.size:,} bytes, and at most {MAX_PACKET_BYTES:,} are allowed"
            raise ClipError("decode", "too_large", detail)
        self._packets += 1
        if not self._packets % _PACKETS_BETWEEN_CHECKS:
            self.check_time()

    def check_time(self) -> None:
        """Compare the time taken with the length so far (ClipError: `too_slow`)."""
        taken, allowed = time.thread_time() - self.began, seconds_allowed(self.seconds)
        if taken > allowed:
            detail = f"{taken:.0f} s of processor time for {self.seconds:.1f} s of video, and {allowed:.0f} are allowed"
            raise ClipError("decode", "too_slow", detail)

    def check_frames(self, frames: int, seconds: float) -> None:
        """Compare the number of frames so far with their length (ClipError: `too_large`)."""
        self.seconds = seconds
        if frames <= self._frames_allowed:
            return
        allowed = MAX_FRAMES_BESIDE + int(MAX_FRAME_RATE * seconds)
        if frames > allowed:
            detail = f"{frames:,} frames in {seconds:.2f} s, and at most {allowed:,} are allowed"
            raise ClipError("decode", "too_large", detail)
        self._frames_allowed = min(allowed, frames + MAX_FRAMES_BESIDE)


def seconds_allowed(seconds: float) -> float:
    """Seconds in which a video of that length is to be decoded."""
    return MIN_DECODING_SECONDS + DECODING_SECONDS_A_SECOND * seconds


def check_picture(width: float, height: float) -> None:
    """Refuse a picture of too many pixels (ClipError: `too_large`)."""
    if width * height > MAX_FRAME_PIXELS:
        detail = f"a picture of {width:.0f}x{height:.0f} pixels, and at most {MAX_FRAME_PIXELS:,} are allowed"
        raise ClipError("decode", "too_large", detail)


def check_sound(channels: int, rate: int) -> None:
    """Refuse sound of too many channels, or of a rate that is none of speech (ClipError)."""
    if channels > MAX_CHANNELS:
        raise ClipError("sound", "too_large", f"{channels} channels, and at most {MAX_CHANNELS} are allowed")
    if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise ClipError("sound", "sound_unreadable", f"a sampling rate of {rate} Hz is none of speech")


def refuse_large_picture(packet: av.Packet[Any]) -> None:
    """Say whether a packet could not be decoded because the picture in it is too large, whatever the header said.

    Raises:
        ClipError: `too_large`, with the size.
    """
    stream = packet.stream
    if not isinstance(stream, av.VideoStream):
        return
    again: Any = av.CodecContext.create(stream.codec_context.name, "r")
    again.extradata, again.options = stream.codec_context.extradata, DECODER_OPTIONS
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as said, suppress(av.FFmpegError):
            again.decode(packet)
    finally:
        av.logging.set_level(level)
    for _, _, line in said:
        match = PICTURE_SIZE.search(line)
        if match is not None:
            check_picture(int(match[1]), int(match[2]))
