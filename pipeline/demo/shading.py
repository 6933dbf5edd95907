"""What the painted layers share: the lamp of a clip, and the soft shapes that all are made of.

Pictures are planes, (3, H, W): what is drawn multiplies and adds masks (H, W), which NumPy does ten times as fast plane
by plane as pixel by pixel, where its inner loops have three steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Light:
    """A lamp: where it stands (x right, y down, z towards the camera), how strong, how bright the shade is."""

    x: float
    y: float
    z: float
    strength: float
    ambient: float


def planes(color: Sequence[float] | np.ndarray, dtype: type[np.floating] = np.float64) -> np.ndarray:
    """A color (3,) as (3, 1, 1), to stand beside masks (H, W)."""
    return np.array(color, dtype)[:, None, None]


def clip(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """As `np.clip`, in a third of the time where arrays are small: many a frame are."""
    clipped: np.ndarray = np.minimum(np.maximum(x, low), high)
    return clipped


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    ramp = np.clip((x - low) / (high - low), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def bump(u: np.ndarray, v: np.ndarray, at: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    """A Gaussian hill of height 1 at `at` with deviations `size`."""
    return np.exp(-0.5 * (((u - at[0]) / size[0]) ** 2 + ((v - at[1]) / size[1]) ** 2))


def blur(layer: np.ndarray, deviation: float | tuple[float, float]) -> np.ndarray:
    """`layer` (H, W) through a Gaussian of this deviation in rows (down, across), its edges repeated."""
    for axis, sigma in enumerate(deviation if isinstance(deviation, tuple) else (deviation, deviation)):
        reach = int(np.ceil(3 * sigma))
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        weights /= weights.sum()
        length = layer.shape[axis]
        padded = np.pad(layer, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        layer = weights[reach] * padded.take(range(reach, reach + length), axis)
        for step in range(1, reach + 1):
            before = padded[reach - step :][:length] if axis == 0 else padded[:, reach - step :][:, :length]
            after = padded[reach + step :][:length] if axis == 0 else padded[:, reach + step :][:, :length]
            layer += weights[reach + step] * (before + after)
    return layer
