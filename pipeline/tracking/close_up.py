"""Find a face of which the picture shows only a part, mouth and nose say: no detector sees it, but the mesh fits it.

The mesh is started from squares larger than the picture, centered where the middle of such a face would be. Where it is
a face, starts from different squares end at the same lips; elsewhere they do not agree.
"""

from __future__ import annotations

import math

from pipeline.tracking.frame import Frame, Square
from pipeline.tracking.mesh import Face, fit_mesh

_STARTS = ((1.25, -0.3), (1.5, -0.3), (1.75, -0.3), (2.0, -0.15), (2.25, -0.15))
"""Squares to start from: side over the picture's longer side, and how far above its middle, in that side."""
_FITS = 3
_LEAST_SCORE = 0.9
_NEAR = 0.25
"""Eye distances within which ends agree."""
_LEAST_AGREEING = 3


def fit_close_up(picture: Frame) -> Face | None:
    """The face that fills more than the picture, if there is one: that on which most starts agree."""
    faces = [face for times, up in _STARTS if (face := _fit(picture, times, up)) is not None]
    groups = [[other for other in faces if _agree(face, other)] for face in faces]
    best = max(groups, key=len, default=[])
    if len(best) < _LEAST_AGREEING:
        return None
    return sorted(best, key=lambda face: face.scale)[len(best) // 2]


def _fit(picture: Frame, times: float, up: float) -> Face | None:
    longer = max(picture.width, picture.height)
    square = Square(picture.width / 2, picture.height / 2 + up * longer, times * longer)
    for _ in range(_FITS):
        face = fit_mesh(picture, square)
        square = face.square
    x, y = face.lips
    inside = 0 <= x < picture.width and 0 <= y < picture.height
    return face if inside and face.score >= _LEAST_SCORE else None


def _agree(face: Face, other: Face) -> bool:
    return math.dist(face.lips, other.lips) < _NEAR * min(face.scale, other.scale)
