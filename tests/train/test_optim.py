"""The published optimizer, and the learning rate over the steps."""

from __future__ import annotations

import pytest
import torch

from train.optim import OptimizerSettings, ScheduleSettings, build_optimizer, learning_rate_factor


def test_optimizer_defaults_are_the_published_ones() -> None:
    group = build_optimizer([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["lr"], group["weight_decay"], group["amsgrad"]) == (1e-4, 1e-5, True)
    other = build_optimizer([torch.nn.Parameter(torch.zeros(1))], OptimizerSettings(learning_rate=1))
    assert other.param_groups[0]["lr"] == 1


def test_learning_rate_warms_up_and_decays() -> None:
    cosine = ScheduleSettings(steps=110, warmup_steps=10, rate="cosine", last=0.1)
    assert [learning_rate_factor(step, cosine) for step in (0, 9, 10, 109)] == pytest.approx([0.1, 1, 1, 0.1])
    assert learning_rate_factor(60, cosine) == pytest.approx(0.55, abs=0.01)
    assert learning_rate_factor(10**6, ScheduleSettings()) == 1
