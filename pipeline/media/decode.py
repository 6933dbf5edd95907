"""Decode one video file in one pass: gray lip regions and sound, each with its presentation times.

PyAV decodes in-process on one thread: the workers are the parallelism. A file that is not plain is normalized by FFmpeg
and then decoded in the same way.
"""

from __future__ import annotations

import io
from fractions import Fraction
from io import SEEK_END
from pathlib import Path
from typing import IO, cast

import av
from av.container import InputContainer

from pipeline.media.channels import ChannelMixer
from pipeline.media.crop import Crop
from pipeline.media.decoded_frames import DecodedFrames
from pipeline.media.decoding_limits import DecodingLimits
from pipeline.media.errors import ClipError, faults_of_file
from pipeline.media.length import (
    check_end,
    check_frames,
    check_header_not_long,
    check_index,
    frames_without_index,
    refuse_long,
)
from pipeline.media.normalize import normalized
from pipeline.media.packets import PacketDecoder
from pipeline.media.picture import Picture, set_avi_times
from pipeline.media.probe import OddVideoError, PacketProbe, is_broadcast, probe_header
from pipeline.media.sound_runs import NearbySound, SoundRun, add_sound
from pipeline.media.streams import Streams, choose_streams, open_video
from runtime.limits import MAX_DECODING_BYTES, MAX_SOUND_AHEAD, MAX_VIDEO_SECONDS
from runtime.memory_limit import memory_limited
from runtime.regular_file import open_regular


def decode_video(
    video: bytes | Path, crop: Crop, with_sound: bool, max_seconds: float | None = None
) -> tuple[Picture, list[SoundRun]]:
    """Decode picture and sound of a video file, which is normalized first if it is odd.

    Args:
        video: the content of the file, or its path.
        crop: what to keep of each frame.
        with_sound: whether to decode the sound too.
        max_seconds: a longer video is refused.

    Raises:
        ClipError: the file is no video, is cut short, or cannot be decoded.
        OSError: it cannot be read, or there is no room to normalize it.
    """
    try:
        return decode_plain(video, crop, with_sound, max_seconds)
    except OddVideoError as odd:
        with normalized(video, odd, max_seconds) as (plain, note):
            picture, runs = decode_plain(plain, crop, with_sound, max_seconds)
        picture.notes.insert(0, note)
        return picture, runs


def decode_plain(
    video: bytes | Path, crop: Crop, with_sound: bool, max_seconds: float | None = None
) -> tuple[Picture, list[SoundRun]]:
    """`decode_video` of a plain file.

    Raises:
        OddVideoError: it is not plain.
        ClipError, OSError: as `decode_video`.
    """
    file: IO[bytes] = open_regular(video) if isinstance(video, Path) else io.BytesIO(video)
    with file, faults_of_file(), memory_limited(MAX_DECODING_BYTES):
        return _decode(file, crop, with_sound, max_seconds)


def _decode(file: IO[bytes], crop: Crop, with_sound: bool, max_seconds: float | None) -> tuple[Picture, list[SoundRun]]:
    size = file.seek(0, SEEK_END)
    if not size:
        raise ClipError("decode", "video_empty", "the file has no bytes")
    file.seek(0)
    limits = DecodingLimits()
    with open_video(file) as container:
        streams = choose_streams(container)
        if max_seconds is not None:
            check_header_not_long(container, streams.video, max_seconds, limits)
        probe_header(container, streams.video, file)
        chosen = -1 if streams.audio is None else streams.audio.index
        picture, runs, mixer = _decode_streams(container, streams, crop, with_sound, size, max_seconds, limits)
    if runs and mixer.silent:  # a microphone on a track of its own, beside one that nothing was played on
        for index in streams.other_audio:
            other, other_mixer = _decode_sound(file, index, picture, limits)
            if other and not other_mixer.silent:
                picture.notes.append(f"audio stream {chosen} is silent: stream {index} was taken")
                runs, mixer, chosen = other, other_mixer, index
                break
    single = mixer.levels.single_channel()
    if single is not None:
        channel, note = single
        runs, _ = _decode_sound(file, chosen, picture, limits, channel)
        picture.notes.append(note)
    return picture, runs


