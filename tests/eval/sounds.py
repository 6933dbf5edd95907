"""Sounds to score: a sentence that espeak-ng says, and the same in noise."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.demo.speech import Voice, synthesize

Wave = np.ndarray[Any, np.dtype[np.float32]]


@lru_cache
def sentence(text: str = "bin blue at f two now") -> Wave:
    """About 1.7 s at 16 kHz."""
    return synthesize(text, Voice("en-us", rate=170, pitch=50, pitch_range=50)).samples


def noisy(wave: Wave, level: float = 0.03, seed: int = 0) -> Wave:
    return wave + np.random.default_rng(seed).normal(0, level, len(wave)).astype(np.float32)
