"""The published optimizer, and the learning rate over the steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from train.optim import (
    OptimizerSettings,
    ScheduleSettings,
    build_optimizer,
    copy_all,
    learning_rate_factor,
    restore_optimizer,
)


def test_optimizer_defaults_are_the_published_ones() -> None:
    group = build_optimizer([nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["lr"], group["weight_decay"], group["amsgrad"]) == (1e-4, 1e-5, True)
    other = build_optimizer([nn.Parameter(torch.zeros(1))], OptimizerSettings(learning_rate=1))
    assert other.param_groups[0]["lr"] == 1


def test_learning_rate_warms_up_and_decays() -> None:
    cosine = ScheduleSettings(steps=110, warmup_steps=10, rate="cosine", last=0.1)
    assert [learning_rate_factor(step, cosine) for step in (0, 9, 10, 109)] == pytest.approx([0.1, 1, 1, 0.1])
    assert learning_rate_factor(60, cosine) == pytest.approx(0.55, abs=0.01)
    assert learning_rate_factor(10**6, ScheduleSettings()) == 1


def test_optimizer_state_of_a_gpu_is_restored_on_a_cpu() -> None:
    weights = [nn.Parameter(torch.ones(3))]
    saved = build_optimizer(weights)
    weights[0].sum().backward()
    saved.step()
    state = saved.state_dict()
    state["param_groups"][0].update(fused=True, lr=0.5)
    restored = build_optimizer([nn.Parameter(torch.ones(3))])
    restore_optimizer(restored, state)
    assert (restored.param_groups[0]["fused"], restored.param_groups[0]["lr"]) == (None, 0.5)
    (moments,), (expected,) = restored.state.values(), saved.state.values()
    assert torch.equal(moments["exp_avg"], expected["exp_avg"])


def test_copy_all_copies_tensors_of_different_types() -> None:
    sources = [torch.tensor(7), torch.ones(3), torch.tensor(8), torch.full((2, 2), 0.5)]
    targets = [torch.zeros_like(x) for x in sources]
    copy_all(sources, targets)
    assert all(torch.equal(x, y) for x, y in zip(sources, targets, strict=True))
