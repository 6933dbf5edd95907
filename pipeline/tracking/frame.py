"""Sample a decoded frame under any square: moved, turned and scaled, at a cost that does not grow with the frame.

Each plane is sampled by itself and only the small result becomes RGB: converting whole frames of 1080p costs more than
the networks that look at them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange
from PIL import Image

from pipeline.media.crop import UPRIGHT, Orientation

Array = np.ndarray[Any, Any]

_PLANAR = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p")
_LEVELS = np.arange(256.0)
_FULL_LUMA = np.clip(np.rint((_LEVELS - 16) * 255 / 219), 0, 255).astype(np.uint8).tolist()
_FULL_CHROMA = np.clip(np.rint((_LEVELS - 128) * 255 / 224 + 128), 0, 255).astype(np.uint8).tolist()

_SAMPLES = 8
"""Rows and columns of a field of a thumbnail that are read."""


@dataclass(frozen=True)
class Square:
    """A square of the picture as shown, in pixels; pixel (0, 0) covers [0, 1) x [0, 1).

    Attributes:
        x, y: its center.
        side: its side.
        angle: radians that its upper side is turned by, clockwise as seen.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    def matrix(self, pixels: int) -> Array:
        """(2, 3): from coordinates of this square sampled with `pixels` a side to those of the picture."""
        scale = self.side / pixels
        cos, sin = scale * math.cos(self.angle), scale * math.sin(self.angle)
        half = pixels / 2
        return np.array([[cos, -sin, self.x - half * (cos - sin)], [sin, cos, self.y - half * (sin + cos)]], np.float64)


class Frame:
    """A decoded frame as it is shown.

    Attributes:
        width, height: pixels, as shown.
    """

    def __init__(self, frame: av.VideoFrame, orientation: Orientation = UPRIGHT) -> None:
        self.width, self.height = orientation.size(frame)
        self._to_stored = _stored_matrix(orientation, self.width, self.height)
        if frame.format.name not in _PLANAR:
            frame = frame.reformat(format="yuv420p")
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        self._tables = None if full else (_FULL_LUMA, _FULL_CHROMA, _FULL_CHROMA)
        self._planes = [_plane(plane) for plane in frame.planes]

    def sample(self, square: Square, pixels: int, *, beyond: bool = True) -> Array:
        """What lies under a square.

        Args:
            square: where.
            pixels: side of the result.
            beyond: the picture's edge goes on outside of it; else it is black there.

        Returns:
            uint8 (pixels, pixels, 3), RGB.
        """
        matrix = _compose(self._to_stored, square.matrix(pixels))
        height, width = self._planes[0].shape
        parts = []
        for number, plane in enumerate(self._planes):
            shrink = np.array([[plane.shape[1] / width], [plane.shape[0] / height]])
            part = _warp(plane, matrix * shrink, pixels, None if beyond else (16 if number == 0 else 128))
            parts.append(part if self._tables is None else part.point(self._tables[number]))
        return np.asarray(Image.merge("YCbCr", parts).convert("RGB"))

    def thumbnail(self, side: int) -> Array:
        """The mean luma, of some of the pixels, of `side` x `side` equal fields of the stored picture: uint8."""
        luma = self._planes[0]
        rows, columns = (max(1, length // (_SAMPLES * side)) for length in luma.shape)
        picture = Image.fromarray(np.ascontiguousarray(luma[::rows, ::columns]))
        return np.asarray(picture.resize((side, side), Image.Resampling.BOX))


def _plane(plane: Any) -> Array:
    """uint8 (height, width), a view of a plane of a frame; rows may be padded."""
    rows = np.frombuffer(memoryview(plane), np.uint8)[: plane.height * plane.line_size]
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width]


def _stored_matrix(orientation: Orientation, width: int, height: int) -> Array:
    """(2, 3): from the picture as shown to the picture as stored; see `Orientation.apply`."""
    across, down = orientation.across, orientation.down
    column = [across, 0, 0 if across == 1 else width]
    row = [0, down, 0 if down == 1 else height]
    return np.array([row, column] if orientation.transposed else [column, row], np.float64)


def _compose(outer: Array, inner: Array) -> Array:
    return np.concatenate([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]], axis=1)


def _warp(plane: Array, matrix: Array, pixels: int, outside: int | None) -> Image.Image:
    """Sample a plane bilinearly, after averaging over whole fields where it is shrunk to less than half.

    Args:
        outside: level outside of the plane; None: that of its nearest edge.
    """
    corners = matrix @ np.array([[0, pixels, 0, pixels], [0, 0, pixels, pixels], [1, 1, 1, 1]])
    field = max(1, int(math.hypot(matrix[0, 0], matrix[1, 0])))
    (left, before, right, after), (top, above, bottom, below) = (
        _span(float(along.min()), float(along.max()), length, field)
        for along, length in zip(corners, (plane.shape[1], plane.shape[0]), strict=True)
    )
    part = np.ascontiguousarray(plane[top:bottom, left:right])
    if field > 1:
        part = np.asarray(Image.fromarray(part).reduce(field))
    if before or after or above or below:
        margins = ((above, below), (before, after))
        part = np.pad(part, margins, "edge") if outside is None else np.pad(part, margins, constant_values=outside)
    (a, b, c), (d, e, f) = (matrix - np.array([[0, 0, left], [0, 0, top]])) / field
    placed = (a, b, c + before, d, e, f + above)
    return Image.fromarray(part).transform((pixels, pixels), Image.Transform.AFFINE, placed, Image.Resampling.BILINEAR)


def _span(first: float, last: float, length: int, field: int) -> tuple[int, int, int, int]:
    """Of an interval along a plane: first pixel of what lies in it, fields missing before, end, fields missing after.

    With a field more on either side, for bilinear sampling; at least a pixel lies in it.
    """
    begin, end = math.floor(first) - field, math.ceil(last) + field
    inner = min(max(begin, 0), length - 1)
    outer = max(min(end, length), inner + 1)
    return inner, -(min(begin - inner, 0) // field), outer, max(math.ceil((end - outer) / field), 0)
