"""Drawn faces that talk, as pictures with their lip centers: for tests of what looks for lips."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from pipeline.demo import articulation
from pipeline.demo.camera import film
from pipeline.demo.motion import move
from pipeline.demo.portrait import paint
from pipeline.demo.shading import Light
from pipeline.demo.speakers import cast
from pipeline.demo.speech import Phone
from runtime.constants import FPS

Array = np.ndarray[Any, Any]

_SOUNDS = ("æ", "b", "e", "f", "o", "t")


@cache
def talking_face(speaker: int, frames: int, talking: bool = True) -> tuple[Array, Array]:
    """uint8 (frames, 160, 160, 3), RGB, and (frames, 2), the lip center x, y of each; not to be changed."""
    rng = np.random.default_rng(speaker)
    seconds = frames / FPS
    count = int(seconds / 0.1) if talking else 0
    phones = tuple(Phone(_SOUNDS[n % len(_SOUNDS)], 0.1 * n, 0.1 * (n + 1), False) for n in range(count))
    times = (np.arange(frames) + 0.5) / FPS
    track = articulation.articulate(phones, seconds, articulation.Habits(), rng)
    look = cast(6, 0)[speaker].look
    light = Light(0.3, -0.5, 0.9, 0.74, 0.38)
    shown = list(
        film(look, paint(look, light, speaker), articulation.at_frames(track, times), move(times, phones, rng), 0)
    )
    return np.stack([frame.picture for frame in shown]), np.array([frame.center for frame in shown])


def on_canvas(pictures: Array, width: int, height: int, left: int, top: int, side: int = 160) -> Array:
    """Pictures, `side` pixels wide, somewhere on a larger gray one: uint8 (N, height, width, 3)."""
    canvas = np.full((len(pictures), height, width, 3), 90, np.uint8)
    for number, picture in enumerate(pictures):
        canvas[number, top : top + side, left : left + side] = resized(picture, side, side)
    return canvas


def resized(picture: Array, width: int, height: int) -> Array:
    """A picture of another size."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
