"""Search a picture for faces of any size: small ones in a wide shot, and one of which only mouth and nose are seen.

BlazeFace's full-range network misses faces that fill the picture, its short-range one small ones. What they find is a
face only if the mesh says so, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipeline.tracking.close_up import fit_close_up
from pipeline.tracking.detector import Detection, detect, suppress
from pipeline.tracking.frame import Frame, Square
from pipeline.tracking.mesh import Face, fit_mesh, is_same_face

LEAST_SCORE = 0.5
"""The mesh's score from which on it sees a face."""

_MOST_FACES = 8
"""Faces taken of one picture, the largest: in a crowd nobody can tell who talks."""
_SMALLER = (1.5, 2.0)
"""Times that a picture is made smaller, for faces larger than it."""
_LEAST_SIDE = 320
"""Pixels of the longer side of a picture that is searched part by part."""


def find_faces(picture: Frame, known: Sequence[Face], thorough: bool) -> list[Face]:
    """The faces of a picture that are not known yet, the largest first.

    Args:
        picture: where to look.
        known: faces that were found in this picture already.
        thorough: where there is none, look again at the picture made smaller, at its parts, and for a face that is
            larger than the picture; takes ten times as long.
    """
    for detections in _ways(picture, thorough):
        found = _new_faces(picture, detections, known)
        if found:
            return found
    close_up = fit_close_up(picture) if thorough else None
    return [close_up] if close_up is not None else []


def _ways(picture: Frame, thorough: bool) -> Iterator[list[Detection]]:
    middle, side = (picture.width / 2, picture.height / 2), max(picture.width, picture.height)
    yield detect(picture, Square(*middle, side), "full_range") or detect(picture, Square(*middle, side), "short_range")
    if not thorough:
        return
    for times in _SMALLER:
        yield detect(picture, Square(*middle, times * side), "full_range")
        yield detect(picture, Square(*middle, times * side), "short_range")
    if side >= _LEAST_SIDE:
        yield suppress([face for part in _parts(picture) for face in detect(picture, part, "full_range")])


def _new_faces(picture: Frame, detections: Iterable[Detection], known: Sequence[Face]) -> list[Face]:
    found: list[Face] = []
    for detection in sorted(detections, key=lambda face: -face.square.side)[:_MOST_FACES]:
        if any(_covers(face, detection.square) for face in (*known, *found)):
            continue
        face = fit_mesh(picture, detection.square)
        if face.score >= LEAST_SCORE:
            face = fit_mesh(picture, face.square)  # the box is rough, and so is the first fit
        if face.score >= LEAST_SCORE and not any(is_same_face(face, other) for other in (*known, *found)):
            found.append(face)
    return found


def _covers(face: Face, square: Square) -> bool:
    """Whether a detection is of a face that was found already: its middle lies in that face."""
    return math.dist((square.x, square.y), (face.square.x, face.square.y)) < face.square.side / 4


def _parts(picture: Frame) -> list[Square]:
    """Squares of half the longer side that overlap and cover the picture."""
    side = max(picture.width, picture.height) / 2

    def middles(length: int) -> list[float]:
        count = math.ceil(1.5 * length / side) if length > side else 1
        return [float(middle) for middle in np.linspace(side / 2, max(length - side / 2, side / 2), count)]

    return [Square(x, y, side) for y in middles(picture.height) for x in middles(picture.width)]
