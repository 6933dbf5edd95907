"""Probe a video for what makes it odd: whatever the decoder cannot take as it stands, and FFmpeg normalizes first.

A plain file has a constant size, square pixels, whole frames (progressive), no crop in its container, and one clock
that runs forward. Its header is looked at before decoding, its packets and frames on the way, so that a plain file is
read once and probing costs next to nothing. The first thing that is odd ends the decoding with `OddVideoError`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import IO, Any

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame

_BACK_SECONDS = 0.1
"""A decoding time this much before the last one is of a clock that began anew; FFmpeg's own tool has the same."""
_BACK_SECONDS_SHOWN = 1.0
"""The same where a packet has its presentation time alone, which B-frames put out of order."""
_AHEAD_SECONDS = 10.0
"""A broadcast's clock that leaps ahead this much has begun anew."""

_FIRST_INTERLACED = 2
"""Of FFmpeg's field orders: 0 is unknown, 1 progressive, from 2 on are the interlaced ones."""

_MATROSKA_CLUSTER = b"\x1f\x43\xb6\x75"
_MATROSKA_CROP = re.compile(rb"\x54[\xaa\xbb\xcc\xdd][\x81-\x88]")
_MP4_CROP = b"\0\0\0\x28clap"
_HEADER_BYTES = 64 << 20
"""An index of some hours of video is smaller."""


@dataclass(frozen=True)
class Oddity:
    """Something that a plain file has not.

    Attributes:
        note: in words, for whoever reads the clip's json.
        interlaced: whether it is that frames consist of two fields.
        resized: whether it is that frames come in several sizes.
        clock: whether it is that the clock begins anew.
    """

    note: str
    interlaced: bool = False
    resized: bool = False
    clock: bool = False


class OddVideoError(Exception):
    """The file is to be normalized before it is decoded.

    Attributes:
        oddities: what was found.
        note: all of it, in words.
        interlaced, resized, clock: whether one of the oddities is of this kind.
    """

    def __init__(self, *oddities: Oddity) -> None:
        self.oddities = oddities
        self.note = "; ".join(oddity.note for oddity in oddities)
        self.interlaced = any(oddity.interlaced for oddity in oddities)
        self.resized = any(oddity.resized for oddity in oddities)
        self.clock = any(oddity.clock for oddity in oddities)
        super().__init__(self.note)


def probe_header(container: InputContainer, video: av.VideoStream, file: IO[bytes]) -> None:
    """Look at what a file says of its picture before any of it is decoded.

    Args:
        container: the opened file.
        video: the stream that is to be decoded.
        file: the file itself; its position is where it was before.

    Raises:
        OddVideoError: pixels that are not square, fields, or a crop of the container.
    """
    found = []
    aspect = aspect_of(video)
    if abs(aspect - 1) * video.codec_context.width >= 1:  # less than a pixel is a rounded aspect ratio of the whole
        found.append(Oddity(f"the pixels are not square ({aspect.numerator}:{aspect.denominator})"))
    if has_container_crop(container.format.name, file):
        found.append(Oddity("the container crops the picture"))
    if video.codec_context.field_order >= _FIRST_INTERLACED or (found and _begins_interlaced(container, video)):
        found.append(_INTERLACED)
    if found:
        raise OddVideoError(*found)


_INTERLACED = Oddity("the picture is interlaced", interlaced=True)


def _begins_interlaced(container: InputContainer, video: av.VideoStream) -> bool:
    try:
        return any(frame.interlaced_frame for frame in islice(container.decode(video), 1))
    except av.FFmpegError:
        return False  # FFmpeg's own tool says what is wrong


def is_broadcast(container: InputContainer) -> bool:
    """Whether a file is of a broadcast's format: its clock may begin anew, and its header says no length."""
    return av.format.Flags.ts_discont in av.format.Flags(container.format.flags)


