"""The eyes, drawn in every frame: lids that blink, an iris that looks about, spectacles over them."""

from __future__ import annotations

import numpy as np

from pipeline.demo.portrait import EYE_Y
from pipeline.demo.shading import clip, planes
from pipeline.demo.speakers import Look

REACH_X, REACH_Y = 14.0, 12.0

_WHITE = planes((0.80, 0.77, 0.75), np.float32)
_LASH = planes((0.10, 0.07, 0.06), np.float32)
_FRAME = planes((0.09, 0.07, 0.07), np.float32)


def draw(
    picture: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    look: Look,
    closed: float,
    gaze: tuple[float, float],
    tone: float,
) -> None:
    """Draws both eyes into `picture` (3, h, w) float32, in place, at face coordinates u, v (h, w).

    `closed` 0..1; `gaze` in pixels.
    """
    side = np.sign(u)  # each eye from the nose outwards
    x = np.abs(u) - np.float32(look.eye_distance)
    y = v - EYE_Y
    t = clip(np.abs(x) / look.eye_width, 0, 1)
    arch = 1 - t * t
    # The outer corner sits a little higher than the inner one.
    base = -0.07 * x
    lower = base + 0.42 * look.eye_height * arch**0.8
    upper = base - 0.66 * look.eye_height * arch**0.62
    lid = upper + closed * (lower - upper)
    within = np.abs(x) < look.eye_width
    ball = clip(y - lid + 0.5, 0, 1) * clip(lower - y + 0.5, 0, 1) * within
    ball *= clip((lower - lid) * 1.2, 0, 1)

    gx, gy = gaze[0] * side, gaze[1]
    radius = np.hypot(x - gx, y - gy + 0.4)
    size = 0.52 * look.eye_height + 1.2
    white = _WHITE * (tone * (1 - 0.30 * t * t) * clip(0.66 + 0.16 * (y - lid), 0.5, 1))
    iris_level = clip(1.15 - 0.5 * clip((radius / size - 0.6) / 0.4, 0, 1) + 0.06 * y, 0.4, 1.3)
    eye = white + clip(size - radius + 0.5, 0, 1) * (
        planes(look.iris, np.float32) * (iris_level * (0.35 + 0.65 * tone)) - white
    )
    eye *= 1 - 0.9 * clip(0.42 * size - radius + 0.5, 0, 1)
    glint = np.exp(-(((x - gx) * side + 1.0) ** 2 + (y - gy + 1.6) ** 2) / 0.55)
    eye += 0.75 * glint
    picture += ball * (eye - picture)

    lash = np.exp(-(((y - lid + 0.25) / 0.62) ** 2)) * clip((look.eye_width + 0.9 - np.abs(x)) * 0.7, 0, 1)
    picture += (0.80 * lash * (0.65 + 0.35 * clip(x / look.eye_width, -1, 1))) * (_LASH - picture)
    under = np.exp(-(((y - lower - 0.3) / 0.6) ** 2)) * within
    picture *= 1 - 0.20 * under
    crease = np.exp(-(((y - upper + 2.1 - 0.9 * closed) / 0.65) ** 2)) * within * arch
    picture *= 1 - 0.26 * (1 - 0.4 * closed) * crease


def draw_glasses(picture: np.ndarray, u: np.ndarray, v: np.ndarray, look: Look) -> None:
    """Draws spectacles into `picture` (3, h, w) float32, in place, at face coordinates u, v (h, w)."""
    side = np.abs(u)
    x, y = (side - look.eye_distance - 0.5) / 13.0, (v - EYE_Y - 1.5) / 9.5
    radius = (x**4 + y**4) ** 0.25
    ring = clip(1.25 - np.abs(radius - 1) * 10.5, 0, 1)
    bridge = clip(1.2 - np.abs(v - EYE_Y + 1.5 + 0.05 * u * u * 0.3), 0, 1) * (side < look.eye_distance - 12)
    arm = clip(1.2 - np.abs(v - EYE_Y + 2.0), 0, 1) * (side > look.eye_distance + 13)
    frame = np.maximum(np.maximum(ring, bridge), arm * (side < look.face_width))
    picture += 0.04 * (radius < 1) * clip(0.5 - y - 0.6 * x, 0, 1)
    picture += (0.88 * frame) * (_FRAME - picture)
