"""From timed phonemes to a moving mouth: coarticulation after Cohen and Massaro (1993).

Every sound pulls the mouth towards its viseme's target with a dominance that peaks while it lasts and falls
off exponentially on either side; the mouth is at the mean of all targets, weighted by dominance, for lips,
jaw and tongue apart. So the lips round ahead of "oo" and the jaw of a quick vowel falls short. What speech
cannot do without is then granted: p, b and m close the lips and f and v touch the teeth for at least a
frame, however fast. A speaker's habits scale and color the movement; nothing else of the voice shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.demo.speech import Phone
from pipeline.demo.visemes import (
    BARE,
    GAP,
    JAW,
    PRESS,
    ROUNDING,
    SPREAD,
    TIP,
    TONGUE,
    TUCK,
    VISEMES,
    classes_of,
)

TRACK_RATE = 200

_GROUPS = {"lips": (GAP, SPREAD, ROUNDING, BARE, TUCK, PRESS), "jaw": (JAW,), "tongue": (TONGUE, TIP)}
# Seconds over which dominance falls to 1/e: (before the sound, after it). Rounding starts early.
_REACH = {"lips": (0.060, 0.045), "jaw": (0.060, 0.060), "tongue": (0.035, 0.035)}
# At least one frame in 25 a second falls within a contact of this length.
_CONTACT, _APPROACH = 0.044, 0.050
_STRESSED, _UNSTRESSED = 1.10, 0.92


@dataclass(frozen=True)
class Habits:
    """How a speaker articulates, as factors of the table's targets; `smile` is added to the spread."""

    jaw: float = 1.0
    lips: float = 1.0
    spread: float = 1.0
    rounding: float = 1.0
    bare: float = 1.0
    smile: float = 0.0
    variability: float = 0.08


@dataclass(frozen=True)
class Segment:
    """A stretch in one viseme class, in seconds."""

    viseme: str
    start: float
    end: float
    stressed: bool


def segments(phones: tuple[Phone, ...]) -> list[Segment]:
    """The viseme classes gone through, glides cut into equal parts."""
    found = []
    for phone in phones:
        classes = classes_of(phone.name)
        edges = np.linspace(phone.start, phone.end, len(classes) + 1)
        found += [
            Segment(name, float(start), float(end), phone.stressed)
            for name, start, end in zip(classes, edges[:-1], edges[1:], strict=True)
        ]
    return found


def articulate(phones: tuple[Phone, ...], seconds: float, habits: Habits, rng: np.random.Generator) -> np.ndarray:
    """The mouth over time: (ceil(200 seconds) + 1, 9) float64, columns as in MouthShape, row k at k / 200 s.

    `phones` are timed in seconds from row 0, sorted; before and after them the mouth rests.
    """
    times = np.arange(int(np.ceil(seconds * TRACK_RATE)) + 1) / TRACK_RATE
    said = segments(phones)
    if not said:
        said = [Segment("rest", 0.0, seconds, False)]
    said = [
        Segment("rest", min(0.0, said[0].start) - 0.3, said[0].start, False),
        *said,
        Segment("rest", said[-1].end, max(seconds, said[-1].end) + 0.3, False),
    ]
    starts, ends = np.array([s.start for s in said]), np.array([s.end for s in said])
    targets = np.stack([VISEMES[s.viseme].target.vector() for s in said])
    # The variation comes from the place in the clip, never from which sound of its class it is.
    varied = 1 + habits.variability * rng.standard_normal((len(said), 1)).clip(-2, 2)
    stress = np.array([[_STRESSED if s.stressed else _UNSTRESSED] for s in said])
    targets[:, [JAW, GAP]] *= varied * stress

    track = np.zeros((len(times), targets.shape[1]))
    for group, columns in _GROUPS.items():
        grip = np.array([getattr(VISEMES[s.viseme], group) for s in said])
        ahead, behind = _REACH[group]
        # The dominance is flat over the middle half of a sound, so that a long vowel reaches its target.
        middle, flat = (starts + ends) / 2, (ends - starts) / 4
        offset = times[:, None] - middle
        distance = np.maximum(np.abs(offset) - flat, 0)
        dominance = grip * np.exp(-distance / np.where(offset < 0, ahead, behind)) + 1e-9
        weights = dominance / dominance.sum(1, keepdims=True)
        track[:, columns] = weights @ targets[:, columns]

    track = _smooth(track, 0.018)
    track[:, JAW] *= habits.jaw
    track[:, GAP] *= habits.lips
    track[:, SPREAD] = track[:, SPREAD] * habits.spread + habits.smile
    track[:, ROUNDING] *= habits.rounding
    track[:, BARE] *= habits.bare

    closed, tucked = (_contact(times, said, name) for name in ("bilabial", "labiodental"))
    track[:, GAP] *= 1 - closed
    track[:, PRESS] = np.maximum(track[:, PRESS] * (1 - closed), closed)
    track[:, BARE] *= 1 - closed
    track[:, TIP] *= 1 - closed
    track[:, TUCK] = np.maximum(track[:, TUCK] * 0.3, tucked)
    track[:, GAP] = track[:, GAP] * (1 - tucked) + tucked * VISEMES["labiodental"].target.gap
    return track


def at_frames(track: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The mouth (N, 9) at `times` (N,) seconds, read linearly from a track of `articulate`."""
    rows = np.arange(len(track)) / TRACK_RATE
    return np.stack([np.interp(times, rows, column) for column in track.T], axis=1)


def _contact(times: np.ndarray, said: list[Segment], viseme: str) -> np.ndarray:
    """(T,) 1 during each contact of the lips that `viseme` requires, with smooth flanks, 0 elsewhere."""
    contact = np.zeros(len(times))
    for segment in said:
        if segment.viseme == viseme:
            half = max(_CONTACT, 0.7 * (segment.end - segment.start)) / 2
            away = np.abs(times - (segment.start + segment.end) / 2) - half
            ramp = np.clip(1 - away / _APPROACH, 0, 1)
            contact = np.maximum(contact, ramp * ramp * (3 - 2 * ramp))
    return contact


def _smooth(track: np.ndarray, seconds: float) -> np.ndarray:
    """The lips have mass: a Gaussian of this deviation over time, the ends repeated."""
    reach = int(np.ceil(3 * seconds * TRACK_RATE))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (seconds * TRACK_RATE)) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(track, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=1)