@dataclass
class PacketProbe:
    """Whether the packets of a file follow one clock.

    Attributes:
        may_leap: of a broadcast format, whose clock may begin anew at a later time too.
        last: time of the last packet of each stream, in its ticks: decoding times by the stream's index, presentation
            times, where there are no others, by its complement.
        steps: likewise, the smallest and the largest step from one to the next.
    """

    may_leap: bool
    last: dict[int, int] = field(default_factory=dict)
    steps: dict[int, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, container: InputContainer) -> PacketProbe:
        return cls(is_broadcast(container))

    def check(self, packet: av.Packet[Any]) -> None:
        """Look at the next packet (OddVideoError: its time is of another clock)."""
        leap = self.leap(packet)
        if leap is not None:
            note = f"parts were joined, the clock leaps from {leap[0]:.1f} s to {leap[1]:.1f} s"
            raise OddVideoError(Oddity(note, clock=True))

    def leap(self, packet: av.Packet[Any]) -> tuple[float, float] | None:
        """Seconds from and to which the clock leaps at the next packet of a stream, or None: it runs on."""
        key, time = packet.stream_index, packet.dts
        if time is None:
            key, time = ~key, packet.pts
            if time is None:
                return None
        last = self.last.get(key)
        self.last[key] = time
        if last is None:
            tick = float(packet.time_base)
            back = _BACK_SECONDS if key >= 0 else _BACK_SECONDS_SHOWN
            self.steps[key] = (-back / tick, _AHEAD_SECONDS / tick if self.may_leap else math.inf)
            return None
        least, most = self.steps[key]
        if least <= time - last <= most:
            return None
        tick = float(packet.time_base)
        return last * tick, time * tick


@dataclass
class FrameProbe:
    """Whether the decoded frames of a file are whole, upright and of one size.

    Attributes:
        size: width and height of the first.
    """

    size: tuple[int, int] | None = None

    def check(self, frame: VideoFrame) -> None:
        """Look at the next frame (OddVideoError: it is not like a plain file's)."""
        size = frame.width, frame.height
        if size != self.size:
            if self.size is not None:
                note = "the picture changes its size from {}x{} to {}x{}".format(*self.size, *size)
                raise OddVideoError(Oddity(note, resized=True))
            self.size = size
            degrees = rotation_of(frame)
            if abs(degrees - 90 * round(degrees / 90)) > 1:
                raise OddVideoError(Oddity(f"the picture is turned by {degrees:.0f} degrees"))
        if frame.interlaced_frame:
            raise OddVideoError(_INTERLACED)


def rotation_of(frame: VideoFrame) -> float:
    """Degrees by which a frame's display matrix turns it; 0 without one."""
    data: Any = frame.side_data
    matrix = data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return 0.0
    a, b = np.frombuffer(memoryview(matrix), np.int32)[:2].tolist()
    return float(np.degrees(np.arctan2(b, a)))


def has_container_crop(format_name: str, file: IO[bytes]) -> bool:
    """Whether an mp4, mov or Matroska file asks for a part of its picture only (its `clap` box or PixelCrop elements).

    PyAV does not tell, and libav's decoders do not do it: FFmpeg's tool does.
    """
    before = file.tell()
    try:
        if "matroska" in format_name:
            file.seek(0)
            header, cluster, _ = file.read(1 << 20).partition(_MATROSKA_CLUSTER)
            values = [header[match.end() :][: match[0][-1] & 15] for match in _MATROSKA_CROP.finditer(header)]
            return bool(cluster) and any(map(any, values))
        return "mp4" in format_name and _MP4_CROP in _read_moov(file)
    finally:
        file.seek(before)


def _read_moov(file: IO[bytes]) -> bytes:
    """The box of an mp4 file that describes its streams, wherever it lies; nothing where it is not found."""
    offset = 0
    while True:
        file.seek(offset)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        if size == 1:
            size = int.from_bytes(header[8:], "big")
        if len(header) < 8 or size < 8:
            return b""
        if header[4:8] == b"moov":
            file.seek(offset)
            return file.read(min(size, _HEADER_BYTES))
        offset += size


def aspect_of(video: av.VideoStream) -> Fraction:
    """Width of a pixel by its height; 1 where the file does not say."""
    return Fraction(video.sample_aspect_ratio or 1)
