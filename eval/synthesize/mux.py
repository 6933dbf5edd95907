"""Put synthesised sound under a video: its picture is copied packet by packet, never encoded again.

The picture keeps its presentation times, its order of packets and how it is turned. The sound begins when the first
frame is shown. Nothing else of the source is taken along: neither its sound nor subtitles, data or descriptions, but a
comment says that the speech is synthetic.

What a container says about times comes out as far as the other container can say it: Matroska counts milliseconds. Of
AVI, which says none, FFmpeg makes them up: with B-frames, sound may then be a frame early.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer, OutputContainer

from pipeline.media.decode import open_video
from runtime.constants import SAMPLE_RATE

COMMENT = "The speech is synthetic: made from the movements of the lips by lip-to-speech"


class _Form(NamedTuple):
    """A container that can be written.

    Attributes:
        container, codec: FFmpeg's names of it, and of what sound in it is encoded with.
        hides: whether it can say that frames are not to be shown, as files have it that a phone has trimmed.
    """

    container: str
    codec: str
    hides: bool


_FORMS = {
    ".mp4": _Form("mp4", "aac", True),
    ".m4v": _Form("mp4", "aac", True),
    ".mov": _Form("mov", "aac", True),
    ".mkv": _Form("matroska", "aac", False),
    ".webm": _Form("webm", "libopus", False),
}
_BITS_A_SECOND = 96_000


def check_container(video: Path, out: Path) -> None:
    """Whether the picture of a video can be put into the container that a file name asks for, before any work is done.

    Raises:
        ValueError: the suffix of `out` is of no container that is written here, or that container cannot hold the
            picture.
        OSError: the video cannot be read.
    """
    form = _form_of(out)
    with video.open("rb") as file, open_video(file) as source:
        picture = _picture_of(source)
        if not form.hides and next(source.demux(picture)).is_discard:
            raise ValueError(f"{out}: {video} hides its beginning, which a {out.suffix} file cannot: try .mp4 or .mov")
        try:
            with _outgoing(io.BytesIO(), form, picture)[0] as trial:
                trial.start_encoding()
        except (ValueError, av.FFmpegError) as error:
            raise ValueError(
                f"{out}: a {out.suffix} file cannot hold the {picture.codec_context.name} picture of {video} without "
                "encoding it again: try a name that ends in .mkv"
            ) from error


def mux_sound(video: Path, sound: np.ndarray[Any, Any], start: Fraction, out: Path, container_of: Path) -> None:
    """Write the picture of a video with another sound.

    Args:
        video: whose picture is copied.
        sound: int16 (L,), 16 kHz.
        start: seconds at which the first frame is shown, and the sound begins.
        out: the file to write.
        container_of: the name that it will have in the end: its suffix says which container to write.

    Raises:
        ValueError: the container cannot hold the picture, or packets have no times.
        OSError: the video cannot be read, or `out` not written.
    """
    form = _form_of(container_of)
    with video.open("rb") as file, open_video(file) as source:
        picture = _picture_of(source)
        try:
            with out.open("wb") as written:
                target, copied, added = _outgoing(written, form, picture)
                with target:
                    streams = _copied(source, picture, copied, video), _encoded(added, sound, start)
                    # in order of time, so that the muxer need not hold one stream back until the other comes
                    for packet in heapq.merge(*streams, key=_decoding_time):
                        target.mux(packet)
        except av.FFmpegError as error:
            raise ValueError(f"{container_of}: the picture of {video} cannot be copied into it: {error}") from error


def _form_of(out: Path) -> _Form:
    form = _FORMS.get(out.suffix.lower())
    if form is None:
        found = f"ends in {out.suffix}" if out.suffix else "has no suffix"
        raise ValueError(f"{out}: its name {found}, and {', '.join(_FORMS)} say which container to write")
    return form


def _picture_of(source: InputContainer) -> av.VideoStream:
    """The stream that is decoded by the pipeline, too."""
    picture = source.streams.best("video")
    assert isinstance(picture, av.VideoStream), "the video was decoded before"
    return picture


def _outgoing(
    file: IO[bytes], form: _Form, picture: av.VideoStream
) -> tuple[OutputContainer, av.VideoStream, av.AudioStream]:
    """A container to write to, its stream of copied packets and its stream of sound."""
    target = av.open(file, "w", format=form.container)
    target.metadata["comment"] = COMMENT
    copied = target.add_stream_from_template(picture, opaque=True)  # opaque: there need be no encoder of its codec
    added = target.add_stream(form.codec, rate=SAMPLE_RATE, layout="mono", bit_rate=_BITS_A_SECOND)
    assert isinstance(added, av.AudioStream)
    added.time_base = Fraction(1, SAMPLE_RATE)
    added.metadata["title"] = "synthetic speech"
    return target, copied, added


def _copied(
    source: InputContainer, picture: av.VideoStream, copied: av.VideoStream, video: Path
) -> Iterator[av.Packet[Any]]:
    """The packets of the picture, as they are."""
    for packet in source.demux(picture):
        if not packet.size:  # the end of the stream
            continue
        if packet.pts is None:
            raise ValueError(f"{video}: packets of its picture have no times; copy it into an .mp4 or .mkv file first")
        packet.stream = copied
        yield packet


def _encoded(added: av.AudioStream, sound: np.ndarray[Any, Any], start: Fraction) -> Iterator[av.Packet[Any]]:
    """The sound, encoded second by second."""
    begin = round(start * SAMPLE_RATE)
    for first in range(0, len(sound), SAMPLE_RATE):
        block = np.ascontiguousarray(sound[None, first : first + SAMPLE_RATE])
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), begin + first
        yield from added.encode(frame)
    yield from added.encode(None)


def _decoding_time(packet: av.Packet[Any]) -> Fraction:
    ticks = packet.pts if packet.dts is None else packet.dts
    assert ticks is not None, "packets without times were refused"
    return ticks * Fraction(packet.time_base or 1)
