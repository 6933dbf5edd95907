"""Check how long a file is against what its header says, and against how long it may be."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NoReturn

import av
from av.container import InputContainer

from pipeline.media.decoding_limits import DecodingLimits
from pipeline.media.errors import ClipError
from runtime.constants import FPS

_LOST_SECONDS = 0.5
"""A file may end this much before its header says: headers round, and streams end unevenly."""

_MAX_STRETCH = 10
"""A decoded frame may on average be shown for this many 25ths of a second."""


def check_index(streams: Sequence[av.VideoStream | av.AudioStream], bytes_there: int) -> None:
    """Refuse an mp4 or mov whose index names bytes beyond the end of the file: picture or sound is missing."""
    for stream in streams:
        lost = sum(entry.pos + entry.size > bytes_there for entry in stream.index_entries)
        if lost:
            detail = f"{lost} of {len(stream.index_entries)} packets of {stream.type} lie beyond the end of the file"
            raise ClipError("decode", "video_truncated", detail)


def check_end(container: InputContainer, end: float) -> None:
    """Refuse a file all of whose streams end, in seconds, well before its header says.

    Transport streams do not say beforehand how long they are: nothing is found out about them. Of AVI, FFmpeg makes up
    the length from the bytes that are there: `check_frames`.
    """
    length = (container.duration or 0) / av.time_base
    if length - end > _LOST_SECONDS:
        raise ClipError("decode", "video_truncated", f"it ends after {end:.1f} s, the header says {length:.1f} s")


def frames_without_index(container: InputContainer, video: av.VideoStream) -> int:
    """Frames by the header of a just opened AVI, if the index that stands at its end is not there; else 0."""
    return video.frames if container.format.name == "avi" and len(video.index_entries) <= 1 else 0


def check_frames(by_header: int, numbers: Sequence[int | None], rate: Fraction) -> None:
    """Refuse an AVI that ends well before its header says; `numbers` are those of its packets."""
    count = max((number for number in numbers if number is not None), default=-1) + 1
    if by_header - count > _LOST_SECONDS * rate:
        raise ClipError("decode", "video_truncated", f"it ends after {count} frames, the header says {by_header}")


def refuse_long(ticks: Sequence[int], time_base: Fraction, most: float) -> NoReturn:
    """Refuse a video whose frames so far, shown at `ticks`, span more than `most` seconds.

    Raises:
        ClipError: they do; or they are so few that their times are broken.
    """
    seconds = float((ticks[-1] - ticks[0]) * time_base)
    if is_stretched(len(ticks), seconds):
        raise ClipError("decode", "times_broken", f"{len(ticks)} frames spread over {seconds:.0f} seconds")
    detail = f"{most / 60:g} minutes at most were expected (--max-minutes, --long-clips split)"
    raise ClipError("decode", "too_long", detail)


def is_stretched(frames: int, seconds: float) -> bool:
    """Whether frames are so far apart that they cannot be those of a talking face."""
    return seconds * FPS > _MAX_STRETCH * frames + FPS


def check_header_not_long(
    container: InputContainer, video: av.VideoStream, most: float, limits: DecodingLimits
) -> None:
    """`refuse_long` before anything is decoded, where the header says that the file is long: packets are counted."""
    begin = (container.start_time or 0) if "matroska" in container.format.name else 0  # it counts from 0
    if ((container.duration or 0) - begin) / av.time_base <= most:
        return
    ticks: list[int] = []
    time_base = Fraction(video.time_base or 1)
    for packet in container.demux(video):
        limits.check_packet(packet)
        if packet.pts is not None:
            ticks.append(packet.pts)
            if ticks[-1] - ticks[0] > most / time_base:
                refuse_long(ticks, time_base, most)
    container.seek(container.start_time or 0)  # the header is wrong
