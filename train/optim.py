"""The optimizer, the learning-rate schedule, and the exponential moving average (EMA) of weights."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn


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
        steps: global steps of the whole run; its most, where it has `minutes`.
        minutes: of training, with its validations, before and after it was resumed; None: as long as its steps take.
            Such a run is not repeated exactly.
        warmup_steps: over which the rate rises linearly.
        rate: constant afterwards, or a cosine down to `last` of it, over the steps or over the minutes, whichever end
            first.
        last: share of the rate that is left at the end of a cosine.
    """

    steps: int = 100_000
    minutes: float | None = None
    warmup_steps: int = 0
    rate: Literal["constant", "cosine"] = "constant"
    last: float = 0.01

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup_steps < 0 or not 0 <= self.last <= 1:
            raise ValueError(
                f"schedule: steps {self.steps}, warmup_steps {self.warmup_steps}, last {self.last}: expected 1 or "
                "more, 0 or more, and 0 to 1"
            )
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"schedule.minutes: {self.minutes}, minutes above 0 were expected")

    def share_done(self, step: int, seconds: float) -> float:
        """How much of the run is over after so many steps and seconds of training, from 0 to 1."""
        return min(1.0, max(step / self.steps, self.share_of_minutes(seconds)))

    def share_of_minutes(self, seconds: float) -> float:
        """How much of the run's minutes is over; 0 where it has none."""
        return 0.0 if self.minutes is None else seconds / (60 * self.minutes)


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: OptimizerSettings = OptimizerSettings()
) -> torch.optim.Optimizer:
    """AdamW over the parameters, every one with the same decay."""
    parameters = list(parameters)
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        amsgrad=settings.amsgrad,
        # one kernel in place of hundreds on a GPU, a few calls a parameter on a CPU
        fused=True if all(x.device.type in ("cpu", "cuda") for x in parameters) else None,
    )


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimizer on whatever device, of the form that `train.stored_training` checks; which kernel
    computes stays this one's own choice.

    Raises:
        ValueError: it is of other settings, which are named.
    """
    groups = []
    for theirs, ours in zip(state["param_groups"], optimizer.param_groups, strict=True):
        for name in ours.keys() - {"params", "lr", "fused", "foreach"}:
            if name in theirs and theirs[name] != ours[name]:
                found = reprlib.repr(theirs[name])
                raise ValueError(f"optimizer.param_groups: {name} is {found}, and {ours[name]!r} was expected")
        if type(theirs.get("lr")) is not float or not 0 <= theirs["lr"] < math.inf:
            raise ValueError(f"optimizer.param_groups: lr is {reprlib.repr(theirs.get('lr'))}: a rate was expected")
        groups.append({**ours, "lr": theirs["lr"], "params": theirs["params"]})
    moments = {"exp_avg", "exp_avg_sq", "step", *(["max_exp_avg_sq"] if optimizer.defaults["amsgrad"] else [])}
    if any(kept.keys() != moments for kept in state["state"].values()):
        raise ValueError(f"optimizer.state: {', '.join(sorted(moments))} of each parameter were expected")
    optimizer.load_state_dict({**state, "param_groups": groups})


def copy_all(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Copy many small tensors, on a GPU all of a type by one kernel."""
    for dtype in {x.dtype for x in sources}:
        pairs = [pair for pair in zip(sources, targets, strict=True) if pair[0].dtype == dtype]
        torch._foreach_copy_([target for _, target in pairs], [source for source, _ in pairs])


def learning_rate_factor(step: int, settings: ScheduleSettings, seconds: float = 0.0) -> float:
    """The share of the learning rate that a step, counted from 0, is taken with, after so many seconds of training."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.rate == "constant":
        return 1.0
    by_steps = (step - settings.warmup_steps) / max(1, settings.steps - 1 - settings.warmup_steps)
    progress = min(1.0, max(by_steps, settings.share_of_minutes(seconds)))
    return settings.last + (1 - settings.last) * 0.5 * (1 + math.cos(math.pi * progress))


class WeightAverage:
    """An exponential moving average (EMA) of a network's weights and batch-norm statistics.

    Attributes:
        weights: the average, as a state dict.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.weights = {name: x.detach().clone() for name, x in network.state_dict().items()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Continue from an average that was saved."""
        self.weights = {name: weights[name].to(x) for name, x in self.weights.items()}

    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        pairs = [(self.weights[name], x) for name, x in network.state_dict().items()]
        moving = [pair for pair in pairs if pair[1].is_floating_point()]
        # a high decay would keep the random weights of the start in the average for long
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_([mean for mean, _ in moving], [x for _, x in moving], 1 - decay)
        counts = [pair for pair in pairs if not pair[1].is_floating_point()]
        copy_all([x for _, x in counts], [mean for mean, _ in counts])

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """The network has the average's weights until the block ends, then its own again."""
        own = {name: x.clone() for name, x in network.state_dict().items()}
        network.load_state_dict(self.weights)
        yield
        network.load_state_dict(own)
