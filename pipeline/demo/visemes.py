"""What the eye can tell of a sound: the one table of viseme classes.

Sounds that look alike on real lips share one class, hence one target here, and are drawn alike: p, b and m
differ in voicing and nasality, t, d, n, s and z in what the tongue does behind the teeth, k and g out of
sight; no picture tells them apart. The consonant classes are those of Walden et al. 1977 ("Effects of
training on the visual recognition of consonants"), with l and r kept apart and h, which has no mouth shape
of its own, given to its neighbors.

A target is a mouth shape; a grip is how strongly the sound insists on it (the dominance of Cohen and
Massaro 1993), for the lips, the jaw and the tongue apart: s insists on its jaw, not on its lips, so that
the s of "soon" is rounded; m insists on closing and on little else.
"""

from __future__ import annotations

# IPA letters are meant, however like others they look.
# ruff: noqa: RUF001
from dataclasses import astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class MouthShape:
    """A mouth, in parts of its range: 0 is at rest or none, 1 as far as speech takes it.

    jaw: how far it drops. gap: between the lips. spread: corners apart (below 0: drawn in). rounding:
    lips put forward. bare: upper lip raised off the teeth. tuck: lower lip under the upper teeth. press:
    lips held together. tongue: its height in the mouth. tip: its tip between the teeth.
    """

    jaw: float
    gap: float
    spread: float = 0.0
    rounding: float = 0.0
    bare: float = 0.0
    tuck: float = 0.0
    press: float = 0.0
    tongue: float = 0.3
    tip: float = 0.0

    def vector(self) -> np.ndarray:
        """(9,) float64 in the order of the fields."""
        return np.array(astuple(self))


JAW, GAP, SPREAD, ROUNDING, BARE, TUCK, PRESS, TONGUE, TIP = range(9)


@dataclass(frozen=True)
class Viseme:
    """A class of sounds that look alike: its IPA members, target, and grips on lips, jaw and tongue."""

    members: tuple[str, ...]
    target: MouthShape
    lips: float
    jaw: float
    tongue: float


