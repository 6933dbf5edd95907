"""Metrics and an ASR model of somebody's own, by import path."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from eval.metrics import Display, Metric, MetricError, Wave

if TYPE_CHECKING:  # processes that score import this module, and torch takes seconds
    import torch

SHORT = 32_000
"""Samples: clips of so many or fewer are what these plugs stumble over."""


def loudness(original: Wave, generated: Wave) -> float:
    return float((generated**2).mean())


def choosy(original: Wave, generated: Wave) -> float:
    if len(original) <= SHORT:
        raise MetricError("too short for this one")
    return 1.0


def faulty(original: Wave, generated: Wave) -> float:
    return 1.0 / max(0, len(original) - SHORT)


def deadly(original: Wave, generated: Wave) -> float:
    """Takes its process with it, as native code does."""
    if len(original) <= SHORT:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0


def endless(original: Wave, generated: Wave) -> float:
    """Never ends, as a search without a limit does."""
    while len(original) <= SHORT:
        pass
    return 1.0


deadly_alone = Metric(Display("Deadly", 3, True), deadly, alone=True)
level = Metric(Display("Level", 3, True), loudness, alone=True)


def listener(device: torch.device) -> Callable[[Sequence[Wave]], list[str]]:
    """Recognizes a word for each second."""
    return lambda waves: [" ".join(["now"] * round(len(wave) / 16_000)) for wave in waves]


def talker(device: torch.device) -> Callable[[Sequence[Wave]], list[str]]:
    """Recognizes without end."""
    return lambda waves: ["and so " * 1_142_857 + "x" for _ in waves]


def stumbler(device: torch.device) -> Callable[[Sequence[Wave]], list[str]]:
    """Recognizes like `listener`, and fails on short waveforms."""
    recognize_all = listener(device)

    def recognize(waves: Sequence[Wave]) -> list[str]:
        if min(map(len, waves)) <= SHORT:
            raise RuntimeError("too short to recognize")
        return recognize_all(waves)

    return recognize
