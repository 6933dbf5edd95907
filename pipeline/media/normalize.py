"""Normalize an odd video with FFmpeg: a temporary file of square pixels, whole frames, one size and one clock.

Pictures come out as a player shows them: in the width that their pixel aspect asks for, without what the container
crops away, upright, each pair of fields as one frame, and in the size of the first. Frames stay those of the source,
each at its time: none is repeated and none left out, so that lip coordinates, one a frame, stay in step. The clock
begins at 0, and parts whose clock begins anew follow each other.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any, cast

import av
import ffmpeg
from av.container import InputContainer
from av.video.frame import VideoFrame

from pipeline.media.crop import Orientation
from pipeline.media.decoding_limits import PICTURE_SIZE, DecodingLimits, check_picture, check_sound, seconds_allowed
from pipeline.media.errors import FAULTS, ClipError
from pipeline.media.ffmpeg_tool import INPUT_OPTIONS, FFmpegToolError, run_ffmpeg
from pipeline.media.joined import lay_end_to_end
from pipeline.media.packets import PacketDecoder
from pipeline.media.probe import OddVideoError, PacketProbe, aspect_of, is_broadcast
from pipeline.media.streams import choose_streams, open_video
from runtime.limits import (
    MAX_DECODING_BYTES,
    MAX_FRAME_PIXELS,
    MAX_NAME_LENGTH,
    MAX_NORMALIZED_BYTES,
    MAX_NORMALIZED_GROWTH,
    MAX_VIDEO_SECONDS,
)
from runtime.memory_limit import memory_limited
from runtime.regular_file import open_regular

_ENCODER = {"c:v": "libx264", "preset": "ultrafast", "crf": 6, "bf": 0, "threads": 1, "pix_fmt": "yuv420p"}
"""Lossy by less than a gray level, a tenth of the bytes of a lossless codec; one thread, as all workers have."""

_FLAGS_FIELDS = ("h264", "hevc", "mpeg2video", "dvvideo", "vc1", "mpeg4")
"""Codecs that say of each frame whether it consists of fields; for others the file says it of all."""

_LINES_QUOTED = 3

_OTHER_SOUNDS = 3
"""Streams of sound that are copied beside the chosen one, for where that is silent."""

_BEYOND_SECONDS = 60
"""Of a video that is too long, the copy lasts so much longer than is allowed: the decoder then says so."""

_Filter = tuple[str, tuple[Any, ...], dict[str, Any]]
"""Name, positional and named arguments of a filter."""


@contextmanager
def normalized(
    video: bytes | Path, found: OddVideoError, max_seconds: float | None = None
) -> Iterator[tuple[Path, str]]:
    """A plain copy of a video, until the end of the block, and a note of what was odd about the video.

    Args:
        video: content or path of the file.
        found: what is known to be odd about it.
        max_seconds: of a longer video, the copy is only a little longer than that.

    Raises:
        ClipError: FFmpeg finds nothing to keep, the detail is in its words; or the video, or its copy, is too large.
        OSError: there is no room for the copy, or FFmpeg is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="normalize-") as folder:
        source = video if isinstance(video, Path) else Path(folder) / "source"
        if not isinstance(video, Path):
            source.write_bytes(video)
        out = Path(folder) / "plain.mkv"
        try:
            odd = _look_for_more(source, found)
            if odd.clock:
                source = _with_one_clock(source, Path(folder) / "joined.nut", odd)
            _normalize(source, out, odd, MAX_VIDEO_SECONDS if max_seconds is None else max_seconds)
        except (av.FFmpegError, *FAULTS) as error:
            # of PyAV: some are OSErrors, and whatever it stumbles over is the fault of the bytes, not of the disk
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise OSError(errno.ENOSPC, "no room for a temporary copy of the video", folder) from error
            raise ClipError("decode", "video_unreadable", f"{found.note}, and {error}") from error
        yield out, f"{odd.note}: normalized by FFmpeg"


def _look_for_more(source: Path, found: OddVideoError) -> OddVideoError:
    """What is odd about the packets of a file, too."""
    if found.clock:
        return found
    with open_regular(source) as file, memory_limited(MAX_DECODING_BYTES), open_video(file) as container:
        probe, limits = PacketProbe.of(container), DecodingLimits()
        try:
            for packet in container.demux(choose_streams(container).video):
                limits.check_packet(packet)
                probe.check(packet)
        except OddVideoError as more:
            return OddVideoError(*found.oddities, *more.oddities)
        except av.FFmpegError:
            return found  # damaged: FFmpeg's own tool says how
    return found


