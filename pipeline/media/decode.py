"""Decode one video file in one pass: gray lip regions and sound, each with its presentation times.

PyAV decodes in-process on one thread: the workers are the parallelism. A file that is not plain is normalized by FFmpeg
and then decoded in the same way.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import SEEK_END
from pathlib import Path
from typing import IO, Any, cast

import av
import numpy as np
from av.container import InputContainer

from pipeline.media.channels import ChannelMixer
from pipeline.media.crop import UPRIGHT, Crop, Orientation
from pipeline.media.errors import ClipError
from pipeline.media.normalize import normalized
from pipeline.media.probe import FrameProbe, Oddity, OddVideoError, PacketProbe, probe_header
from pipeline.media.streams import Streams, choose_streams, open_video

_LOST_SECONDS = 0.5
"""A file may end this much before its header says: headers round, and streams end unevenly."""

_ONE_TIME = 1e-5
"""Seconds within which two times are the same: less than a sample, more than the rounding of floating point."""


@dataclass
class Picture:
    """The decoded picture of a clip.

    Attributes:
        regions: what was kept of each of N decoded frames.
        ticks: N presentation times, in units of `time_base`.
        time_base: seconds a tick.
        duration: ticks that the last frame is shown.
        orientation: how the frames are turned before they are shown and cropped.
        corrupt: frames that the decoder had to repair.
        notes: what was odd about the file, in words.
    """

    time_base: Fraction
    duration: Fraction | int
    regions: list[np.ndarray[Any, Any]] = field(default_factory=list)
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


def decode_video(video: bytes | Path, crop: Crop, with_sound: bool) -> tuple[Picture, list[SoundRun]]:
    """Decode picture and sound of a video file, which is normalized first if it is odd.

    Args:
        video: the content of the file, or its path.
        crop: what to keep of each frame.
        with_sound: whether to decode the sound too.

    Raises:
        ClipError: the file is no video, is cut short, or cannot be decoded.
        OSError: it cannot be read, or there is no room to normalize it.
    """
    try:
        return decode_plain(video, crop, with_sound)
    except OddVideoError as odd:
        with normalized(video, odd) as (plain, note):
            picture, runs = decode_plain(plain, crop, with_sound)
        picture.notes.insert(0, note)
        return picture, runs


def decode_plain(video: bytes | Path, crop: Crop, with_sound: bool) -> tuple[Picture, list[SoundRun]]:
    """`decode_video` of a plain file.

    Raises:
        OddVideoError: it is not plain.
        ClipError, OSError: as `decode_video`.
    """
    file: IO[bytes] = video.open("rb") if isinstance(video, Path) else io.BytesIO(video)
    with file:
        try:
            return _decode(file, crop, with_sound)
        except (ClipError, OddVideoError):
            raise
        except av.FFmpegError as error:
            raise ClipError("decode", "video_unreadable", f"{type(error).__name__}: {error.strerror}") from error
        except (ValueError, IndexError, MemoryError, ArithmeticError) as error:
            # whatever a decoder stumbles over is the fault of the bytes
            raise ClipError("decode", "video_unreadable", f"{type(error).__name__}: {error}") from error


def _decode(file: IO[bytes], crop: Crop, with_sound: bool) -> tuple[Picture, list[SoundRun]]:
    size = file.seek(0, SEEK_END)
    if not size:
        raise ClipError("decode", "video_empty", "the file has no bytes")
    file.seek(0)
    with open_video(file) as container:
        streams = choose_streams(container)
        probe_header(container, streams.video, file)
        picture, runs, mixer = _decode_streams(container, streams, crop, with_sound, size)
    single = mixer.levels.single_channel()
    if single is not None:
        channel, note = single
        file.seek(0)
        runs = _decode_channel(file, channel)
        picture.notes.append(note)
    return picture, runs


def _decode_streams(
    container: InputContainer,
    streams: Streams,
    crop: Crop,
    with_sound: bool,
    bytes_there: int,
) -> tuple[Picture, list[SoundRun], ChannelMixer]:
    video, audio = streams.video, streams.audio
    video.thread_type = "NONE"
    video.codec_context.thread_count = 1
    time_base = Fraction(video.time_base or Fraction(1, av.time_base))
    rate = Fraction(video.average_rate or video.guessed_rate or 25)
    picture = Picture(time_base, duration=1 / rate / time_base, notes=list(streams.notes) if with_sound else [])
    runs: list[SoundRun] = []
    mixer = ChannelMixer()
    packets, frames = PacketProbe.of(container), FrameProbe()
    has_index = "mp4" in container.format.name
    wanted = [video] if audio is None or not with_sound else [video, audio]
    end, decoding_times = 0.0, []
    try:
        # a file without an index is measured by all its streams: the longest of them is as long as its header says
        for packet in container.demux(wanted) if has_index else container.demux():
            if not has_index and packet.pts is not None and packet.time_base is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * float(packet.time_base))
            if packet.stream not in wanted:
                continue
            packets.check(packet)
            if packet.stream is video and packet.size:
                decoding_times.append(packet.dts)
            for frame in packet.decode():
                if isinstance(frame, av.AudioFrame):
                    for block in mixer.mix(frame):
                        _add_sound(runs, block, mixer)
                else:
                    shown = cast(av.VideoFrame, frame)
                    frames.check(shown)
                    _add_picture(picture, shown, crop)
    except av.FFmpegError as error:
        where = f"after {len(picture.regions)} of {video.frames or 'an unknown number of'} frames"
        raise ClipError("decode", "video_damaged", f"{error.strerror} {where}") from error
    if not picture.regions:
        raise ClipError("decode", "video_unreadable", "no frame could be decoded")
    if has_index:
        _check_index([video] if audio is None else [video, audio], bytes_there)
    elif not packets.may_leap:
        _check_length((container.duration or 0) / av.time_base, end)
    if container.format.name == "avi":
        _set_avi_times(picture, decoding_times)
    picture.ticks.sort()  # frames come in the order in which they are shown; not every file's times do
    return picture, runs, mixer


def _decode_channel(file: IO[bytes], channel: int) -> list[SoundRun]:
    """The sound again, one channel of it alone."""
    runs: list[SoundRun] = []
    mixer = ChannelMixer(channel)
    with open_video(file) as container:
        for frame in container.decode(choose_streams(container).audio):
            for block in mixer.mix(cast(av.AudioFrame, frame)):
                _add_sound(runs, block, mixer)
    return runs


def _set_avi_times(picture: Picture, decoding_times: list[int | None]) -> None:
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


def _add_picture(picture: Picture, frame: av.VideoFrame, crop: Crop) -> None:
    if not picture.regions:
        picture.orientation = Orientation.of(frame)
    picture.corrupt += frame.is_corrupt
    picture.regions.append(crop(len(picture.regions), frame, picture.orientation))
    if frame.pts is not None:
        picture.ticks.append(frame.pts)
    else:  # containers without presentation times, such as raw AVI: frames follow each other
        picture.ticks.append(round(picture.ticks[-1] + picture.duration) if picture.ticks else 0)
    if frame.duration:
        picture.duration = frame.duration


def _add_sound(runs: list[SoundRun], frame: av.AudioFrame, mixer: ChannelMixer) -> None:
    """Append decoded sound to the last run if it follows it, else begin another."""
    samples = mixer.samples(frame)
    if not runs:
        runs.append(SoundRun(frame.sample_rate, frame.time or 0.0))
    start = runs[-1].end if frame.time is None else frame.time
    if frame.sample_rate != runs[0].rate:
        note = f"the sampling rate changes from {runs[0].rate} to {frame.sample_rate} Hz"
        raise OddVideoError(Oddity(note))
    if abs(start - runs[-1].end) > _ONE_TIME:
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
