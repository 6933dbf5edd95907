"""Keep what is around each face while a video is decoded, and cut lip regions out of it once the tracks are known.

Which face is taken, its size and its smoothed centers are known after the last frame, and a file is decoded once. So
of each frame the gray surroundings of each face are kept, shrunk to no less than the resolution of the region.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from PIL import Image

from pipeline.media.crop import GRAY_OF_LUMA, Orientation, gray_from_rgb, has_plain_luma
from pipeline.media.spool import Spool
from pipeline.tracking.face_tracker import FaceLog
from pipeline.tracking.lip_tracks import LipTrack
from pipeline.tracking.mesh import Face
from shards.format.roi import luma

Array = np.ndarray[Any, Any]

_SURROUNDINGS = 1.6
"""Side of what is kept, over that of a region of this frame's scale: lips are smoothed, and the scale is a median."""
_WHOLE_SIDE = 640
"""Pixels of the longer side to which a whole frame is shrunk that is kept where a face was lost."""


@dataclass(frozen=True)
class Surroundings:
    """A part of a frame.

    Attributes:
        left, top: pixels of the frame as shown; may lie outside of it.
        shrunk: pixels of the frame in a row of a pixel.
        gray: uint8 (h, w); black outside of the frame.
    """

    left: int
    top: int
    shrunk: int
    gray: Array

    def cut(self, x: float, y: float, side: float, angle: float, pixels: int) -> Array:
        """The square of `side` pixels of the frame around x, y, turned by `angle`: uint8 (pixels, pixels)."""
        scale = side / self.shrunk / pixels
        center = (x - self.left) / self.shrunk, (y - self.top) / self.shrunk
        if angle == 0.0:
            half = side / self.shrunk / 2
            box = (center[0] - half, center[1] - half, center[0] + half, center[1] + half)
            picture, (left, top) = _padded(self.gray, box)
            moved = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
            return np.asarray(picture.resize((pixels, pixels), Image.Resampling.BILINEAR, box=moved))
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        middle = pixels / 2
        matrix = (cos, -sin, center[0] - middle * (cos - sin), sin, cos, center[1] - middle * (sin + cos))
        picture = Image.fromarray(self.gray)
        return np.asarray(
            picture.transform((pixels, pixels), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        )


@dataclass(frozen=True)
class _Kept:
    """Surroundings whose pixels, of that shape, lie in a spool from `first` on."""

    left: int
    top: int
    shrunk: int
    shape: tuple[int, ...]
    first: int


@dataclass
class FaceCrops:
    """What is kept of the frames of one video; its pixels lie on disk if they are many.

    Attributes:
        pixels: side of the lip regions.
        eye_distances: what they show.
    """

    pixels: int
    eye_distances: float
    _of_faces: dict[tuple[int, int], _Kept] = field(default_factory=dict)
    _whole: dict[int, _Kept] = field(default_factory=dict)
    _spool: Spool = field(default_factory=Spool)

    def clear(self) -> None:
        """Before a video is decoded again."""
        self._of_faces.clear()
        self._whole.clear()
        self._spool = Spool()

    def keep(
        self,
        number: int,
        frame: av.VideoFrame,
        orientation: Orientation,
        seen: list[tuple[FaceLog, Face]],
        lost: bool,
    ) -> None:
        """Keep the surroundings of the faces seen in a frame, or, where one is lost, all of the frame."""
        gray = _Gray(frame, orientation)
        for log, face in seen:
            side = self.eye_distances * face.scale
            around = _SURROUNDINGS * side / 2
            x, y = face.lips
            box = (int(x - around), int(y - around), int(x + around) + 1, int(y + around) + 1)
            self._of_faces[number, log.number] = self._store(gray.part(box, max(1, int(side / self.pixels))))
        if lost or not seen:
            width, height = orientation.size(frame)
            shrink = -(-max(width, height) // _WHOLE_SIDE)
            self._whole[number] = self._store(gray.part((0, 0, width, height), shrink))

    def region(self, track: LipTrack, number: int, rotate: bool) -> Array:
        """The lip region of a track in its shot's frame of that number: uint8 (pixels, pixels)."""
        x, y = track.centers[number].tolist()
        angle = float(track.angles[number]) if rotate else 0.0
        return self._around(track, track.first + number).cut(x, y, self.eye_distances * track.scale, angle, self.pixels)

    def _around(self, track: LipTrack, frame: int) -> Surroundings:
        kept = self._of_faces.get((frame, track.log.number)) or self._whole.get(frame)
        if kept is None:
            nearest = min(track.log.seen, key=lambda seen: abs(seen - frame))  # before it was seen, others were
            kept = self._of_faces[nearest, track.log.number]
        pixels = self._spool.read(kept.first, kept.first + math.prod(kept.shape))
        return Surroundings(kept.left, kept.top, kept.shrunk, pixels.reshape(kept.shape))

    def _store(self, part: Surroundings) -> _Kept:
        kept = _Kept(part.left, part.top, part.shrunk, part.gray.shape, len(self._spool))
        self._spool.append(part.gray.ravel())
        return kept


class _Gray:
    """Gray parts of a frame, as `crop_gray` gets them; a frame that is converted is converted once."""

    def __init__(self, frame: av.VideoFrame, orientation: Orientation) -> None:
        self.is_luma = has_plain_luma(frame)
        self.picture = orientation.apply(luma(frame) if self.is_luma else gray_from_rgb(frame))

    def part(self, box: tuple[int, int, int, int], shrink: int) -> Surroundings:
        left, top, right, bottom = box
        inside = self.picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        gray = np.zeros((bottom - top, right - left), np.uint8)
        gray[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]] = (
            GRAY_OF_LUMA[inside] if self.is_luma else inside
        )
        if shrink > 1:
            gray = np.asarray(Image.fromarray(gray).reduce(shrink))
        return Surroundings(left, top, shrink, gray)


def _padded(gray: Array, box: tuple[float, float, float, float]) -> tuple[Image.Image, tuple[int, int]]:
    """A picture that holds a box, black where there is nothing, and where its corner lies."""
    height, width = gray.shape
    left, top = min(0, int(np.floor(box[0]))), min(0, int(np.floor(box[1])))
    right, bottom = max(width, int(np.ceil(box[2]))), max(height, int(np.ceil(box[3])))
    if (left, top, right, bottom) != (0, 0, width, height):
        gray = np.pad(gray, ((-top, bottom - height), (-left, right - width)))
    return Image.fromarray(gray), (left, top)