def _with_one_clock(source: Path, joined: Path, odd: OddVideoError) -> Path:
    """A copy of a joined file, with its parts one after the other; or the file itself, where FFmpeg does it."""
    try:
        if lay_end_to_end(source, joined):
            return joined
    except (av.FFmpegError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        detail = f"{odd.note}: they cannot be laid end to end here, FFmpeg's concat joins them rightly"
        raise ClipError("decode", "times_broken", detail) from error
    with open_regular(source) as file, open_video(file) as container:
        if not is_broadcast(container):  # FFmpeg would drop what comes after the leap
            raise ClipError("decode", "times_broken", f"{odd.note}, but not picture and sound alike")
    return source


def _normalize(source: Path, out: Path, odd: OddVideoError, max_seconds: float) -> None:
    path = source.absolute()
    with open_regular(source) as file, memory_limited(MAX_DECODING_BYTES), open_video(file) as container:
        streams = choose_streams(container)
        context = streams.video.codec_context
        check_picture(float(context.width * aspect_of(streams.video)), context.height)
        length = min((container.duration or 0) / av.time_base, max_seconds)
        # the format that PyAV found, among those that are allowed: FFmpeg also reads playlists, and follows them
        opened = ffmpeg.input(f"file:{path}", format_whitelist=container.format.name, threads=1, **INPUT_OPTIONS)
        picture = opened[str(streams.video.index)]
        for name, positional, named in _filters(container, streams.video, odd):
            picture = picture.filter(name, *positional, **named)
        heard = [] if streams.audio is None else [streams.audio.index, *streams.other_audio[:_OTHER_SOUNDS]]
        for index in heard:
            coded = cast(av.AudioStream, container.streams[index]).codec_context
            check_sound(coded.channels, coded.sample_rate)
        sound = [opened[str(index)] for index in heard]
    # by default times are rounded to the rate that the header says, and of frames with the same time one is kept
    most_bytes = MAX_NORMALIZED_BYTES + MAX_NORMALIZED_GROWTH * source.stat().st_size
    options = {
        "t": max_seconds + _BEYOND_SECONDS,
        "fs": most_bytes,
        "fps_mode": "vfr",
        "enc_time_base:v": "demux",
        "c:a": "pcm_s16le",
        **{f"disposition:a:{number}": "0" if number else "default" for number in range(len(heard))},
        "map_metadata": -1,
        "map_chapters": -1,
        "f": "matroska",
    }
    job = ffmpeg.output(picture, *sound, f"file:{out}", **_ENCODER, **options).global_args("-v", "error", "-nostdin")
    seconds = seconds_allowed(length)
    try:
        said = run_ffmpeg(job, seconds)
    except FFmpegToolError as error:
        said = error.said.replace(str(path), "the file")
        if "No space left on device" in said:
            raise OSError(errno.ENOSPC, "no room for a temporary copy of the video", str(out.parent)) from error
        _refuse_large_picture(said)
        if error.timed_out:
            detail = f"{odd.note}, and FFmpeg did not normalize it within the {seconds:.0f} s that are allowed"
            raise ClipError("decode", "too_slow", detail) from error
        lines = [line[:MAX_NAME_LENGTH] for line in said.splitlines() if line.strip()]
        detail = f"{odd.note}, and FFmpeg says: {'; '.join(lines[:_LINES_QUOTED]) or 'nothing'}"
        raise ClipError("decode", "video_unreadable", detail) from error
    _refuse_large_picture(said)  # it passes over what it cannot decode
    if out.stat().st_size >= most_bytes:
        detail = f"{odd.note}, and normalized it takes more than the {most_bytes:,} bytes that are allowed"
        raise ClipError("decode", "too_large", detail)


def _refuse_large_picture(said: str) -> None:
    match = PICTURE_SIZE.search(said)
    if match is not None:
        check_picture(int(match[1]), int(match[2]))


def _filters(container: InputContainer, video: av.VideoStream, odd: OddVideoError) -> list[_Filter]:
    filters: list[_Filter] = []
    if container.format.name == "avi":
        filters.append(("setpts", (f"PTS-STARTPTS+{_first_time(container, video)}",), {}))
    if odd.interlaced:
        deint = "interlaced" if video.codec_context.name in _FLAGS_FIELDS else "all"
        filters.append(("bwdif", (), {"mode": "send_frame", "deint": deint}))
    filters += [("scale", (f"min(round(iw*sar),{MAX_FRAME_PIXELS}/ih)", "ih"), {}), ("setsar", (1,), {})]
    if odd.resized or odd.clock:  # parts that were joined may each have a size of their own
        first = _first_frame(container, video)
        aspect, orientation = aspect_of(video), Orientation.of(first)
        width, height = orientation.size(first)
        width = round(width / aspect if orientation.transposed else width * aspect)
        check_picture(width, height)
        size = 2 * ceil(width / 2), 2 * ceil(height / 2)
        filters.append(("scale", size, {"force_original_aspect_ratio": "decrease"}))
        filters.append(("pad", (*size, "(ow-iw)/2", "(oh-ih)/2"), {}))
    else:
        filters.append(("pad", ("2*ceil(iw/2)", "2*ceil(ih/2)"), {}))
    filters.append(("setpts", ("if(N,max(PTS,PREV_OUTPTS+1),PTS)",), {}))  # FFmpeg drops a frame that is not later
    return filters


def _first_frame(container: InputContainer, video: av.VideoStream) -> VideoFrame:
    """The first frame that can be decoded (ClipError: there is none)."""
    decoder, limits = PacketDecoder(may_be_cut=True), DecodingLimits()
    for packet in container.demux(video):
        limits.check_packet(packet)
        for frame in decoder.decode(packet):
            return cast(VideoFrame, frame)
    raise ClipError("decode", "video_unreadable", "no frame could be decoded")


def _first_time(container: InputContainer, video: av.VideoStream) -> int:
    """The time of the first picture of an AVI, in units of its stream: with B-frames, FFmpeg makes up a later one."""
    first = next((packet.dts for packet in container.demux(video) if packet.size), None)
    container.seek(0)
    return first or 0
