"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from train.settings import ScheduleSettings


def rate_at(step: int, settings: ScheduleSettings) -> float:
    """The share of the learning rate that a step, counted from 0, is taken with."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.rate == "constant":
        return 1.0
    progress = (step - settings.warmup_steps) / max(1, settings.steps - 1 - settings.warmup_steps)
    return settings.last + (1 - settings.last) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
