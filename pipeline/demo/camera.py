"""The pictures: in every frame the painted head is posed, its jaw, cheeks and brows are bent, eyes and mouth
are drawn on it, and a camera's softness, flicker and noise are added.

Every pixel of the picture asks where on the face it looks: the pose is undone, then the relief shifts what
stands out by the turn of the head, and all that is drawn lives at the face coordinates found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.demo import eyes, mouth
from pipeline.demo.backdrop import SCENE_SIZE
from pipeline.demo.motion import Motion
from pipeline.demo.portrait import EYE_Y, LAYER_SCALE, LAYER_SIZE, Portrait
from pipeline.demo.shading import clip
from pipeline.demo.speakers import Look
from pipeline.demo.visemes import JAW, ROUNDING, SPREAD

SIZE = 160

_MARGIN = (SCENE_SIZE - SIZE) // 2


@dataclass(frozen=True)
class Frame:
    """picture (160, 160, 3) uint8 RGB; center: (x, y) of the mouth drawn, in pixels;
    lips: (160, 160) float32, how much of each pixel is mouth."""

    picture: np.ndarray
    center: tuple[float, float]
    lips: np.ndarray


def film(look: Look, portrait: Portrait, shapes: np.ndarray, motion: Motion, seed: int) -> Iterator[Frame]:
    """The frames of a clip: mouth `shapes` (N, 9) and `motion` of N frames; `seed` is the camera's noise."""
    rng = np.random.default_rng([seed, 3])
    flicker = 1 + 0.006 * rng.standard_normal(len(shapes))
    grain = 0.005 + 0.006 * rng.random()
    for index in range(len(shapes)):
        yield _shoot(look, portrait, shapes[index], motion, index, float(flicker[index]), float(grain), rng)


def _shoot(
    look: Look,
    portrait: Portrait,
    shape: np.ndarray,
    motion: Motion,
    index: int,
    flicker: float,
    grain: float,
    rng: np.random.Generator,
) -> Frame:
    x0, y0, scale, roll = (float(track[index]) for track in (motion.x, motion.y, motion.scale, motion.roll))
    yaw, pitch = float(motion.yaw[index]), float(motion.pitch[index])
    cos, sin = np.cos(roll) / scale, np.sin(roll) / scale
    across = np.arange(SIZE, dtype=np.float32) - np.float32(x0)
    down = (np.arange(SIZE, dtype=np.float32) - np.float32(y0))[:, None]
    u = (cos * across + sin * down).astype(np.float32)
    v = (cos * down - sin * across).astype(np.float32)
    depth = _nearest(portrait.relief, u, v)
    u -= np.float32(yaw) * depth
    v -= np.float32(pitch) * depth

    form = mouth.lips(look, shape)
    head = _bilinear(portrait.head, *_bent(look, shape, form, u, v, float(motion.brows[index])))
    picture = _scene(portrait.scene, 0.35 * (x0 - 80), 0.35 * (y0 - 80))
    picture *= 1 - head[3]
    picture += head[:3]

    window = _window(u, v, 0.0, EYE_Y, look.eye_distance + eyes.REACH_X, eyes.REACH_Y, eyes.REACH_Y)
    gaze = (float(motion.gaze_x[index]), float(motion.gaze_y[index]))
    eyes.draw(picture[:, *window], u[window], v[window], look, float(motion.closed[index]), gaze, portrait.tone)
    if look.glasses:
        window = _window(u, v, 0.0, EYE_Y, look.face_width + 1, 14.0, 14.0)
        eyes.draw_glasses(picture[:, *window], u[window], v[window], look)

    window = _window(u, v, 0.0, look.mouth_y, mouth.REACH_X, mouth.REACH_UP, mouth.REACH_DOWN)
    lips = np.zeros((SIZE, SIZE), np.float32)
    lips[window] = mouth.draw(
        picture[:, *window], u[window], v[window] - look.mouth_y, look, shape, portrait.tone, portrait.tilt
    )

    picture = _soften(picture)
    picture *= np.float32(flicker)
    picture += rng.standard_normal((SIZE, SIZE), dtype=np.float32) * np.float32(grain)
    picture *= 255
    picture += 0.5
    pixels = clip(picture, 0, 255).astype(np.uint8)

    # The mouth stands on the relief: its place in the picture is the pose of the shifted point.
    out = float(portrait.relief[_cell(look.mouth_y), _cell(0.0)])
    mu, mv = yaw * out, look.mouth_y + form.center + pitch * out
    grow, turn = np.cos(roll) * scale, np.sin(roll) * scale
    return Frame(np.moveaxis(pixels, 0, 2), (x0 + grow * mu - turn * mv, y0 + turn * mu + grow * mv), lips)


