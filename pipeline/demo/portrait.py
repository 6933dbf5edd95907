"""The still part of a face: painted once a clip at twice the picture's resolution, then bent in every frame.

The face is a height map (skull, brow, nose, cheeks, muzzle, chin) lit by one lamp, over which go the colors
of skin, hair and beard. Eyes and mouth are not in it: they move, and `eyes` and `mouth` draw them.

Face coordinates (u, v) are in pixels of the 160 x 160 picture at scale 1, from the middle of the face, u to
the right, v down. Row i, column j of a layer is at v = i / 2 - 80, u = j / 2 - 80.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.demo.backdrop import backdrop
from pipeline.demo.hair import hair_color, hair_level, hair_masks
from pipeline.demo.shading import Light, blur, bump, planes, smoothstep
from pipeline.demo.speakers import Look

EYE_Y = -13.0
LAYER_SCALE = 2
LAYER_SIZE = 320


@dataclass(frozen=True)
class Portrait:
    """head (4, 320, 320) float32, color times coverage and coverage; relief (320, 320) float32 in pixels;
    tone: the light at the mouth as a factor of color; tilt: its slope from left to right per pixel;
    scene (3, 192, 192) float32."""

    head: np.ndarray
    relief: np.ndarray
    scene: np.ndarray
    tone: float
    tilt: float


@dataclass(frozen=True)
class _Unlit:
    """What of a face no lamp changes, each (320, 320): coordinates; relief; what `_features` and `_beard` put on the
    skin; coverage of face, ears, and hair behind and before them; how light hair is, and the factor of the shade that
    it throws; skin (3, 320, 320)."""

    u: np.ndarray
    v: np.ndarray
    relief: np.ndarray
    skin: np.ndarray
    features: list[tuple[np.ndarray, np.ndarray | None]]
    beard: tuple[np.ndarray, np.ndarray]
    face: np.ndarray
    ears: np.ndarray
    back: np.ndarray
    front: np.ndarray
    hair: np.ndarray
    shaded: np.ndarray


# 17 MB each; the corpus goes round its speakers, most of the clips of the default one round four
@lru_cache(maxsize=8)
def _unlit(look: Look) -> _Unlit:
    axis = np.arange(LAYER_SIZE) / LAYER_SCALE - LAYER_SIZE / LAYER_SCALE / 2
    u, v = np.meshgrid(axis, axis)
    rng = np.random.default_rng([look.seed, 7])
    outline = _outline(look, u, v)
    relief = blur(_relief(look, u, v, outline), 1.5)
    skin = _skin(look, u, v, rng)
    back, front = hair_masks(look, u, v, rng)
    ears = np.zeros_like(u)
    for side in (-1, 1):
        distance = 1 - ((u - side * (look.face_width - 0.5)) / 6.0) ** 2 - ((v + 5) / 11.0) ** 2
        ears = np.maximum(ears, np.clip(distance * 8, 0, 1))
    rng = np.random.default_rng([look.seed, 9])
    return _Unlit(
        u=u,
        v=v,
        relief=relief,
        skin=skin,
        features=_features(look, u, v),
        beard=_beard(look, u, v, rng),
        face=np.clip(outline * LAYER_SCALE + 0.5, 0, 1),
        ears=ears,
        back=back,
        front=front,
        hair=hair_level(look, u.shape, rng),
        # A hairline and a cheek are not paper cuts: hair throws a shade on the skin beside it.
        shaded=1 - 0.45 * (blur(front, 4.0) * (1 - front)),
    )


def paint(look: Look, light: Light, seed: int) -> Portrait:
    """Paints the face of `look` under `light`; `seed` varies the backdrop of the clip, the face is its own."""
    still = _unlit(look)
    lit, shine = _lighting(still.relief, light)

    color = still.skin * lit
    color += shine * 0.10 * (0.4 + 0.6 * planes(look.skin))
    for factor, added in still.features:
        color *= factor
        if added is not None:
            color += added
    cover, strands = still.beard
    color = color * (1 - cover) + cover * np.clip(strands * np.clip(lit, 0.3, 1.2), 0, 1)
    color *= still.shaded
    hair = hair_color(look, still.hair, still.u, still.v, light)

    layers = [(still.back, hair * 0.72)]
    if look.hair_style not in ("long", "bob", "curly"):
        layers += [(still.ears, planes(look.skin) * (0.62 + 0.22 * np.clip(lit, 0, 1.2)))]
    head = np.zeros((4, LAYER_SIZE, LAYER_SIZE))
    for mask, painted in [*layers, (still.face, color), (still.front, hair)]:
        head *= 1 - mask
        head[:3] += painted * mask
        head[3] += mask
    head[:3] = np.clip(head[:3], 0, 1.2)
    head = np.stack([blur(plane, 0.7) for plane in head])

    column = int((look.mouth_y + 80) * LAYER_SCALE)
    span = slice(LAYER_SIZE // 2 - 30, LAYER_SIZE // 2 + 31)
    at_mouth = lit[column - 12 : column + 13, span].mean(0)
    tone = float(at_mouth.mean())
    tilt = float((at_mouth[-20:].mean() - at_mouth[:20].mean()) / 20 / max(tone, 0.1))
    return Portrait(
        np.ascontiguousarray(head, dtype=np.float32),
        still.relief.astype(np.float32),
        backdrop(look, light, np.random.default_rng([look.seed, 8, seed])),
        tone,
        tilt,
    )


def _outline(look: Look, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """About the signed distance in pixels to the edge of the face, positive inside."""
    across = (u / look.face_width) ** 2
    upper = across + (v / 60.0) ** 2
    # Cheeks run down to the jaw before they turn to the chin.
    lower = across * (1 + 0.25 * smoothstep(v, 0, look.chin)) + np.abs(v / look.chin) ** look.jaw_power
    field = 1 - np.where(v < 0, upper, lower)
    dv, du = np.gradient(field, 1 / LAYER_SCALE)
    distance: np.ndarray = field / np.maximum(np.hypot(du, dv), 0.015)
    return distance


def _relief(look: Look, u: np.ndarray, v: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """How far the face stands out, in pixels."""
    depth = np.clip(outline / 40.0, 0, 1)
    skull = 34 * np.sqrt(np.clip(1 - (1 - depth) ** 2, 0, 1))
    side = np.abs(u)
    tip, wide = look.nose_tip, look.nose_width
    bridge = smoothstep(v, EYE_Y - 6, tip) * (1 - smoothstep(v, tip + 1, tip + 5.5))
    nose = (3.0 + 7.0 * smoothstep(v, EYE_Y, tip)) * bridge * np.exp(-0.5 * (u / (2.2 + 1.8 * bridge)) ** 2)
    nose += 3.2 * bump(u, v, (0, tip), (wide * 0.42, 3.4)) + 3.0 * bump(side, v, (wide * 0.72, tip + 1.5), (2.0, 2.6))
    mouth = look.mouth_y
    parts = (
        nose
        + 2.6 * bump(side, v, (look.eye_distance * 0.9, EYE_Y - look.brow_height + 1), (11, 3.2))
        - 4.2 * bump(side, v, (look.eye_distance, EYE_Y), (8.5, 5.0))
        + 2.4 * bump(side, v, (look.face_width * 0.60, 6), (9, 8))
        + 3.4 * bump(u, v, (0, mouth + 1), (17, 11))
        + 2.6 * bump(u, v, (0, look.chin - 7), (9, 5.5))
        - 2.0 * bump(u, v, (0, mouth + 11.5), (10, 2.6))
        - 0.9 * bump(u, v, (0, mouth - 9), (1.5, 4.2))
        + 0.5 * bump(side, v, (2.6, mouth - 8), (1.2, 4.5))
    )
    fold = look.nose_width + 3.5 + 0.42 * np.clip(v - tip, 0, None)
    crease = np.exp(-0.5 * ((side - fold) / 1.8) ** 2) * smoothstep(v, tip - 1, tip + 5)
    parts = parts - (0.7 + 1.5 * look.age) * crease * (1 - smoothstep(v, mouth - 4, mouth + 5))
    relief: np.ndarray = skull + parts
    return relief


def _lighting(relief: np.ndarray, light: Light) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse light as a factor of color, and the shine of skin, both (320, 320)."""
    dv, du = np.gradient(relief, 1 / LAYER_SCALE)
    norm = np.sqrt(du**2 + dv**2 + 1)
    length = float(np.sqrt(light.x**2 + light.y**2 + light.z**2))
    facing = (-du * light.x - dv * light.y + light.z) / norm / length
    # Light creeps round skin: no hard edge of shadow.
    diffuse = np.clip((facing + 0.35) / 1.35, 0, 1)
    half_z = (light.z / length + 1) / 2
    shine = np.clip((-du * light.x / 2 - dv * light.y / 2 + half_z) / norm, 0, 1) ** 24
    return light.ambient + light.strength * diffuse, shine


