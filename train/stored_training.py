"""What a checkpoint keeps to resume a run, checked when it is read: its form, its numbers, the optimizer's tensors.

Whoever takes it over then need not ask: nothing of another form, shape or type comes further than this.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoint import Checkpoint, CheckpointError, check_weights, empty_network
from runtime.renamed import RENAMED
from runtime.stored_json import Sha256, convert
from train.state import TrainState

_MOMENTS = frozenset({"exp_avg", "exp_avg_sq", "max_exp_avg_sq"})


@dataclass(frozen=True)
class StoredFingerprint:
    """See `train.checkpointing.fingerprint_of`."""

    settings: dict[str, Any]
    index: Sha256
    tokenizer: Sha256 | None
    asr: Sha256 | None
    lip2speech: Sha256 | None = None


@dataclass(frozen=True)
class StoredOptimizer:
    """The state dict of an optimizer: tensors by the number of their parameter, and one group of all parameters."""

    state: dict[int, dict[str, Any]]
    param_groups: list[dict[str, Any]]


@dataclass(frozen=True)
class StoredTraining:
    """The field `training` of a checkpoint (`train.checkpointing`)."""

    fingerprint: StoredFingerprint
    state: TrainState
    optimizer: StoredOptimizer
    weights: dict[str, Any] | None


def read_training(checkpoint: Checkpoint, where: str | Path) -> StoredTraining:
    """What a checkpoint keeps to resume from.

    Raises:
        ValueError: it keeps nothing, or is of an older version.
        CheckpointError: it is damaged, or was never written by training; names file, field, found and expected.
    """
    found = checkpoint.training
    if found is None:
        raise ValueError(f"{where}: holds weights, but not what a run needs to resume; start from it with --init")
    old = [f"{name} (now {new})" for name, new in RENAMED["training"].items() if name in found]
    if old:
        raise ValueError(f"{where}: of an older version, with the fields {', '.join(old)}; start from it with --init")
    try:
        for kind, values, place in ((StoredTraining, found, "training"), (TrainState, found.get("state"), "state")):
            names = {field.name for field in dataclasses.fields(kind)}
            if isinstance(values, Tensor):  # msgspec would take it for an empty mapping
                raise ValueError(f"training: {place}: Expected object, got Tensor")
            if isinstance(values, Mapping) and (unknown := sorted(map(str, set(values) - names))):
                raise ValueError(f"{place}: unknown field {', '.join(unknown[:5])}: of a later version, or changed")
        stored = convert(found, StoredTraining, "training")
        _check_state(stored.state, checkpoint.step)
        network = empty_network(checkpoint)
        for weights in (checkpoint.weights, stored.weights):
            if weights is not None:
                check_weights(network, weights, "training.weights" if weights is stored.weights else "weights")
        _check_optimizer(stored.optimizer, stored.state, network)
    except ValueError as error:
        raise CheckpointError(f"{where}: its training state cannot be used: {error}") from error
    return stored


def _check_state(state: TrainState, step: int) -> None:
    def check(fits: bool, name: str, expected: str) -> None:
        if not fits:
            raise ValueError(f"training: state.{name} is {getattr(state, name)!r}, and {expected} was expected")

    check(state.step == step, "step", f"that of the checkpoint, {step},")
    check(state.epoch - 1 <= state.step, "epoch", f"at most one more than the {state.step} steps")
    check(state.step_in_epoch <= state.step, "step_in_epoch", f"at most the {state.step} steps")
    check(state.validated_step <= state.step, "validated_step", f"at most the {state.step} steps")
    check(state.nonfinite_steps <= state.step, "nonfinite_steps", f"at most the {state.step} steps")
    check(state.nonfinite_in_a_row <= state.nonfinite_steps, "nonfinite_in_a_row", "at most nonfinite_steps")
    check(state.skipped_clips < math.inf, "skipped_clips", "a number")
    check(state.best is None or math.isfinite(state.best), "best", "a number")
    check(all(map(math.isfinite, state.loss_sums.values())), "loss_sums", "a number of each")
    check(all(0 <= x < math.inf for x in state.loss_counts.values()), "loss_counts", "0 or more of each")
    check(state.loss_counts.keys() == state.loss_sums.keys(), "loss_counts", "one of each of loss_sums")


def _check_optimizer(stored: StoredOptimizer, state: TrainState, network: nn.Module) -> None:
    parameters = list(network.parameters())
    numbers = list(range(len(parameters)))
    groups = [group.get("params") for group in stored.param_groups]
    if groups != [numbers]:
        raise ValueError(f"training: optimizer.param_groups: one group of {len(numbers)} parameters was expected")
    updated = state.step - state.nonfinite_steps - state.skipped_clips > 0
    if sorted(stored.state) != numbers and (stored.state or updated):
        raise ValueError(f"training: optimizer.state is of {len(stored.state)} parameters, and the network has others")
    for number, kept in stored.state.items():
        for name, x in kept.items():
            shape = parameters[number].shape if name in _MOMENTS else torch.Size([])
            field = f"training: optimizer.state.{number}.{name[:50]}"
            if name not in _MOMENTS | {"step"}:
                raise ValueError(f"{field} is not known")
            if not isinstance(x, Tensor) or x.shape != shape or x.dtype != torch.float32:
                found = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
                raise ValueError(f"{field} is {found}, and torch.float32 {tuple(shape)} was expected")
            if name != "exp_avg" and x.numel() and float(x.min()) < 0:
                raise ValueError(f"{field} holds {float(x.min()):g}, and 0 or more was expected")
        if missing := {"step", "exp_avg", "exp_avg_sq"} - kept.keys():
            raise ValueError(f"training: optimizer.state.{number}: {', '.join(sorted(missing))} is missing")
        if not float(kept["step"]) <= state.step:
            raise ValueError(f"training: optimizer.state.{number}.step is above state.step, {state.step}")
