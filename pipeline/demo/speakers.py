"""Who speaks: for each speaker a face, a voice and a way of moving the mouth, no two alike.

What the eye takes in first (skin, hair, its color, beard, glasses, backdrop) is dealt out so that
neighbors in the list differ in all of it; what makes a face one's own (proportions) is drawn at random.
Lengths are in pixels of the 160 x 160 picture, colors in 0..1 RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.demo.articulation import Habits
from pipeline.demo.speech import Voice

Color = tuple[float, float, float]

_SKINS: tuple[Color, ...] = (
    (0.93, 0.76, 0.66), (0.46, 0.30, 0.22), (0.80, 0.60, 0.46), (0.96, 0.82, 0.74),
    (0.34, 0.22, 0.17), (0.70, 0.50, 0.36), (0.88, 0.69, 0.55), (0.58, 0.39, 0.28),
)  # fmt: skip
_HAIRS: tuple[Color, ...] = (
    (0.24, 0.15, 0.09), (0.06, 0.05, 0.05), (0.62, 0.60, 0.58), (0.74, 0.56, 0.32),
    (0.09, 0.07, 0.06), (0.13, 0.09, 0.07), (0.52, 0.24, 0.11), (0.20, 0.18, 0.18),
)  # fmt: skip
_EYES: tuple[Color, ...] = ((0.32, 0.46, 0.58), (0.22, 0.13, 0.08), (0.30, 0.38, 0.24), (0.40, 0.27, 0.14))
_CLOTHES: tuple[Color, ...] = (
    (0.16, 0.20, 0.32), (0.62, 0.16, 0.18), (0.30, 0.42, 0.34), (0.82, 0.80, 0.74), (0.42, 0.28, 0.46),
    (0.12, 0.12, 0.13), (0.70, 0.52, 0.22), (0.26, 0.44, 0.58),
)  # fmt: skip
_BACKDROPS: tuple[Color, ...] = (
    (0.36, 0.44, 0.54), (0.66, 0.60, 0.50), (0.22, 0.26, 0.24), (0.56, 0.66, 0.70), (0.48, 0.30, 0.26),
    (0.74, 0.74, 0.72), (0.20, 0.22, 0.34),
)  # fmt: skip
# Voice, hair and beard go together; six in a row have three and three.
_KINDS: tuple[tuple[str, str, str, bool], ...] = (
    ("en-gb-x-rp+m3", "parted", "none", False),
    ("en-us+f2", "curly", "none", False),
    ("en+m7", "receding", "full", True),
    ("en-gb-x-rp+f4", "long", "none", False),
    ("en-us+m1", "cropped", "goatee", False),
    ("en+f3", "bob", "none", True),
    ("en-us+m4", "short", "moustache", False),
    ("en-gb-scotland+f1", "bun", "none", False),
    ("en-us+m6", "bald", "stubble", False),
    ("en+f5", "fringe", "none", False),
)


@dataclass(frozen=True)
class Look:
    """A face: what `portrait` paints once a clip and `mouth` and `eyes` draw in every frame."""

    skin: Color
    hair: Color
    hair_style: str
    beard: str
    glasses: bool
    iris: Color
    lips: Color
    clothes: Color
    backdrop: Color
    face_width: float
    jaw_power: float
    chin: float
    eye_distance: float
    eye_width: float
    eye_height: float
    brow_height: float
    brow_thickness: float
    brow_tilt: float
    nose_width: float
    nose_tip: float
    mouth_width: float
    mouth_y: float
    upper_lip: float
    lower_lip: float
    cupid: float
    age: float
    freckles: float
    seed: int


@dataclass(frozen=True)
class Speaker:
    """A name such as `spk01`, a face, a voice and articulation habits."""

    name: str
    look: Look
    voice: Voice
    habits: Habits


def cast(count: int, seed: int) -> list[Speaker]:
    """`count` speakers; the same for the same arguments."""
    return [_speaker(index, np.random.default_rng([seed, 1, index])) for index in range(count)]


def _speaker(index: int, rng: np.random.Generator) -> Speaker:
    def around(center: float, spread: float) -> float:
        return float(center + spread * rng.uniform(-1, 1))

    def tinted(color: Color, by: float) -> Color:
        red, green, blue = (float(np.clip(c + by * rng.uniform(-1, 1), 0.02, 0.98)) for c in color)
        return red, green, blue

    round_, step = divmod(index, len(_KINDS))
    voice_name, hair_style, beard, glasses = _KINDS[step]
    female = "+f" in voice_name
    skin = tinted(_SKINS[(index + round_) % len(_SKINS)], 0.015)
    redness = around(0.04, 0.04) + (0.10 if female else 0.0)
    lips = (
        float(skin[0] * (0.84 + redness * 0.6)),
        float(skin[1] * (0.66 - redness * 0.7)),
        float(skin[2] * (0.72 - redness * 0.5)),
    )
    look = Look(
        skin=skin,
        hair=tinted(_HAIRS[(index + 3 * round_) % len(_HAIRS)], 0.02),
        hair_style=hair_style,
        beard=beard,
        glasses=glasses,
        iris=_EYES[(index + round_) % len(_EYES)] if sum(skin) > 1.8 else _EYES[1],
        lips=lips,
        clothes=_CLOTHES[(index + 2 * round_) % len(_CLOTHES)],
        backdrop=_BACKDROPS[(index + 3 * round_) % len(_BACKDROPS)],
        face_width=around(40.0 if female else 42.5, 2.8),
        jaw_power=around(2.25 if female else 2.9, 0.35),
        chin=around(57.0 if female else 60.5, 2.2),
        eye_distance=around(18.2, 1.4),
        eye_width=around(8.4 if female else 7.6, 0.7),
        eye_height=around(4.1 if female else 3.4, 0.5),
        brow_height=around(10.0 if female else 8.6, 1.2),
        brow_thickness=around(1.3 if female else 2.1, 0.45),
        brow_tilt=around(0.0, 0.12),
        nose_width=around(6.6 if female else 7.8, 1.5),
        nose_tip=around(13.5, 2.0),
        mouth_width=around(15.6 if female else 16.6, 1.6),
        mouth_y=around(32.0, 1.4),
        upper_lip=around(4.1 if female else 3.2, 0.9),
        lower_lip=around(5.8 if female else 4.8, 1.0),
        cupid=around(0.30, 0.18),
        age=float(rng.uniform(0.0, 0.35 if female else 0.6)) + (0.4 if hair_style == "receding" else 0.0),
        freckles=float(max(0.0, rng.uniform(-1.2, 1.0))),
        seed=int(rng.integers(2**31)),
    )
    voice = Voice(
        name=voice_name,
        rate=round(around(158, 14)),
        pitch=round(around(56 if female else 42, 12)),
        pitch_range=round(around(55, 20)),
    )
    habits = Habits(
        jaw=around(0.95, 0.18),
        lips=around(0.95, 0.16),
        spread=around(0.95, 0.25),
        rounding=around(0.92, 0.14),
        bare=around(0.9, 0.45),
        smile=around(0.06, 0.14),
        variability=around(0.09, 0.03),
    )
    return Speaker(f"spk{index + 1:02d}", look, voice, habits)