def _skin(look: Look, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    base = np.broadcast_to(planes(look.skin), (3, *u.shape)).copy()
    side = np.abs(u)
    flush = bump(side, v, (look.face_width * 0.55, 12), (9, 8)) + 0.8 * bump(u, v, (0, look.nose_tip), (6, 5))
    base *= 1 + flush * planes((0.03, -0.09, -0.07))
    sockets = bump(side, v, (look.eye_distance, EYE_Y + 2), (9, 6.5))
    base *= 1 - sockets * planes((0.13, 0.17, 0.13))
    for sigma, amount in ((0.8, 0.020), (2.5, 0.022), (8.0, 0.03)):
        noise = blur(rng.standard_normal(u.shape), sigma)
        base *= 1 + (amount * noise / noise.std()) * planes((0.7, 1.0, 1.1))
    spots = blur(rng.standard_normal(u.shape), 1.2)
    spots = np.clip(spots / spots.std() - 1.9, 0, 1) * bump(side, v, (16, 4), (15, 11))
    base *= 1 - look.freckles * spots * planes((0.22, 0.34, 0.40))
    for _ in range(int(rng.integers(1, 4))):
        mole = bump(u, v, (float(rng.uniform(-30, 30)), float(rng.uniform(-40, 45))), (0.9, 0.9))
        base *= 1 - 0.5 * mole
    return base


def _features(look: Look, u: np.ndarray, v: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Nostrils, the shade under the nose, brows, creases: factors of the color below, and what is added to it then."""
    side = np.abs(u)
    tip, wide = look.nose_tip, look.nose_width
    under = bump(u, v, (0, tip + 5.5), (wide * 0.8, 1.8))
    nostril = np.clip(1.4 - ((side - wide * 0.45) / 2.0) ** 2 - ((v - tip - 3.6 + 0.2 * side) / 1.15) ** 2, 0, 1)
    wing = np.exp(-0.5 * ((np.hypot((side - wide * 0.72) * 1.1, v - tip - 1.2) - 3.4) / 0.8) ** 2)
    wing = wing * smoothstep(side, wide * 0.72, wide * 0.72 + 2)

    # Brows: an arch, thick towards the nose, of short hairs.
    x = (side - look.eye_distance) / 11.0
    arch = EYE_Y - look.brow_height - 2.2 * (1 - x * x) + look.brow_tilt * 11 * x + 1.6 * smoothstep(x, 0.2, 1.1)
    thick = look.brow_thickness * (1.0 - 0.45 * x) * smoothstep(1.08 - np.abs(x), 0, 0.25)
    brow = np.clip((thick - np.abs(v - arch)) * 1.2 + 0.35, 0, 1) * (np.abs(x) < 1.1)
    brow *= 0.80 + 0.20 * np.sin(side * 5.5 + v * 3.5)
    brow_color = planes(look.hair) * (0.55 if sum(look.hair) > 1.2 else 0.9)

    lines = np.zeros_like(u)
    for height in (-33.0, -38.5, -44.0):
        lines += np.exp(-0.5 * ((v - height - 0.004 * u * u) / 0.7) ** 2) * smoothstep(24 - side, 0, 10)
    bags = np.exp(-0.5 * ((v - EYE_Y - 7.5 + 0.03 * (side - look.eye_distance) ** 2) / 0.9) ** 2)
    lines += 0.9 * bags * smoothstep(9 - np.abs(side - look.eye_distance), 0, 4)
    return [
        (1 - 0.30 * under, None),
        (1 - nostril * planes((0.72, 0.80, 0.80)), None),
        (1 - 0.26 * wing, None),
        (1 - 0.85 * brow, 0.85 * brow * brow_color),
        (1 - 0.20 * look.age * lines, None),
    ]


def _beard(look: Look, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Coverage (320, 320), and the color of its hairs (3, 320, 320) in even light."""
    side, mouth = np.abs(u), look.mouth_y
    lip = smoothstep(v, look.nose_tip + 5, look.nose_tip + 8.5) * (1 - smoothstep(v, mouth + 1, mouth + 4))
    moustache = lip * smoothstep(look.mouth_width + 4 - side - 0.4 * (mouth - v), 0, 4)
    jaw = smoothstep(v + 0.55 * side, mouth + 6.0, mouth + 13) * smoothstep(side + 0.6 * v, 26, 36)
    jaw = np.maximum(jaw, smoothstep(v, mouth + 8, mouth + 12))
    point = smoothstep(v, mouth + 8, mouth + 12) * smoothstep(17 - side, 0, 4)
    ring = smoothstep(look.mouth_width + 7 - side, 0, 3) * smoothstep(side, look.mouth_width - 1, look.mouth_width + 3)
    ring = ring * smoothstep(v, mouth - 6, mouth - 1)
    masks = {
        "none": (np.zeros_like(u), 0.0),
        "stubble": (np.maximum(moustache, jaw), 0.30),
        "moustache": (moustache, 0.88),
        "goatee": (np.clip(np.maximum(np.maximum(moustache, point), ring), 0, 1), 0.82),
        "full": (np.maximum(moustache, jaw), 0.86),
    }
    mask, density = masks[look.beard]
    hairs = blur(rng.standard_normal(u.shape), (1.6, 0.6))
    hairs = hairs / hairs.std()
    cover = np.clip(mask * (density + 0.14 * hairs * (mask > 0.05)), 0, 1)
    return cover, planes(look.hair) * (0.75 + 0.18 * hairs)
