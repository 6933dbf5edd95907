"""The optimizer and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with amsgrad. The defaults are the published ones."""

    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    amsgrad: bool = True


@dataclass(frozen=True)
class ScheduleSettings:
    """How long to train, and the learning rate over the steps.

    Attributes:
        steps: global steps of the whole run.
        warmup_steps: first steps, over which the rate rises linearly.
        rate: constant afterwards, or a cosine down to `last` of it.
        last: share of the rate that is left at the last step of a cosine.
    """

    steps: int = 100_000
    warmup_steps: int = 0
    rate: Literal["constant", "cosine"] = "constant"
    last: float = 0.01

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup_steps < 0 or not 0 <= self.last <= 1:
            raise ValueError(
                f"schedule: {self.steps} steps, {self.warmup_steps} of warm-up, last {self.last}: expected 1 or more, "
                "0 or more, and 0 to 1"
            )


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: OptimizerSettings = OptimizerSettings()
) -> torch.optim.Optimizer:
    """AdamW over the parameters, every one with the same decay."""
    return torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, amsgrad=settings.amsgrad
    )


def learning_rate_factor(step: int, settings: ScheduleSettings) -> float:
    """The share of the learning rate that a step, counted from 0, is taken with."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.rate == "constant":
        return 1.0
    progress = (step - settings.warmup_steps) / max(1, settings.steps - 1 - settings.warmup_steps)
    return settings.last + (1 - settings.last) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
