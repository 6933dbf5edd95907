"""Damage to videos, a stored lip video (`roi.mkv`) among them: other sizes, codecs, numbers and times of pictures."""

from __future__ import annotations

import io
import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from hypothesis import strategies as st

from tests.corpora import click_track, pictures, write_video
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
                (8000, 2, "ffv1", "gray"),
                (_SIDE, _FRAMES, "mjpeg", "yuvj420p"),
                (_SIDE, _FRAMES, "ffv1", "yuv420p"),
                (_SIDE, _FRAMES, "ffv1", "gray10le"),
                (_SIDE, 500, "libx264", "yuv420p"),
            ]
        )
    )
    return f"{frames} pictures of {side}, {codec}, {pixels}", _video(side, frames, codec, pixels)


@st.composite
def damaged_video(draw: st.DrawFn, content: bytes) -> Damaged:
    """A video file: its bytes, those at its beginning or end, where containers say what they hold, or another whole."""
    way = draw(st.sampled_from(["bytes", "bytes", "head", "tail", "other", "times"]))
    if way == "bytes":
        return draw(damaged_bytes(content))
    if way == "other":
        return draw(damaged_lip_video(content))
    if way == "times":
        container = draw(st.sampled_from(["mp4", "mkv", "ts"]))
        step, sound_at = draw(st.sampled_from([(0.5, 0), (3600, 0), (0.04, 50_000), (1e-4, 0), (9e5, 0), (600, 6000)]))
        return f"a picture every {step} s, sound from {sound_at} s, {container}", _at_times(container, step, sound_at)
    size = min(2048, len(content))
    if way == "head":
        what, damaged = draw(damaged_bytes(content[:size]))
        return f"head: {what}", damaged + content[size:]
    what, damaged = draw(damaged_bytes(content[-size:]))
    return f"tail: {what}", content[:-size] + damaged


@cache
def _at_times(container: str, step: float, sound_at: float) -> bytes:
    """Ten pictures, so many seconds apart, and half a second of sound that begins later."""
    times = [Fraction(round(step * number * 90_000), 90_000) for number in range(10)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"video.{container}")
        write_video(
            path,
            pictures(10, flash=[5]),
            click_track(0.5, 0.2),
            times=times,
            sound_start=Fraction(sound_at),
        )
        return path.read_bytes()


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
