"""The mouth, drawn anew in every frame from its nine parameters (`visemes.MouthShape`).

Four curves bound the lips: outer and inner, upper and lower, as functions of x across the mouth. Between the
inner ones lie, from back to front: the dark of the mouth, tongue, lower teeth (which ride on the jaw), upper
teeth (which stay with the skull, so that the upper lip uncovers them), tongue tip. What shows of each thus
follows from where the lips are, as in life, not from a parameter of its own.

Mouth coordinates are face pixels from the middle of the closed mouth, x to the right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.demo.shading import clip, planes
from pipeline.demo.speakers import Look
from pipeline.demo.visemes import BARE, GAP, JAW, PRESS, ROUNDING, SPREAD, TIP, TONGUE, TUCK

JAW_PIXELS = 9.5
GAP_PIXELS = 15.0
REACH_X, REACH_UP, REACH_DOWN = 32.0, 15.0, 34.0

_TEETH = planes((0.80, 0.77, 0.70), np.float32)
_CAVITY = planes((0.15, 0.045, 0.045), np.float32)
_TONGUE = planes((0.66, 0.31, 0.31), np.float32)


@dataclass(frozen=True)
class Lips:
    """The frame of one mouth: half width, and at x = 0 the heights of its four curves, in pixels."""

    half_width: float
    corner: float
    rise: float
    fall: float
    upper: float
    lower: float

    @property
    def top(self) -> float:
        return -self.rise - self.upper

    @property
    def bottom(self) -> float:
        return self.fall + self.lower

    @property
    def center(self) -> float:
        """The height of the lip center, half way between the outer edges."""
        return (self.top + self.bottom) / 2


def lips(look: Look, shape: np.ndarray) -> Lips:
    """Where the lips of `look` are for a mouth `shape` (9,)."""
    gap = GAP_PIXELS * float(shape[GAP])
    spread, rounding = float(shape[SPREAD]), float(shape[ROUNDING])
    press, tuck, jaw = float(shape[PRESS]), float(shape[TUCK]), float(shape[JAW])
    opened = min(1.0, gap / 3.0)
    width = look.mouth_width * (1 + 0.15 * spread - 0.24 * rounding - 0.05 * jaw)
    rise = 0.15 * gap + 1.9 * float(shape[BARE]) * opened
    fall = 0.85 * gap * (1 - tuck) + tuck * 1.0
    upper = look.upper_lip * (1 - 0.34 * press - 0.10 * spread + 0.28 * rounding - 0.12 * opened)
    lower = look.lower_lip * (1 - 0.36 * press - 0.10 * spread + 0.22 * rounding - 0.30 * tuck)
    corner = 0.5 + 0.24 * gap * (1 - tuck) - 1.3 * spread
    return Lips(width, corner, rise, fall, upper, lower)


def draw(
    picture: np.ndarray, x: np.ndarray, y: np.ndarray, look: Look, shape: np.ndarray, tone: float, tilt: float
) -> np.ndarray:
    """Draws the mouth into `picture` (3, h, w) float32, at mouth coordinates x, y (h, w).

    `tone` and `tilt` are the light at the mouth and its slope across (`portrait.Portrait`).
    Returns the coverage (h, w) of lips and what is between them.
    """
    form = lips(look, shape)
    rounding, press = float(shape[ROUNDING]), float(shape[PRESS])
    t = clip(np.abs(x) / form.half_width, 0, 1)
    to = clip(np.abs(x) / (form.half_width + 1.6), 0, 1)
    t2 = t * t
    arch = np.sqrt(1 - t2)
    # Pursed lips leave a round hole, spread ones a slit with a flatter floor.
    lower_arch = arch * (1 - 0.25 * t2 * (1 - rounding))
    seam = form.corner * t2 + 0.35 * np.exp(-((x / 2.5) ** 2)) * press
    upper_in = seam - form.rise * arch
    lower_in = seam + form.fall * lower_arch
    outer = clip(1 - to**2.3, 0, 1)
    bow = 1 + 0.10 * np.exp(-(((np.abs(x) - 3.8) / 2.2) ** 2)) - look.cupid * np.exp(-((x / 1.9) ** 2))
    upper_out = upper_in - form.upper * outer**0.85 * bow
    lower_out = lower_in + form.lower * outer**0.65

    light = (tone * clip(1 + tilt * x, 0.5, 1.5)).astype(np.float32)
    _shade_skin(picture, x, y, form, lower_out, upper_out, rounding)

    inside = _cover(y - upper_in) * _cover(lower_in - y) * (np.abs(x) < form.half_width)
    inside *= clip((lower_in - upper_in) * 0.8, 0, 1)
    body = _cover((y - upper_out) * 0.75) * _cover((lower_out - y) * 0.75) * (np.abs(x) < form.half_width + 1.6)
    _over(
        picture,
        body,
        _lip_color(look, x, y, t, form, upper_in, upper_out, lower_in, lower_out, rounding, light),
    )
    line = np.exp(-(((y - (upper_in + lower_in) / 2) / 0.75) ** 2)) * (to < 1)
    shut = clip(1 - (lower_in - upper_in) / 1.6, 0, 1)
    picture *= 1 - (0.62 + 0.10 * press) * line * shut
    if form.rise + form.fall > 0.15:
        _over(picture, inside, _interior(x, y, t2, shape, upper_in, light))
    corner = np.exp(-(((np.abs(x) - form.half_width - 0.4) / 1.4) ** 2) - ((y - form.corner) / 1.3) ** 2)
    picture *= 1 - 0.34 * corner
    seen: np.ndarray = np.maximum(body, inside)
    return seen


def _cover(distance: np.ndarray) -> np.ndarray:
    return clip(distance + 0.5, 0, 1)


def _over(picture: np.ndarray, cover: np.ndarray, color: np.ndarray) -> None:
    """Paints `color` over `picture` where `cover`, in place."""
    picture += cover * (color - picture)


def _shade_skin(
    picture: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    form: Lips,
    lower_out: np.ndarray,
    upper_out: np.ndarray,
    rounding: float,
) -> None:
    """The shade under the lower lip, deeper when it is put forward, and the light on the upper lip's rim."""
    across = np.exp(-((x / (0.62 * form.half_width)) ** 2))
    under = np.exp(-(((y - lower_out - 2.2) / 2.4) ** 2)) * across
    rim = np.exp(-(((y - upper_out + 1.2) / 0.9) ** 2)) * across
    picture *= 1 - (0.20 + 0.12 * rounding) * under + 0.06 * rim


