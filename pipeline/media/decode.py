"""Decode one video file in one pass: gray lip regions and sound, each with its presentation times.

PyAV decodes in-process on one thread: the workers are the parallelism. The file is in memory already, so whatever goes
wrong here is the clip's fault and not the disk's.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import IO, Any, cast

import av
import numpy as np
from av.container import InputContainer

from pipeline.media.crop import UPRIGHT, Orientation, crop_gray
from pipeline.media.errors import ClipError

_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg"
_OPTIONS = {"format_whitelist": _FORMATS}
"""Containers only: FFmpeg would also read playlists, and follow them to other files."""

_LOST_SECONDS = 0.5
"""A file may end this much before its header says: headers round, and streams end unevenly."""

_MOST_FRAMES_A_SECOND = 240

_ONE_TIME = 1e-5
"""Seconds within which two times are the same: less than a sample, more than the rounding of floating point."""


@dataclass
class Picture:
    """The decoded picture of a clip.

    Attributes:
        regions: N gray regions, uint8 (2r, 2r), one per decoded frame.
        ticks: N presentation times, in units of `time_base`.
        time_base: seconds a tick.
        duration: ticks that the last frame is shown.
        orientation: how the frames are turned before they are shown and cropped.
        outside: frames whose lip center lies outside the picture.
        corrupt: frames that the decoder had to repair.
    """

    time_base: Fraction
    duration: Fraction | int
    regions: list[np.ndarray[Any, Any]] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    orientation: Orientation = UPRIGHT
    outside: int = 0
    corrupt: int = 0

    @property
    def start(self) -> Fraction:
        """Seconds at which the first frame is shown."""
        return self.ticks[0] * self.time_base

    @property
    def length(self) -> Fraction:
        """Seconds from the first frame to the end of the last."""
        return (self.ticks[-1] - self.ticks[0] + self.duration) * self.time_base


@dataclass
class SoundRun:
    """Sound without a gap.

    Attributes:
        rate: samples a second.
        start: seconds at the first sample.
        blocks: mono float32 samples in [-1, 1], in order.
        count: samples in all blocks.
    """

    rate: int
    start: float
    blocks: list[np.ndarray[Any, Any]] = field(default_factory=list)
    count: int = 0

    def append(self, block: np.ndarray[Any, Any]) -> None:
        self.blocks.append(block)
        self.count += len(block)

    @property
    def end(self) -> float:
        """Seconds at which the next sample would come."""
        return self.start + self.count / self.rate


def open_video(file: IO[bytes]) -> InputContainer:
    """Open a video file for demuxing; any readable, seekable file will do (av.FFmpegError: it is none)."""
    return av.open(file, "r", metadata_errors="ignore", options=_OPTIONS)


def decode_video(
    content: bytes, center_of: Callable[[int], tuple[int, int]], radius: int, with_sound: bool
) -> tuple[Picture, list[SoundRun]]:
    """Decode picture and sound of a video file.

    Args:
        content: the whole file.
        center_of: frame number -> x, y of the lip center, in pixels of the picture as shown.
        radius: half the side of the region in pixels.
        with_sound: whether to decode the sound too.

    Raises:
        ClipError: the file is no video, is cut short, or cannot be decoded.
    """
    if not content:
        raise ClipError("decode", "video_empty", "the file has no bytes")
    try:
        with open_video(io.BytesIO(content)) as container:
            return _decode(container, center_of, radius, with_sound, len(content))
    except ClipError:
        raise
    except av.FFmpegError as error:
        raise ClipError("decode", "video_unreadable", f"{type(error).__name__}: {error.strerror}") from error
    except (ValueError, IndexError, MemoryError, ArithmeticError) as error:
        # the bytes are in memory: whatever a decoder stumbles over is their fault
        raise ClipError("decode", "video_unreadable", f"{type(error).__name__}: {error}") from error


def _decode(
    container: InputContainer,
    center_of: Callable[[int], tuple[int, int]],
    radius: int,
    with_sound: bool,
    bytes_there: int,
) -> tuple[Picture, list[SoundRun]]:
    video, audio = _choose_streams(container)
    video.thread_type = "NONE"
    video.codec_context.thread_count = 1
    time_base = Fraction(video.time_base or Fraction(1, av.time_base))
    rate = Fraction(video.average_rate or video.guessed_rate or 25)
    picture = Picture(time_base, duration=1 / rate / time_base)
    runs: list[SoundRun] = []
    mono = _Mono()
    has_index = "mp4" in container.format.name
    wanted = [video] if audio is None or not with_sound else [video, audio]
    end = 0.0
    try:
        # a file without an index is measured by all its streams: the longest of them is as long as its header says
        for packet in container.demux(wanted) if has_index else container.demux():
            if not has_index and packet.pts is not None and packet.time_base is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * float(packet.time_base))
            if packet.stream not in wanted:
                continue
            for frame in packet.decode():
                if isinstance(frame, av.AudioFrame):
                    for block in mono.resample(frame):
                        _add_sound(runs, block)
                else:
                    _add_picture(picture, cast(av.VideoFrame, frame), center_of(len(picture.regions)), radius)
    except av.FFmpegError as error:
        where = f"after {len(picture.regions)} of {video.frames or 'an unknown number of'} frames"
        raise ClipError("decode", "video_damaged", f"{error.strerror} {where}") from error
    if not picture.regions:
        raise ClipError("decode", "video_unreadable", "no frame could be decoded")
    if has_index:
        _check_index([video] if audio is None else [video, audio], bytes_there)
    else:
        _check_length((container.duration or 0) / av.time_base, end)
    if container.format.name == "avi" and rate <= _MOST_FRAMES_A_SECOND:
        # no presentation times: what FFmpeg makes up for them goes wrong with B-frames
        picture.ticks = [round(number / rate / time_base) for number in range(len(picture.ticks))]
    picture.ticks.sort()  # frames come in the order in which they are shown; not every file's times do
    return picture, runs


def _choose_streams(container: InputContainer) -> tuple[av.VideoStream, av.AudioStream | None]:
    """The picture and the sound that a player would choose: no cover art, and the default among several."""
    video, audio = container.streams.best("video"), container.streams.best("audio")
    if not isinstance(video, av.VideoStream) or av.stream.Disposition.attached_pic in video.disposition:
        raise ClipError("decode", "video_unreadable", "the file has no video stream")
    if video.codec_context is None:
        raise ClipError("decode", "video_unreadable", "the codec of the video stream is not known")
    return video, audio if isinstance(audio, av.AudioStream) and audio.codec_context is not None else None


class _Mono:
    """Decoded sound to mono floating point, at its own rate; a stream may change its format midway."""

    def __init__(self) -> None:
        self.form: tuple[str, str, int] | None = None
        self.resampler = av.AudioResampler(format="fltp", layout="mono")

    def resample(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self.form:
            self.form, self.resampler = form, av.AudioResampler(format="fltp", layout="mono")
        return self.resampler.resample(frame)


def _add_picture(picture: Picture, frame: av.VideoFrame, center: tuple[int, int], radius: int) -> None:
    x, y = center
    if not picture.regions:
        picture.orientation = Orientation.of(frame)
    width, height = picture.orientation.size(frame)
    picture.outside += not (0 <= x < width and 0 <= y < height)
    picture.corrupt += frame.is_corrupt
    picture.regions.append(crop_gray(frame, x, y, radius, picture.orientation))
    if frame.pts is not None:
        picture.ticks.append(frame.pts)
    else:  # containers without presentation times, such as raw AVI: frames follow each other
        picture.ticks.append(round(picture.ticks[-1] + picture.duration) if picture.ticks else 0)
    if frame.duration:
        picture.duration = frame.duration


def _add_sound(runs: list[SoundRun], frame: av.AudioFrame) -> None:
    """Append decoded sound to the last run if it follows it, else begin another."""
    samples = np.frombuffer(memoryview(frame.planes[0]), np.float32)[: frame.samples].copy()
    if not runs:
        runs.append(SoundRun(frame.sample_rate, frame.time or 0.0))
    start = runs[-1].end if frame.time is None else frame.time
    if abs(start - runs[-1].end) > _ONE_TIME or frame.sample_rate != runs[-1].rate:
        runs.append(SoundRun(frame.sample_rate, start))
    runs[-1].append(samples)


def _check_index(streams: Sequence[av.VideoStream | av.AudioStream], bytes_there: int) -> None:
    """Refuse an mp4 or mov whose index names bytes beyond the end of the file: picture or sound is missing."""
    for stream in streams:
        lost = sum(entry.pos + entry.size > bytes_there for entry in stream.index_entries)
        if lost:
            detail = f"{lost} of {len(stream.index_entries)} packets of {stream.type} lie beyond the end of the file"
            raise ClipError("decode", "video_truncated", detail)


def _check_length(length: float, end: float) -> None:
    """Refuse a file all of whose streams end, in seconds, well before its header says.

    Transport streams and AVI do not say beforehand how long they are: nothing is found out about them.
    """
    if length - end > _LOST_SECONDS:
        raise ClipError("decode", "video_truncated", f"it ends after {end:.1f} s, the header says {length:.1f} s")
