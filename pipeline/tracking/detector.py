"""Detect faces with BlazeFace, by its full-range network or its short-range one.

Both regress boxes and six points from anchors that lie on a grid (Bazarevsky et al., "BlazeFace", 2019; model cards of
MediaPipe face detection). Full range: 192 pixels, one anchor in each cell of 4 pixels. Short range: 128 pixels, two
anchors in each cell of 8 pixels, then six in each cell of 16. An anchor is its center; its size is the whole picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.tracking.face_networks import network
from pipeline.tracking.frame import Frame, Square

Array = np.ndarray[Any, Any]
DetectorName = Literal["full_range", "short_range"]

_GRIDS: dict[DetectorName, tuple[tuple[int, int], ...]] = {
    "full_range": ((4, 1),),
    "short_range": ((8, 2), (16, 6)),
}
"""Of each network: (pixels of a cell, anchors in it)."""

_LEAST_SCORE = 0.5
_OVERLAP = 0.3
"""Intersection over union above which two boxes are one face."""

_FACE_SQUARE = 1.5
"""The mesh looks at a square of this many times the box's longer side."""


@dataclass(frozen=True)
class Detection:
    """A face.

    Attributes:
        square: where the mesh is to look.
        box: left, top, right, bottom in pixels of the picture as shown.
        score: 0 to 1.
    """

    square: Square
    box: tuple[float, float, float, float]
    score: float


def detect(picture: Frame, square: Square, name: DetectorName) -> list[Detection]:
    """The faces under a square of a picture, best first, by one of the two networks."""
    net = network(name)
    sample = picture.sample(square, net.side, beyond=False)
    boxes, scores = net.run(sample.astype(np.float32) / 127.5 - 1)
    scores = 1 / (1 + np.exp(-np.clip(scores[:, 0].astype(np.float64), -100, 100)))
    kept = scores >= _LEAST_SCORE
    if not kept.any():
        return []
    points = boxes[kept].astype(np.float64).reshape(-1, 8, 2)
    anchors = _anchors(name, net.side)[kept]
    points[:, [0, 2, 3, 4, 5, 6, 7]] += anchors[:, None]  # the second pair is width and height
    points *= square.side / net.side
    points[:, [0, 2, 3, 4, 5, 6, 7]] += (square.x - square.side / 2, square.y - square.side / 2)
    return suppress([_detection(face, float(score)) for face, score in zip(points, scores[kept], strict=True)])


def _anchors(name: DetectorName, side: int) -> Array:
    """(n, 2), x, y in pixels of the network's input."""
    centers = []
    for cell, count in _GRIDS[name]:
        line = (np.arange(side // cell) + 0.5) * cell
        y, x = np.meshgrid(line, line, indexing="ij")
        centers.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), count, axis=0))
    return np.concatenate(centers)


def _detection(points: Array, score: float) -> Detection:
    (x, y), (width, height), right_eye, left_eye = points[:4].tolist()
    angle = math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return Detection(Square(x, y, _FACE_SQUARE * max(width, height), angle), box, score)


def suppress(found: list[Detection]) -> list[Detection]:
    """Of detections that overlap, the best; best first."""
    kept: list[Detection] = []
    for face in sorted(found, key=lambda face: -face.score):
        if all(_overlap(face.box, other.box) < _OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / max(sum(areas) - shared, 1e-9)