def _lip_color(
    look: Look,
    x: np.ndarray,
    y: np.ndarray,
    t: np.ndarray,
    form: Lips,
    upper_in: np.ndarray,
    upper_out: np.ndarray,
    lower_in: np.ndarray,
    lower_out: np.ndarray,
    rounding: float,
    light: np.ndarray,
) -> np.ndarray:
    """The red of the lips: the upper one turned down into shade, the lower one up into the light."""
    is_upper = y < (upper_in + lower_in) / 2
    up = clip((upper_in - y) / np.maximum(upper_in - upper_out, 0.5), 0, 1)
    down = clip((y - lower_in) / np.maximum(lower_out - lower_in, 0.5), 0, 1)
    upper_level = 0.70 + 0.24 * up
    lower_level = 0.80 + 0.26 * np.sin(np.pi * clip(down * 0.9 + 0.08, 0, 1)) - 0.18 * down
    level = np.where(is_upper, upper_level, lower_level)
    folds = 0.035 * np.sin(x * 2.9 + 0.4 * np.sin(x * 1.3 + look.seed % 7)) * (1 - t)
    gloss = np.exp(-(((down - 0.42) / 0.20) ** 2)) * np.exp(-(((np.abs(x) - 0.22 * form.half_width) / 3.2) ** 2))
    color = planes(look.lips, np.float32) * ((level + folds) * light)
    color += ~is_upper * gloss * light * (0.09 + 0.08 * rounding)
    return np.asarray(color, np.float32)


def _interior(
    x: np.ndarray,
    y: np.ndarray,
    t2: np.ndarray,
    shape: np.ndarray,
    upper_in: np.ndarray,
    light: np.ndarray,
) -> np.ndarray:
    """What is seen between the lips, (3, h, w)."""
    drop = JAW_PIXELS * float(shape[JAW])
    tongue, tip = float(shape[TONGUE]), float(shape[TIP])
    edge = 2.0 - 0.010 * x * x
    floor = edge + 0.7 + drop - 0.4 * np.clip(1 - drop, 0, 1)
    color = _CAVITY * (0.5 + 0.9 * clip((y + 2) / 16, 0, 1))

    # The tongue: a rounded back with a groove, darker the further it is from the teeth.
    back = (floor - 2.4) * (1 - tongue) + (edge + 0.4) * tongue + 0.018 * x * x
    lit = clip(0.50 + 0.085 * (y - back), 0.35, 1.0) * (1 - 0.16 * np.exp(-((x / 1.1) ** 2)))
    _over(color, _cover((y - back) * 0.7), _TONGUE * (lit * light))

    fade = clip(1.08 - 0.55 * t2 * t2 - 0.25 * t2, 0.2, 1)
    gaps = 1 - 0.13 * np.exp(-((((np.abs(x) % 3.1) - 0.05) / 0.34) ** 2))
    lower_gaps = 1 - 0.15 * np.exp(-((((np.abs(x) % 2.3) - 0.05) / 0.32) ** 2))
    lower_row = _cover(y - floor + 0.03 * x * x * 0.3) * _cover(floor + 5.5 - y)
    _over(color, lower_row, _TEETH * (0.80 * fade * lower_gaps * light))

    # Incisors hang a little lower than their neighbors; the upper lip throws a shade on the row.
    upper_row = _cover(edge + 0.35 * np.exp(-(((np.abs(x) - 1.6) / 1.4) ** 4)) - y)
    under_lip = clip(0.62 + 0.20 * (y - upper_in), 0.55, 1)
    _over(color, upper_row, _TEETH * (fade * gaps * under_lip * light))

    if tip > 0.02:
        reach = 1 - (x / 6.5) ** 2 - ((y - 2.6) / (2.0 * tip + 0.01)) ** 2
        shade = clip(0.86 + 0.10 * (y - 2.0), 0.7, 1.1)
        _over(
            color,
            clip(reach * 2, 0, 1) * min(1.0, tip * 1.5),
            _TONGUE * 1.12 * (shade * light),
        )
    # The corners of the mouth are in the shade.
    color *= clip(1.1 - 0.55 * t2 * t2, 0, 1)
    return color
