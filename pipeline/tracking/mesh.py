"""Fit FaceMesh's 468 landmarks to a face, and read from them where the lips are and how large the face is.

The network sees a square of 192 pixels around the face, turned so that the eyes are level (Kartynnik et al., "Real-time
facial surface geometry from monocular video on mobile GPUs", 2019). Landmark numbers are those of its canonical face.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.tracking.face_networks import network
from pipeline.tracking.frame import Frame, Square

Array = np.ndarray[Any, Any]

LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
"""Landmarks along the outer edge of the lips: their mean is the lip center."""

_RIGHT_EYE, _LEFT_EYE = (33, 133), (362, 263)
"""Corners of the eyes; right is the person's own."""

_MOUTH_CORNERS = (61, 291)
_INNER_LIPS = (13, 14)

EYE_MOUTH_RATIO = 0.8
"""Eye distance over the distance from eyes to mouth corners of a face seen from the front: 0.77 to 0.91, by person."""

_FACE_SQUARE = 1.5
"""The mesh looks at a square of this many times the longer side of the box around the landmarks."""

_LARGEST = 1.5
"""Eye distance over the picture's longer side from which on what is seen is no face: nobody could tell."""


@dataclass(frozen=True)
class Face:
    """A face in one frame; lengths are pixels of the picture as shown.

    Attributes:
        lips: x, y of the lip center.
        eyes: x, y of the middle between the eyes.
        scale: what the eye distance would be, seen from the front.
        opening: distance between the inner edges of the lips.
        angle: radians that the eyes are turned from level, clockwise as seen.
        score: the network's, 0 to 1, that there is a face.
        square: where the mesh is to look in the next frame.
    """

    lips: tuple[float, float]
    eyes: tuple[float, float]
    scale: float
    opening: float
    angle: float
    score: float
    square: Square


def fit_mesh(picture: Frame, square: Square) -> Face:
    """What the mesh sees under a square; `Face.score` says whether it is a face at all."""
    net = network("mesh")
    outputs = net.run(picture.sample(square, net.side).astype(np.float32) / 255)
    landmarks, flag = sorted((output.ravel().astype(np.float64) for output in outputs), key=len, reverse=True)
    points = landmarks.reshape(-1, 3)[:, :2]
    matrix = square.matrix(net.side)
    score = 1 / (1 + math.exp(-float(np.clip(flag[0], -50, 50))))
    face = face_of(points @ matrix[:, :2].T + matrix[:, 2], score)
    too_large = face.scale > _LARGEST * max(picture.width, picture.height)
    return replace(face, score=0.0) if too_large else face


def face_of(points: Array, score: float) -> Face:
    """What is read from the 468 landmarks (468, 2)."""
    right, left = points[list(_RIGHT_EYE)].mean(axis=0), points[list(_LEFT_EYE)].mean(axis=0)
    eyes, mouth = (right + left) / 2, points[list(_MOUTH_CORNERS)].mean(axis=0)
    angle = math.atan2(left[1] - right[1], left[0] - right[0])
    lips = points[list(LIPS)].mean(axis=0)
    upper, lower = points[list(_INNER_LIPS)]
    return Face(
        lips=(float(lips[0]), float(lips[1])),
        eyes=(float(eyes[0]), float(eyes[1])),
        scale=face_scale(math.dist(left, right), math.dist(eyes, mouth)),
        opening=math.dist(upper, lower),
        angle=angle,
        score=score,
        square=_next_square(points, angle),
    )


def face_scale(eye_distance: float, eye_mouth_distance: float) -> float:
    """What the eye distance would be, seen from the front: a turned head shortens the one, a nod the other."""
    return max(eye_distance, EYE_MOUTH_RATIO * eye_mouth_distance)


def is_same_face(face: Face, other: Face, near: float = 0.5) -> bool:
    """Whether two faces are one: their lips at most `near` eye distances apart, and of about the same size."""
    scale = max(face.scale, other.scale)
    return math.dist(face.lips, other.lips) < near * scale and min(face.scale, other.scale) > 0.6 * scale


def _next_square(points: Array, angle: float) -> Square:
    cos, sin = math.cos(angle), math.sin(angle)
    turned = points @ np.array([[cos, -sin], [sin, cos]])
    least, most = turned.min(axis=0), turned.max(axis=0)
    x, y = (least + most) / 2
    side = _FACE_SQUARE * float((most - least).max())
    return Square(float(cos * x - sin * y), float(sin * x + cos * y), side, angle)
