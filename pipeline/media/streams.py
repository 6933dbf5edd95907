"""Open a video file and choose the streams of picture and sound that are decoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, TypeVar

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Disposition

from pipeline.media.decoding_limits import DECODER_OPTIONS, check_picture
from pipeline.media.errors import ClipError
from runtime.limits import MAX_STREAMS

_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,dv,nut"
OPTIONS = {"protocol_whitelist": "none", "max_streams": str(MAX_STREAMS + 1), **DECODER_OPTIONS}
"""Of whatever is opened: FFmpeg is to read nothing but the file that it is given."""
_CONTAINERS = {"format_whitelist": _FORMATS}
"""Containers only: FFmpeg would also read playlists, and follow them to other files."""

_FOR_FEW = Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.comment | Disposition.dub

_AnyStream = TypeVar("_AnyStream", av.VideoStream, av.AudioStream)


@dataclass(frozen=True)
class Streams:
    """What is decoded of a file.

    Attributes:
        video: the picture.
        audio: the sound; None where there is none that can be decoded.
        other_audio: indices of the other streams of sound that can be, for where `audio` is silent; likeliest first.
        notes: what was passed over, in words.
    """

    video: av.VideoStream
    audio: av.AudioStream | None
    other_audio: list[int]
    notes: list[str]


def open_video(file: IO[bytes]) -> InputContainer:
    """Open a video file for demuxing; any readable, seekable file will do (av.FFmpegError: it is none)."""
    container = av.open(file, "r", metadata_errors="ignore", options=_CONTAINERS | OPTIONS)
    for stream in (*container.streams.video, *container.streams.audio):
        if stream.codec_context is not None:
            stream.codec_context.options = DECODER_OPTIONS
    for stream in container.streams.video:
        if stream.codec_context is not None:
            # what a stream crops on its left is else rounded down to aligned memory, and the picture is some pixels off
            stream.codec_context.flags |= Flags.unaligned
    return container


def choose_streams(container: InputContainer) -> Streams:
    """The picture and the sound that a player would choose: no cover art, and the default among several.

    A stream in a codec that nobody knows is passed over for another that can be decoded.

    Raises:
        ClipError: there is no picture that can be decoded, or the file has too many streams or pixels.
    """
    if len(container.streams) > MAX_STREAMS:
        raise ClipError("decode", "too_large", f"more than the {MAX_STREAMS} streams that are allowed")
    notes: list[str] = []
    video = _choose(container, list(container.streams.video), "video", notes)
    if video is None:
        unknown = any(not _is_cover(stream) for stream in container.streams.video)
        detail = "the codec of the video stream is not known" if unknown else "the file has no video stream"
        raise ClipError("decode", "video_unreadable", detail)
    check_picture(video.codec_context.width, video.codec_context.height)
    audio = choose_sound(container, notes)
    others = [stream for stream in _usable(container.streams.audio) if audio is None or stream.index != audio.index]
    others.sort(key=lambda stream: (not _rank(stream)[0], stream.index))
    return Streams(video, audio, [stream.index for stream in others], notes)


def choose_sound(container: InputContainer, notes: list[str]) -> av.AudioStream | None:
    """The sound that is decoded, or None where there is none that can be; `notes` gets what was passed over."""
    return _choose(container, list(container.streams.audio), "audio", notes)


def _choose(container: InputContainer, streams: list[_AnyStream], kind: str, notes: list[str]) -> _AnyStream | None:
    usable = _usable(streams)
    if not usable:
        return None
    best = container.streams.best("video" if kind == "video" else "audio")
    chosen = next((stream for stream in usable if best is not None and stream.index == best.index), None)
    if chosen is not None and _rank(chosen)[0]:
        return chosen
    other = max(usable, key=lambda stream: (_rank(stream), -stream.index))
    if chosen is None and best is not None and not _is_cover(best):
        notes.append(f"{kind} stream {best.index} is in an unknown codec: stream {other.index} was taken")
    return other


def _usable(streams: Iterable[_AnyStream]) -> list[_AnyStream]:
    return [stream for stream in streams if stream.codec_context is not None and not _is_cover(stream)]


def _rank(stream: av.VideoStream | av.AudioStream) -> tuple[bool, bool]:
    disposition = stream.disposition
    return not disposition & _FOR_FEW, bool(disposition & Disposition.default)


def _is_cover(stream: av.stream.Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)
