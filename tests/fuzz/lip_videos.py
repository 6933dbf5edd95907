"""Damage to a stored lip video, `roi.mkv`: other pictures than the sample's, in other sizes, codecs and numbers."""

from __future__ import annotations

import io
from functools import cache

import av
import numpy as np
from hypothesis import strategies as st

from tests.fuzz.damaged_bytes import Damaged, damaged_bytes

_SIDE, _FRAMES = 32, 25


@st.composite
def damaged_lip_video(draw: st.DrawFn, content: bytes) -> Damaged:
    """Another video, or damaged bytes."""
    if draw(st.booleans()):
        return draw(damaged_bytes(content))
    side, frames, codec, pixels = draw(
        st.sampled_from(
            [
                (_SIDE, _FRAMES - 1, "ffv1", "gray"),
                (_SIDE, 4 * _FRAMES, "ffv1", "gray"),
                (64, _FRAMES, "ffv1", "gray"),
                (4096, 3, "ffv1", "gray"),
                (_SIDE, _FRAMES, "mjpeg", "yuvj420p"),
                (_SIDE, _FRAMES, "ffv1", "yuv420p"),
                (_SIDE, _FRAMES, "ffv1", "gray10le"),
                (_SIDE, 20_000, "libx264", "yuv420p"),
            ]
        )
    )
    return f"{frames} pictures of {side}, {codec}, {pixels}", _video(side, frames, codec, pixels)


@st.composite
def damaged_video(draw: st.DrawFn, content: bytes) -> Damaged:
    """A video file: its bytes, a large number in its first or last kilobytes, where containers say what they hold."""
    way = draw(st.sampled_from(["bytes", "bytes", "head", "head", "other"]))
    if way == "bytes":
        return draw(damaged_bytes(content))
    if way == "other":
        return draw(damaged_lip_video(content))
    size = min(2048, len(content))
    if draw(st.booleans()):
        what, damaged = draw(damaged_bytes(content[:size]))
        return f"head: {what}", damaged + content[size:]
    what, damaged = draw(damaged_bytes(content[-size:]))
    return f"tail: {what}", content[:-size] + damaged


@cache
def _video(side: int, frames: int, codec: str, pixels: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=25, options={"preset": "ultrafast"} if codec == "libx264" else {})
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = side
        stream.pix_fmt = pixels
        picture = np.full((side, side), 99, np.uint8)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
