"""What stands behind the face and does not move with it: a room out of focus, shoulders and neck."""

from __future__ import annotations

import numpy as np

from pipeline.demo.shading import Light, blur, planes, smoothstep
from pipeline.demo.speakers import Look

SCENE_SIZE = 192


def backdrop(look: Look, light: Light, rng: np.random.Generator) -> np.ndarray:
    """(3, 192, 192) float32 RGB in 0..1; the picture is its middle 160 x 160."""
    axis = np.arange(SCENE_SIZE) - SCENE_SIZE / 2
    x, y = np.meshgrid(axis, axis)
    scene = planes(look.backdrop) * (1 + 0.0022 * light.x * x - 0.0018 * y)
    for _ in range(int(rng.integers(3, 7))):
        at, size = rng.uniform(-90, 90, 2), rng.uniform(6, 26, 2)
        box = smoothstep(size[0] - np.abs(x - at[0]), -5, 5) * smoothstep(2 * size[1] - np.abs(y - at[1]), -5, 5)
        scene += box * planes(rng.uniform(-0.13, 0.13) + rng.uniform(-0.035, 0.035, 3))
    neck_half = look.face_width * 0.60 + 0.006 * np.clip(y - 44, 0, None) ** 2
    collar = 66 + 0.004 * x * x
    neck = smoothstep(neck_half - np.abs(x), -0.8, 0.8) * (y > 0)
    round_neck = 1 - 0.35 * (x / neck_half) ** 2 + 0.12 * light.x * x / neck_half
    under_chin = 1 - 0.42 * np.exp(-0.5 * ((y - look.chin - 1) / 8) ** 2)
    skin = planes(look.skin) * (0.82 * np.clip(round_neck, 0.2, 1.2) * under_chin)
    scene = scene * (1 - neck) + skin * neck
    shoulder = smoothstep(y - (62 + 0.0065 * x * x + 2.5 * np.cos(x / 9) * (np.abs(x) < 28)), -0.8, 0.8)
    shoulder *= 1 - smoothstep(14 - np.abs(x) - 0.55 * (y - collar) - 2, -0.8, 0.8) * (y < 96)
    folds = blur(rng.standard_normal(x.shape), (14, 3))
    cloth = planes(look.clothes) * (0.85 + 0.10 * folds / folds.std() + 0.003 * light.x * x)
    scene = scene * (1 - shoulder) + cloth * shoulder
    return np.ascontiguousarray(np.clip(scene, 0.02, 0.98), dtype=np.float32)
