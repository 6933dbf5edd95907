"""The published optimizer, and the learning rate over the steps."""

from __future__ import annotations

from copy import deepcopy

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


def test_schedule_by_minutes_follows_the_steps_or_the_clock_whichever_is_further() -> None:
    timed = ScheduleSettings(steps=1010, warmup_steps=10, rate="cosine", last=0.1, minutes=2)
    assert learning_rate_factor(20, timed, 60) == pytest.approx(0.55)
    assert learning_rate_factor(20, timed, 120) == learning_rate_factor(20, timed, 500) == pytest.approx(0.1)
    assert learning_rate_factor(1009, timed, 0) == pytest.approx(0.1)
    assert learning_rate_factor(4, timed, 60) == pytest.approx(0.5), "the rate rises over steps"
    assert [timed.share_done(*done) for done in ((101, 60), (909, 60), (1010, 0), (1, 200))] == [0.5, 0.9, 1, 1]
    assert ScheduleSettings(steps=10).share_done(9, 1e9) == 0.9


@pytest.mark.parametrize("fused", [None, True])
def test_optimizer_state_of_another_kernel_is_restored_and_has_the_same_steps(fused: bool | None) -> None:
    """Older runs on a CPU were not fused."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape)) for shape in ((40, 3), (7,), ())]
    before = torch.optim.AdamW(weights, lr=0.5, weight_decay=1e-5, amsgrad=True, fused=fused)
    gradients = [[torch.randn_like(x) for x in weights] for _ in range(6)]
    _steps(before, weights, gradients[:3])
    copies = [nn.Parameter(x.detach().clone()) for x in weights]
    restored = build_optimizer(copies)
    restore_optimizer(restored, deepcopy(before.state_dict()))
    assert (restored.param_groups[0]["fused"], restored.param_groups[0]["lr"]) == (True, 0.5)
    _steps(before, weights, gradients[3:])
    _steps(restored, copies, gradients[3:])
    torch.testing.assert_close(copies, weights, rtol=1e-5, atol=1e-6)


def _steps(optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], gradients: list[list[torch.Tensor]]) -> None:
    for each in gradients:
        for weight, gradient in zip(weights, each, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()


def test_copy_all_copies_tensors_of_different_types() -> None:
    sources = [torch.tensor(7), torch.ones(3), torch.tensor(8), torch.full((2, 2), 0.5)]
    targets = [torch.zeros_like(x) for x in sources]
    copy_all(sources, targets)
    assert all(torch.equal(x, y) for x, y in zip(sources, targets, strict=True))
