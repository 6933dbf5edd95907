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
from imageio_ffmpeg import get_ffmpeg_exe

from pipeline.media.crop import Orientation
from pipeline.media.errors import ClipError
from pipeline.media.joined import lay_end_to_end
from pipeline.media.packets import PacketDecoder
from pipeline.media.probe import OddVideoError, PacketProbe, aspect_of, is_broadcast
from pipeline.media.streams import choose_streams, open_video

_ENCODER = {"c:v": "libx264", "preset": "ultrafast", "crf": 6, "bf": 0, "threads": 1, "pix_fmt": "yuv420p"}
"""Lossy by less than a gray level, a tenth of the bytes of a lossless codec; one thread, as all workers have."""

_FLAGS_FIELDS = ("h264", "hevc", "mpeg2video", "dvvideo", "vc1", "mpeg4")
"""Codecs that say of each frame whether it consists of fields; for others the file says it of all."""

_LINES_QUOTED = 3

_Filter = tuple[str, tuple[Any, ...], dict[str, Any]]
"""Name, positional and named arguments of a filter."""


@contextmanager
def normalized(video: bytes | Path, found: OddVideoError) -> Iterator[tuple[Path, str]]:
    """A plain copy of a video, until the end of the block, and a note of what was odd about the video.

    Args:
        video: content or path of the file.
        found: what is known to be odd about it.

    Raises:
        ClipError: FFmpeg finds nothing to keep; the detail is in its words.
        OSError: there is no room for the copy.
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
            _normalize(source, out, odd)
        except (av.FFmpegError, ValueError, IndexError, ArithmeticError) as error:
            # of PyAV: some are OSErrors, and whatever it stumbles over is the fault of the bytes, not of the disk
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise OSError(errno.ENOSPC, "no room for a temporary copy of the video", folder) from error
            raise ClipError("decode", "video_unreadable", f"{found.note}, and {error}") from error
        yield out, f"{odd.note}: normalized by FFmpeg"


def _look_for_more(source: Path, found: OddVideoError) -> OddVideoError:
    """What is odd about the packets of a file, too."""
    if found.clock:
        return found
    with source.open("rb") as file, open_video(file) as container:
        probe = PacketProbe.of(container)
        try:
            for packet in container.demux(choose_streams(container).video):
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
    with source.open("rb") as file, open_video(file) as container:
        if not is_broadcast(container):  # FFmpeg would drop what comes after the leap
            raise ClipError("decode", "times_broken", f"{odd.note}, but not picture and sound alike")
    return source


def _normalize(source: Path, out: Path, odd: OddVideoError) -> None:
    path = source.absolute()
    with source.open("rb") as file, open_video(file) as container:
        streams = choose_streams(container)
        # the format that PyAV found, among those that are allowed: FFmpeg also reads playlists, and follows them
        form = container.format.name
        opened = ffmpeg.input(f"file:{path}", protocol_whitelist="file", format_whitelist=form, threads=1)
        picture = opened[str(streams.video.index)]
        for name, positional, named in _filters(container, streams.video, odd):
            picture = picture.filter(name, *positional, **named)
        sound = [] if streams.audio is None else [opened[str(streams.audio.index)]]
    # by default times are rounded to the rate that the header says, and of frames with the same time one is kept
    options = {
        "fps_mode": "vfr",
        "enc_time_base:v": "demux",
        "c:a": "pcm_s16le",
        "map_metadata": -1,
        "map_chapters": -1,
        "f": "matroska",
    }
    job = ffmpeg.output(picture, *sound, f"file:{out}", **_ENCODER, **options).global_args("-v", "error", "-nostdin")
    try:
        ffmpeg.run(job, cmd=get_ffmpeg_exe(), capture_stdout=True, capture_stderr=True)
    except ffmpeg.Error as error:
        said = error.stderr.decode("utf-8", "replace").replace(str(path), "the file")
        if "No space left on device" in said:
            raise OSError(errno.ENOSPC, "no room for a temporary copy of the video", str(out.parent)) from error
        lines = [line for line in said.splitlines() if line.strip()]
        detail = f"{odd.note}, and FFmpeg says: {'; '.join(lines[:_LINES_QUOTED]) or 'nothing'}"
        raise ClipError("decode", "video_unreadable", detail) from error


def _filters(container: InputContainer, video: av.VideoStream, odd: OddVideoError) -> list[_Filter]:
    filters: list[_Filter] = []
    if container.format.name == "avi":
        filters.append(("setpts", (f"PTS-STARTPTS+{_first_time(container, video)}",), {}))
    if odd.interlaced:
        deint = "interlaced" if video.codec_context.name in _FLAGS_FIELDS else "all"
        filters.append(("bwdif", (), {"mode": "send_frame", "deint": deint}))
    filters += [("scale", ("round(iw*sar)", "ih"), {}), ("setsar", (1,), {})]
    if odd.resized or odd.clock:  # parts that were joined may each have a size of their own
        first = _first_frame(container, video)
        aspect, orientation = aspect_of(video), Orientation.of(first)
        width, height = orientation.size(first)
        width = round(width / aspect if orientation.transposed else width * aspect)
        size = 2 * ceil(width / 2), 2 * ceil(height / 2)
        filters.append(("scale", size, {"force_original_aspect_ratio": "decrease"}))
        filters.append(("pad", (*size, "(ow-iw)/2", "(oh-ih)/2"), {}))
    else:
        filters.append(("pad", ("2*ceil(iw/2)", "2*ceil(ih/2)"), {}))
    filters.append(("setpts", ("if(N,max(PTS,PREV_OUTPTS+1),PTS)",), {}))  # FFmpeg drops a frame that is not later
    return filters


def _first_frame(container: InputContainer, video: av.VideoStream) -> VideoFrame:
    """The first frame that can be decoded (ClipError: there is none)."""
    decoder = PacketDecoder(may_be_cut=True)
    for packet in container.demux(video):
        for frame in decoder.decode(packet):
            return cast(VideoFrame, frame)
    raise ClipError("decode", "video_unreadable", "no frame could be decoded")


def _first_time(container: InputContainer, video: av.VideoStream) -> int:
    """The time of the first picture of an AVI, in units of its stream: with B-frames, FFmpeg makes up a later one."""
    first = next((packet.dts for packet in container.demux(video) if packet.size), None)
    container.seek(0)
    return first or 0