def _decode_streams(
    container: InputContainer,
    streams: Streams,
    crop: Crop,
    with_sound: bool,
    bytes_there: int,
    max_seconds: float | None,
    limits: DecodingLimits,
) -> tuple[Picture, list[SoundRun], ChannelMixer]:
    video, audio = streams.video, streams.audio
    video.thread_type = "NONE"
    video.codec_context.thread_count = 1
    time_base = Fraction(video.time_base or Fraction(1, av.time_base))
    rate = Fraction(video.average_rate or video.guessed_rate or 25)
    picture = Picture(time_base, duration=1 / rate / time_base, notes=list(streams.notes) if with_sound else [])
    longest = MAX_VIDEO_SECONDS if max_seconds is None else max_seconds
    frames = DecodedFrames(picture, crop, longest, limits)
    packets = PacketProbe.of(container)
    decoder = PacketDecoder(may_be_cut=packets.may_leap)
    has_index = "mp4" in container.format.name
    wanted = [video] if audio is None or not with_sound else [video, audio]
    nearby = NearbySound(video, audio, may_discard=has_index)
    end, decoding_times = 0.0, []
    frames_by_header = frames_without_index(container, video)
    try:
        # a file without an index is measured by all its streams: the longest of them is as long as its header says
        for packet in container.demux(wanted) if has_index else container.demux():
            limits.check_packet(packet)
            if not has_index and packet.pts is not None and packet.time_base is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * float(packet.time_base))
            if packet.stream not in wanted:
                continue
            packets.check(packet)
            if packet.stream is video:
                nearby.picture_at(packet)
                if packet.size:
                    decoding_times.append(packet.dts)
            elif nearby.is_far(packet):
                continue
            for frame in decoder.decode(packet):
                frames.add(frame)
        frames.process()
    except av.FFmpegError as error:
        frames.process()
        if has_index:
            check_index([video] if audio is None else [video, audio], bytes_there)
        where = f"after {len(picture.regions)} of {video.frames or 'an unknown number of'} frames"
        raise ClipError("decode", "video_damaged", f"{error.strerror} {where}") from error
    if not len(picture.regions):
        raise ClipError("decode", "video_unreadable", "no frame could be decoded")
    if has_index:
        check_index([video] if audio is None else [video, audio], bytes_there)
    elif not packets.may_leap:
        check_end(container, end)
    picture.notes += decoder.notes
    if container.format.name == "avi":
        check_frames(frames_by_header, decoding_times, rate)
        set_avi_times(picture, decoding_times)
    picture.ticks.sort()  # frames come in the order in which they are shown; not every file's times do
    length = picture.length
    if length > longest + 1:
        refuse_long(picture.ticks, time_base, longest)
    if with_sound:
        picture.notes += nearby.notes(picture.start, picture.start + length)
    return picture, frames.runs, frames.mixer


def _decode_sound(
    file: IO[bytes], index: int, picture: Picture, limits: DecodingLimits, channel: int | None = None
) -> tuple[list[SoundRun], ChannelMixer]:
    """A stream of sound alone, or one channel of it, as far as it is near the picture."""
    file.seek(0)
    runs: list[SoundRun] = []
    mixer = ChannelMixer(channel)
    with open_video(file) as container:
        decoder = PacketDecoder(may_be_cut=is_broadcast(container))
        stream = container.streams[index]
        tick = float(stream.time_base or 1)
        earliest = (picture.start - MAX_SOUND_AHEAD) / tick
        latest = (picture.start + picture.length + MAX_SOUND_AHEAD) / tick
        for packet in container.demux(stream):
            limits.check_packet(packet)
            if packet.pts is not None and not earliest <= packet.pts <= latest:
                continue
            for frame in decoder.decode(packet):
                add_sound(runs, cast(av.AudioFrame, frame), mixer)
    return runs, mixer
