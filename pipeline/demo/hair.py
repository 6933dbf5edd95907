"""The hair of a speaker: where it lies behind the face and over it, and its strands.

A style is a volume round the skull, a hairline over the brow and how far down back and sides reach.
"""

from __future__ import annotations

import numpy as np

from pipeline.demo.shading import Light, blur, bump, planes, smoothstep
from pipeline.demo.speakers import Look


def hair_masks(look: Look, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hair behind the face and hair over it, (320, 320) coverage each."""
    style, fw = look.hair_style, look.face_width
    side = np.abs(u)
    volume = {"bald": -3.0, "cropped": 1.5, "receding": 2.0, "curly": 13.0, "long": 7.0, "bob": 8.0}.get(style, 5.0)
    rough = blur(rng.standard_normal(u.shape), 4.0 if style == "curly" else 2.6)
    rough = rough / rough.std() * (0.9 if style == "curly" else 0.3)
    wide, tall = fw + 1.5 + 0.75 * volume, 60.0 + volume
    skull = 1 - (side / wide) ** 2.2 - np.abs(np.minimum(v + 3, 0) / (tall - 3)) ** 2.2
    dome = np.clip(skull * 18 + rough + 0.5, 0, 1)
    low = {"long": 74.0, "bob": 38.0, "curly": 30.0, "bald": -8.0, "receding": 4.0, "cropped": -4.0}.get(style, 6.0)
    taper = smoothstep(low - v + 1.5 * rough, -3, 3)
    # The neck stands before the hair behind it.
    neck = smoothstep(0.60 * fw - side, -1.5, 1.5) * smoothstep(v, 20, 26)
    back = dome * taper * (1 - neck)
    if style == "bun":
        back = np.maximum(back, np.clip((1 - (u / 17) ** 2 - ((v + 68) / 13) ** 2) * 8 + rough, 0, 1))

    hairline = {
        "parted": -37 + 0.010 * u * u - 0.16 * u,
        "short": -38 + 0.012 * u * u,
        "cropped": -42 + 0.014 * u * u,
        "receding": -50 - 8 * bump(side, v, (17, -45), (8, 30)) + 0.012 * u * u,
        "bald": np.full_like(u, -90.0),
        "curly": -36 + 0.014 * u * u,
        "long": -48 + 0.75 * np.abs(u + 7),
        "bob": -44 + 0.65 * np.abs(u - 9),
        "bun": -44 + 0.013 * u * u,
        "fringe": -25 + 0.004 * u * u,
    }[style]
    top = np.clip((hairline - v) * 0.55 + 0.5 + 0.6 * rough, 0, 1) * dome
    reach = {"long": 70.0, "bob": 34.0, "curly": 8.0, "bald": -60.0, "fringe": 2.0, "bun": -14.0}.get(style, -4.0)
    inner = fw - (8.5 if style in ("long", "bob") else 4.5) + 0.06 * np.clip(v, 0, None)
    sides = smoothstep(side - inner + 0.7 * rough, -1.2, 1.2) * smoothstep(reach - v + 2 * rough, -2, 3) * dome
    return back, np.maximum(top, sides)


def hair_level(look: Look, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """How light the strands are that no lamp changes, `shape` (320, 320)."""
    grain = (3.0, 2.5) if look.hair_style == "curly" else (9.0, 0.9)
    streaks = blur(rng.standard_normal(shape), grain)
    streaks = streaks / streaks.std()
    fine = blur(rng.standard_normal(shape), (2.5, 0.6))
    fine = fine / fine.std()
    level: np.ndarray = 0.80 + 0.13 * streaks + 0.07 * fine
    return level


def hair_color(look: Look, level: np.ndarray, u: np.ndarray, v: np.ndarray, light: Light) -> np.ndarray:
    """The color of hair wherever there might be some, (3, 320, 320), of its `level`."""
    gloss = np.exp(-0.5 * ((v + 48 - 0.012 * u * u) / 6) ** 2) * (0.6 + 0.4 * np.tanh(light.x * u / 20))
    shade = planes(look.hair) * np.clip(level + 0.0035 * light.x * u - 0.002 * (v + 40), 0.3, 1.6)
    strands: np.ndarray = np.clip(shade + gloss * (0.05 + 0.16 * planes(look.hair)), 0, 1)
    return strands
