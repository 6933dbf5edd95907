"""How the head moves while its owner speaks: slow sway, nods on stressed vowels, blinks, glances, brows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.demo.speech import Phone

_SLOWEST, _FASTEST = 0.12, 0.75  # of a head's sway, hertz


@dataclass(frozen=True)
class Motion:
    """One value a frame, each (N,): x and y of the head in pixels, scale, roll in radians; yaw and pitch as
    the sine of the angle; closed: the lids, 0..1; gaze_x, gaze_y in pixels; brows: how far raised, pixels."""

    x: np.ndarray
    y: np.ndarray
    scale: np.ndarray
    roll: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    closed: np.ndarray
    gaze_x: np.ndarray
    gaze_y: np.ndarray
    brows: np.ndarray


def move(times: np.ndarray, phones: tuple[Phone, ...], rng: np.random.Generator) -> Motion:
    """The motion at `times` (N,) seconds, for speech timed alike."""

    def sway(amount: float) -> np.ndarray:
        wave = np.zeros_like(times)
        for _ in range(4):
            rate, phase = np.exp(rng.uniform(np.log(_SLOWEST), np.log(_FASTEST))), rng.uniform(0, 2 * np.pi)
            wave += rng.normal() * (_SLOWEST / rate) ** 0.4 * np.sin(2 * np.pi * rate * times + phase)
        return amount * wave

    beats = np.array([(p.start + p.end) / 2 for p in phones if p.stressed])
    nods = np.zeros_like(times)
    lifts = np.zeros_like(times)
    for beat in beats:
        strength = max(0.0, rng.normal(0.5, 0.5))
        nods += strength * np.exp(-0.5 * ((times - beat - 0.04) / 0.11) ** 2)
        if rng.random() < 0.22:
            lifts += rng.uniform(0.8, 2.2) * np.exp(-0.5 * ((times - beat) / 0.16) ** 2)

    closed = np.zeros_like(times)
    moment = float(rng.uniform(0.1, 2.2))
    while len(times) and moment < times[-1]:
        # Lids fall in about 80 ms and rise in about 150.
        since = times - moment
        closed = np.maximum(closed, np.where(since < 0, 1 + since / 0.08, 1 - (since - 0.03) / 0.15).clip(0, 1))
        moment += float(rng.uniform(1.4, 4.5))

    gaze = np.zeros((2, len(times)))
    moment, target = 0.0, np.zeros(2)
    while len(times) and moment < times[-1]:
        gaze[:, times >= moment] = target[:, None]
        target = rng.normal(0, 1, 2) * (0.9, 0.3)
        moment += float(rng.uniform(0.5, 2.0))

    return Motion(
        x=80 + rng.normal(0, 1.0) + sway(1.6),
        y=77 + rng.normal(0, 0.8) + sway(1.0) + 0.9 * nods,
        scale=rng.uniform(1.05, 1.13) * (1 + sway(0.006)),
        roll=rng.normal(0, 0.02) + sway(0.025),
        yaw=rng.normal(0, 0.07) + sway(0.06),
        pitch=rng.normal(0, 0.03) + sway(0.03) + 0.035 * nods,
        closed=closed,
        gaze_x=gaze[0].clip(-1.8, 1.8),
        gaze_y=gaze[1].clip(-0.8, 0.8),
        brows=lifts.clip(0, 3) + sway(0.25),
    )