VISEMES: dict[str, Viseme] = {
    "rest": Viseme(("",), MouthShape(0.03, 0.0, press=0.1), 0.5, 0.5, 0.3),
    # Consonants.
    "bilabial": Viseme(("p", "b", "m"), MouthShape(0.12, 0.0, press=1.0), 0.4, 0.8, 0.1),
    "labiodental": Viseme(("f", "v"), MouthShape(0.14, 0.12, 0.1, bare=0.5, tuck=1.0), 0.6, 0.9, 0.2),
    "dental": Viseme(("θ", "ð"), MouthShape(0.24, 0.30, 0.15, bare=0.15, tongue=0.6, tip=1.0), 0.4, 0.9, 1.2),
    "alveolar": Viseme(
        ("t", "d", "n", "s", "z", "ɾ", "n̩"),
        MouthShape(0.13, 0.28, 0.2, bare=0.3, tongue=0.75),
        0.25,
        1.0,
        1.0,
    ),
    "lateral": Viseme(("l", "ɫ", "l̩"), MouthShape(0.30, 0.38, 0.1, bare=0.15, tongue=0.95), 0.25, 0.7, 1.2),
    "postalveolar": Viseme(
        ("ʃ", "ʒ", "tʃ", "dʒ"), MouthShape(0.12, 0.40, -0.3, 0.6, bare=0.6, tongue=0.55), 0.9, 1.0, 0.6
    ),
    "velar": Viseme(("k", "ɡ", "ŋ", "x"), MouthShape(0.24, 0.34, tongue=0.15), 0.12, 0.5, 0.8),
    "labiovelar": Viseme(("w", "ʍ"), MouthShape(0.12, 0.10, -0.8, 1.0, tongue=0.2), 1.5, 0.9, 0.3),
    "rhotic": Viseme(("ɹ", "r"), MouthShape(0.20, 0.26, -0.35, 0.55, tongue=0.4), 0.7, 0.6, 0.5),
    "glottal": Viseme(("h", "ʔ", "ʲ"), MouthShape(0.35, 0.40), 0.03, 0.05, 0.05),
    # Vowels, each class with its long and short members.
    "close spread": Viseme(
        ("i", "iː", "ɪ", "ᵻ", "j"), MouthShape(0.17, 0.32, 0.85, bare=0.35, tongue=0.6), 0.9, 0.8, 0.7
    ),
    "mid spread": Viseme(("e", "eː", "ɛ", "ɛː"), MouthShape(0.46, 0.52, 0.5, bare=0.2, tongue=0.4), 0.8, 0.9, 0.6),
    "open spread": Viseme(("æ", "a", "aː", "a:"), MouthShape(0.78, 0.80, 0.45, bare=0.25, tongue=0.2), 0.8, 1.1, 0.6),
    "open back": Viseme(("ɑ", "ɑː"), MouthShape(1.0, 0.95, 0.0, 0.1, tongue=0.05), 0.8, 1.2, 0.6),
    "open rounded": Viseme(("ɒ", "ɔ", "ɔː"), MouthShape(0.62, 0.62, -0.45, 0.65, tongue=0.05), 1.1, 1.0, 0.6),
    "central": Viseme(("ʌ", "ɜ", "ɜː"), MouthShape(0.50, 0.52, 0.05, bare=0.05, tongue=0.3), 0.5, 0.8, 0.5),
    "weak": Viseme(("ə", "ɐ", "ɚ"), MouthShape(0.32, 0.36, tongue=0.35), 0.25, 0.4, 0.3),
    "mid rounded": Viseme(("o", "oː"), MouthShape(0.42, 0.40, -0.55, 0.8, tongue=0.1), 1.2, 0.9, 0.5),
    "close rounded": Viseme(("u", "uː", "ʊ", "ʉ", "ʉː"), MouthShape(0.16, 0.15, -0.8, 0.95, tongue=0.2), 1.3, 0.9, 0.5),
}

# Sounds that move: the classes gone through, in order. espeak-ng times each of these as one phoneme.
GLIDES: dict[str, tuple[str, ...]] = {
    "aɪ": ("a", "ɪ"),
    "aʊ": ("a", "ʊ"),
    "eɪ": ("e", "ɪ"),
    "ɔɪ": ("ɔ", "ɪ"),
    "oʊ": ("o", "ʊ"),
    "əʊ": ("ɜ", "ʊ"),
    "ʌʉ": ("ʌ", "ʉ"),
    "eə": ("e", "ə"),
    "ɪə": ("ɪ", "ə"),
    "iə": ("i", "ə"),
    "ʊə": ("ʊ", "ə"),
    "aɪə": ("a", "ɪ", "ə"),
    "aɪɚ": ("a", "ɪ", "ɚ"),
    "aʊə": ("a", "ʊ", "ə"),
    "ɪɹ": ("ɪ", "ɹ"),
    "ɛɹ": ("ɛ", "ɹ"),
    "ʊɹ": ("ʊ", "ɹ"),
    "ɑːɹ": ("ɑː", "ɹ"),
    "ɔːɹ": ("ɔː", "ɹ"),
    "oːɹ": ("o", "ɹ"),
    "əɹ": ("ə", "ɹ"),
    "ʌɹ": ("ʌ", "ɹ"),
    "əl": ("ə", "l"),
    "juː": ("j", "uː"),
}

CLASS_OF: dict[str, str] = {member: name for name, viseme in VISEMES.items() for member in viseme.members}


def classes_of(phone: str) -> tuple[str, ...]:
    """The viseme classes that a phoneme (IPA, no stress marks) goes through; an unknown one is `weak`."""
    return tuple(CLASS_OF.get(part, "weak") for part in GLIDES.get(phone, (phone,)))