def _bent(
    look: Look, shape: np.ndarray, form: mouth.Lips, u: np.ndarray, v: np.ndarray, brows: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where on the still face to look, once jaw, corners of the mouth and brows have moved."""
    side = np.abs(u)
    y = v - np.float32(look.mouth_y)
    drop = np.float32(mouth.JAW_PIXELS * float(shape[JAW]))
    # Below the lips all skin goes with the jaw; towards the ears it stretches over a longer way.
    lag = clip((side - 12) / 26, 0, 1)
    low, high = -3 - 16 * lag, 9 + 20 * lag
    ramp = clip((y - low) / (high - low), 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp) * clip((look.face_width + 5 - side) / 7, 0, 1)
    moved = drop * ramp * (1 - 0.35 * lag)
    rest = look.mouth_width
    pull = np.float32(form.half_width - rest)
    near = np.exp(-(((side - rest) / 9) ** 2) - ((y - 1) / 10) ** 2)
    lift = np.float32(0.9 * float(shape[SPREAD]) - 0.4 * float(shape[ROUNDING])) * np.exp(
        -(((side - rest - 6) / 9) ** 2) - ((y + 7) / 9) ** 2
    )
    raised = np.float32(brows) * np.exp(-(((v - EYE_Y + look.brow_height + 2) / 5.5) ** 2)) * (side < 38)
    return u - np.sign(u) * pull * near, v - moved + lift + raised


def _cell(coordinate: float) -> int:
    return round((coordinate + LAYER_SIZE / LAYER_SCALE / 2) * LAYER_SCALE)


def _nearest(layer: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    columns = clip(u * LAYER_SCALE + (LAYER_SIZE / 2 + 0.5), 0, LAYER_SIZE - 1).astype(np.int32)
    rows = clip(v * LAYER_SCALE + (LAYER_SIZE / 2 + 0.5), 0, LAYER_SIZE - 1).astype(np.int32)
    return layer.ravel().take(rows * LAYER_SIZE + columns)


def _bilinear(layer: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """`layer` (4, 320, 320) read at face coordinates (h, w): (4, h, w) float32."""
    x = clip(u * LAYER_SCALE + LAYER_SIZE / 2, 0, LAYER_SIZE - 1.001)
    y = clip(v * LAYER_SCALE + LAYER_SIZE / 2, 0, LAYER_SIZE - 1.001)
    columns, rows = x.astype(np.intp), y.astype(np.intp)
    fx, fy = (x - columns).astype(np.float32), (y - rows).astype(np.float32)
    at = rows * LAYER_SIZE + columns
    right, below, across = at + 1, at + LAYER_SIZE, at + LAYER_SIZE + 1
    found = np.empty((len(layer), *u.shape), np.float32)
    for plane, top in zip(layer, found, strict=True):  # plane by plane: what is at work stays in the cache
        plane.take(at, out=top, mode="clip")
        bottom = plane.take(below)
        top += fx * (plane.take(right) - top)
        bottom += fx * (plane.take(across) - bottom)
        bottom -= top
        bottom *= fy
        top += bottom
    return found


def _scene(scene: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """The backdrop and shoulders, moved by (dx, dy) pixels: (3, 160, 160) float32, a copy."""
    x, y = (min(max(_MARGIN - moved, 0), 2 * _MARGIN - 1) for moved in (dx, dy))
    column, row = int(x), int(y)
    fx, fy = np.float32(x - column), np.float32(y - row)
    left = scene[:, row : row + SIZE + 1, column : column + SIZE]
    right = scene[:, row : row + SIZE + 1, column + 1 : column + SIZE + 1]
    rows = left + fx * (right - left)
    moved: np.ndarray = rows[:, :-1] + fy * (rows[:, 1:] - rows[:, :-1])
    return moved


def _window(
    u: np.ndarray, v: np.ndarray, at_u: float, at_v: float, reach: float, above: float, below: float
) -> tuple[slice, slice]:
    """The part of the picture that shows the face from (at_u, at_v), `reach` to the sides."""
    seen = (np.abs(u - at_u) < reach) & (v > at_v - above) & (v < at_v + below)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _soften(picture: np.ndarray) -> np.ndarray:
    """A lens: the picture through the kernel (1, 6, 1) / 8 both ways."""
    soft = picture * np.float32(0.75)
    part = picture * np.float32(0.125)
    soft[:, 1:] += part[:, :-1]
    soft[:, :-1] += part[:, 1:]
    soft[:, 0] += part[:, 0]
    soft[:, -1] += part[:, -1]
    wide, part = soft * np.float32(0.75), soft * np.float32(0.125)
    wide[..., 1:] += part[..., :-1]
    wide[..., :-1] += part[..., 1:]
    wide[..., 0] += part[..., 0]
    wide[..., -1] += part[..., -1]
    return wide
