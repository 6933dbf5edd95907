"""Lip regions as bytes: a raw array, or a small grey video for corpora of hundreds of hours.

`npy` is the plain array, read at the speed of memory. `ffv1` is lossless. `h264` is near-lossless: the mean absolute
error stays under one grey level (tests measure it on footage). Readers decode all three to the same array.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

import av
import numpy as np
from av.video.plane import VideoPlane

from runtime.constants import FPS
from runtime.limits import MAX_ROI_BYTES
from shards.format.errors import DatasetError, unreadable
from shards.format.member_sizes import member_sizes
from shards.format.npy import decode_npy, encode_npy

RoiCodec = Literal["npy", "ffv1", "h264"]
ROI_CODECS: tuple[RoiCodec, ...] = get_args(RoiCodec)
_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    # Golomb-Rice and version 1: the fastest FFV1, and the smallest on these small pictures
    "ffv1": ("ffv1", {"level": "1", "coder": "0", "context": "0", "g": "1"}),
    # cabac off: a fifth faster to decode, and 6% larger. mbtree off: with it x264 gives now and then other bytes for
    # the same frames, single-threaded too
    "h264": ("libx264", {"crf": "14", "preset": "medium", "x264-params": "threads=1:keyint=50:cabac=0:mbtree=0"}),
}

_PIXEL_FORMATS = ("gray", "yuvj420p", "yuv420p")
"""Of decoded frames: 8 bits a pixel, gray in the first plane."""

_CODED_MARGIN = 64
"""Pixels by which a coded frame may be wider than what is shown of it: blocks have at most 64."""

_LEAST_FRAME_BYTES = 8
"""Of a frame that repeats the last one, with Matroska's header before it."""

_FRAMES_AT_ONCE = 256


def roi_member(codec: RoiCodec) -> str:
    """The extension under which a codec's lip region is stored in the tar."""
    return "roi.npy" if codec == "npy" else "roi.mkv"


def roi_blocks(roi: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """A lip region piece by piece; of a mapped file, no more than a piece is held in memory at once."""
    mapping = getattr(roi, "_mmap", None)
    for first in range(0, len(roi), _FRAMES_AT_ONCE):
        yield np.ascontiguousarray(roi[first : first + _FRAMES_AT_ONCE])
        if mapping is not None:
            mapping.madvise(mmap.MADV_DONTNEED)


def encode_roi(roi: np.ndarray[Any, Any], codec: RoiCodec, fps: int = FPS) -> bytes:
    """Encode a lip region, uint8 (T, R, R) with R even. The same frames give the same bytes (same library versions)."""
    if codec == "npy":
        return encode_npy(roi)
    name, options = _ENCODERS[codec]
    buffer = io.BytesIO()
    # bitexact: Matroska would otherwise write a random segment id and the muxer's version
    with av.open(buffer, "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        stream = cast(av.VideoStream, container.add_stream(name, rate=fps, options=options))
        stream.width, stream.height = roi.shape[2], roi.shape[1]
        stream.pix_fmt = "gray"
        stream.codec_context.thread_count = 1
        stream.codec_context.color_range = 2  # full range: grey levels are 0..255, not 16..235
        pictures = (picture for block in roi_blocks(roi) for picture in block)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_roi(content: bytes, member: str, frames: int, side: int, name: str) -> np.ndarray[Any, Any]:
    """Decode a lip region, whichever way it was stored.

    Args:
        content: bytes of the member.
        member: its extension, `roi.npy` or `roi.mkv`.
        frames, side: T and R as the sample declares them: a video of more or larger frames is not decoded.
        name: what errors call it.

    Returns:
        uint8 (T, R, R).

    Raises:
        DatasetError: not a lip region, or not of that many frames.
    """
    roi = decode_npy(content, name) if member == "roi.npy" else _decode_video(content, frames, side, name)
    if roi.dtype != np.uint8 or roi.shape != (frames, side, side):
        raise DatasetError(f"{name}: expected uint8 ({frames}, {side}, {side}), found {roi.dtype} {roi.shape}")
    return roi


def _decode_video(content: bytes, frames: int, side: int, name: str) -> np.ndarray[Any, Any]:
    # a codec that nobody knows has no context (AttributeError); damaged tags are no UTF-8, damaged sizes no numbers
    damage = (av.FFmpegError, LookupError, AttributeError, ValueError, ArithmeticError, TypeError)
    what = f"{name}: not a readable lip-region video"
    _check_size(content, frames, side, name)
    # FFmpeg would decode some frames as it opens a file, before anything of it can be looked at: no decoder is allowed
    with (
        unreadable(what, *damage),
        av.open(io.BytesIO(content), "r", format="matroska", options={"codec_whitelist": "none"}) as container,
    ):
        stream = container.streams.video[0]
        if len(container.streams) != 1:
            raise DatasetError(f"{name}: {len(container.streams)} streams, expected one")
        if stream.codec_context.name not in ("ffv1", "h264"):
            raise DatasetError(f"{name}: codec {stream.codec_context.name}, expected ffv1 or h264")
        if (stream.width, stream.height) != (side, side):
            raise DatasetError(f"{name}: {stream.width}x{stream.height} pixels, expected {side}x{side}")
        if stream.codec_context.name == "ffv1" and stream.codec_context.extradata:
            # with up to a thousand slices, each of which takes half a megabyte
            raise DatasetError(f"{name}: FFV1 of version 3, expected version 1")
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str((side + _CODED_MARGIN) ** 2)}
        roi, count = np.empty((frames, side, side), np.uint8), 0
        for number, packet in enumerate(container.demux(stream)):
            for frame in packet.decode():
                if (frame.width, frame.height) != (side, side) or frame.format.name not in _PIXEL_FORMATS:
                    found = f"{frame.width}x{frame.height} {frame.format.name}"
                    raise DatasetError(f"{name}: frame {count} is {found}, expected {side}x{side}, gray")
                if count < frames:
                    roi[count] = luma(frame)
                count += 1
            if number > frames or count > frames:  # the last packet, of no bytes, asks for what the decoder still has
                raise DatasetError(f"{name}: more than the {frames} frames that the sample declares")
    if not count:
        raise DatasetError(f"{name}: holds no frames")
    return roi[:count]


def _check_size(content: bytes, frames: int, side: int, name: str) -> None:
    """Refuse a video that cannot have that many frames, before there is room for them."""
    least, most = member_sizes(frames, side)["roi.mkv"]
    if not max(least, frames * _LEAST_FRAME_BYTES) <= len(content) <= most:
        raise DatasetError(f"{name}: {len(content)} bytes cannot be {frames} frames of {side}x{side}")
    if frames * side * side > MAX_ROI_BYTES:
        raise DatasetError(f"{name}: {frames} frames of {side}x{side}, and at most {MAX_ROI_BYTES:,} bytes are allowed")


def luma(frame: av.VideoFrame) -> np.ndarray[Any, Any]:
    """The first plane of a planar 8-bit frame, uint8 (height, width), not converted. A view while `frame` lives."""
    plane = VideoPlane(frame, 0)  # `frame.planes` would make an object of each
    return np.ndarray((frame.height, frame.width), np.uint8, cast(Any, plane), strides=(plane.line_size, 1))
