"""Put synthetic speech under a video: FFmpeg copies its picture packet by packet, and the file says so.

Only for browsers, which do not play every codec, is a picture encoded again (`encode`).

The picture keeps its order of packets, how it is turned and the time between its frames, of which the first is shown
at 0. The sound begins with it. Nothing else of the source is taken along: neither its sound nor subtitles, data or
descriptions, but a comment says that the speech is synthetic.

What a container says about times comes out as far as the other container can say it: Matroska counts milliseconds. AVI
says none: with B-frames, the picture is normalized first.
"""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import ffmpeg
import numpy as np

from pipeline.media.decoding_limits import seconds_allowed
from pipeline.media.ffmpeg_tool import INPUT_OPTIONS, FFmpegToolError, run_ffmpeg
from pipeline.media.streams import open_video
from runtime.constants import SAMPLE_RATE
from runtime.limits import MAX_VIDEO_SECONDS
from runtime.regular_file import open_regular
from shards.format.wav import encode_wav

Array = np.ndarray[Any, Any]

COMMENT = "The speech is synthetic: made from the movements of the lips by lip-to-speech"


class _Container(NamedTuple):
    """FFmpeg's names of a container and of what sound in it is encoded with; `hides`: whether it can say that frames
    are not to be shown, as in files that a phone has trimmed."""

    format: str
    codec: str
    hides: bool


_CONTAINERS = {
    ".mp4": _Container("mp4", "aac", True),
    ".m4v": _Container("mp4", "aac", True),
    ".mov": _Container("mov", "aac", True),
    ".mkv": _Container("matroska", "aac", False),
    ".webm": _Container("webm", "libopus", False),
}


def check_container(video: Path, out: Path) -> None:
    """Whether the picture of a video can be put into the container that a file name asks for, before any work is done.

    `ValueError` where the suffix of `out` is of no container that is written here, or that container cannot hold the
    picture; `OSError` where the video cannot be read.
    """
    container = _container_of(out)
    picture, codec, hidden, seconds = _picture_of(video)
    if hidden and not container.hides:
        raise ValueError(f"{out}: {video} hides its beginning, which a {out.suffix} file cannot: try .mp4 or .mov")
    try:
        _run(picture, Path(os.devnull), container, {"frames:v": 1}, seconds)
    except FFmpegToolError as error:
        raise ValueError(
            f"{out}: a {out.suffix} file cannot hold the {codec} picture of {video} without encoding it again: try a "
            "name that ends in .mkv"
        ) from error


_H264 = {
    "c:v": "libx264",
    "preset": "veryfast",
    "crf": 20,
    "pix_fmt": "yuv420p",
    "vf": "pad=2*ceil(iw/2):2*ceil(ih/2)",
    "fps_mode": "vfr",
    "movflags": "+faststart",
}
"""What every browser plays."""


def plays_everywhere(video: Path) -> bool:
    """Whether browsers play the picture of a video that was probed before: 8-bit 4:2:0 H.264."""
    with open_regular(video) as file, open_video(file) as source:
        stream = source.streams.best("video")
        assert isinstance(stream, av.VideoStream), "the video was decoded before"
        context = stream.codec_context
        return context.name == "h264" and context.pix_fmt in ("yuv420p", "yuvj420p")


def encode_speech(sound: Array) -> bytes:
    """The bytes of a wav file of synthetic speech, int16 (L,) at 16 kHz, with a comment that says so behind it."""
    content = encode_wav(sound)
    text = COMMENT.encode() + b"\0"
    text += b"\0" * (len(text) % 2)
    chunk = b"INFOICMT" + struct.pack("<I", len(text)) + text
    content += b"LIST" + struct.pack("<I", len(chunk)) + chunk
    return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]


def mux_sound(video: Path, sound: Array, start: Fraction, out: Path, container_of: Path, encode: bool = False) -> None:
    """Write the picture of a video with another sound. `ValueError` where the container cannot hold the picture, or its
    packets have no times; `OSError` where the video cannot be read.

    Args:
        sound: int16 (L,), 16 kHz.
        start: seconds at which the first frame is shown in the source; it becomes 0.
        out: the file to write.
        container_of: the name that it will have in the end: its suffix says which container to write.
        encode: the picture is encoded again, as H.264.
    """
    # -itsoffset is without effect beside -copyts, and -output_ts_offset moves the speech too
    speech = ffmpeg.input("pipe:0", f="s16le", ar=SAMPLE_RATE, ac=1).filter(
        "asetpts", f"PTS+{round(start * SAMPLE_RATE)}"
    )
    container = _container_of(container_of)
    options = {
        "c:a": container.codec,
        "b:a": "96k",
        "output_ts_offset": f"{-float(start):.6f}",
        "map_metadata": -1,
        "map_chapters": -1,
        "metadata": f"comment={COMMENT}",
        "metadata:s:a:0": "title=synthetic speech",
    }
    picture, _, _, seconds = _picture_of(video)
    if encode:
        options |= _H264
    try:
        _run(picture, out, container, options, seconds, speech, sound.astype("<i2").tobytes())
    except FFmpegToolError as error:
        reason = (error.said.splitlines() or ["FFmpeg failed"])[0]
        reason = f"it took more than {seconds:.0f} s" if error.timed_out else reason
        raise ValueError(f"{container_of}: the picture of {video} cannot be copied into it: {reason}") from error


def _container_of(out: Path) -> _Container:
    container = _CONTAINERS.get(out.suffix.lower())
    if container is None:
        found = f"ends in {out.suffix}" if out.suffix else "has no suffix"
        raise ValueError(f"{out}: its name {found}, and {', '.join(_CONTAINERS)} say which container to write")
    return container


def _picture_of(video: Path) -> tuple[Any, str, bool, float]:
    """The stream that the pipeline decodes, too, its codec, whether its beginning is not to be shown, and the seconds
    in which it is to be copied. A file is only ever a file, whatever its name looks like."""
    with open_regular(video) as file, open_video(file) as source:
        stream = source.streams.best("video")
        assert stream is not None, "the video was decoded before"
        # the format that PyAV found, among those that are allowed: FFmpeg also reads playlists, and follows them
        picture = ffmpeg.input(f"file:{video.absolute()}", format_whitelist=source.format.name, **INPUT_OPTIONS)
        seconds = seconds_allowed(min((source.duration or 0) / av.time_base, MAX_VIDEO_SECONDS))
        hidden = bool(next(source.demux(stream)).is_discard)
        return picture[str(stream.index)], stream.codec_context.name, hidden, seconds


def _run(
    picture: Any,
    out: Path,
    container: _Container,
    options: dict[str, Any],
    seconds: float,
    sound: Any = None,
    pcm: bytes = b"",
) -> None:
    """Copy the picture within some seconds; times stay as they are, negative ones of hidden frames too
    (FFmpegToolError: FFmpeg cannot)."""
    streams = [picture] if sound is None else [picture, sound]
    settings = {"c:v": "copy", "avoid_negative_ts": "disabled", "f": container.format} | options
    job = ffmpeg.output(*streams, f"file:{out.absolute()}", **settings).global_args("-v", "error", "-copyts")
    run_ffmpeg(job, seconds, pcm, overwrite=True)
