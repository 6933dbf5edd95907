"""Checkpoints of a run: made from the model and its state, written, rotated, found and restored.

A checkpoint to resume from (checkpoints/step-00001000.pt) holds the training field besides what any checkpoint has:

    fingerprint   settings, index, tokenizer and ASR model that a resumed run must share (train/resume.py)
    state         `TrainState`
    optimizer     its state dict
    weights       those that are trained, where the checkpoint's own are their average (EMA); else None
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from train.optim import restore_optimizer
from train.run_dir import RunDir
from train.settings import CheckpointSettings
from train.state import TrainedModel, TrainState
from train.tasks.task import Task


def make_checkpoint(
    model: TrainedModel, state: TrainState, task: Task, fingerprint: Mapping[str, Any] | None = None
) -> Checkpoint:
    """A checkpoint of a run, to resume from if it gets the run's fingerprint; its weights are the average, if any."""
    weights = model.network.state_dict()
    training = {
        "fingerprint": fingerprint,
        "state": asdict(state),
        "optimizer": model.optimizer.state_dict(),
        "weights": None if model.ema is None else weights,
    }
    return Checkpoint(
        settings=model.network.settings,
        weights=weights if model.ema is None else model.ema.weights,
        tokenizer=task.tokenizer,
        step=state.step,
        metrics={f"validation_{name}": value for name, value in state.scores.items()},
        transforms=task.settings.transforms,
        training=None if fingerprint is None else training,
    )


def restore_checkpoint(checkpoint: Checkpoint, model: TrainedModel) -> TrainState:
    """Load a checkpoint of this run into its model; returns the run's state."""
    assert checkpoint.training is not None
    model.network.load_state_dict(checkpoint.training["weights"] or dict(checkpoint.weights))
    restore_optimizer(model.optimizer, checkpoint.training["optimizer"])
    if model.ema is not None:
        model.ema.load(checkpoint.weights)
    return TrainState(**checkpoint.training["state"])


def step_of(path: Path) -> int:
    """The step in a checkpoint's file name."""
    return int(path.stem.removeprefix("step-"))


class Checkpointer:
    """Writes, rotates and finds the checkpoints of a run. Only rank 0 writes."""

    def __init__(self, run_dir: RunDir, settings: CheckpointSettings) -> None:
        self._run_dir, self._settings = run_dir, settings

    def list(self) -> list[Path]:
        """Those to resume from, oldest first."""
        found = self._run_dir.checkpoints.glob("step-*.pt")
        return sorted(path for path in found if re.fullmatch(r"step-\d{8}\.pt", path.name))

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint to resume from; then, and only then, delete the oldest that are not to be kept.

        Raises:
            OSError: it cannot be written; those before it are untouched.
        """
        milestones = self._settings.milestones
        path = self._run_dir.checkpoints / f"step-{checkpoint.step:08}.pt"
        save_checkpoint(path, checkpoint)
        for old in [each for each in self.list() if each <= path][: -self._settings.last]:
            if milestones is None or step_of(old) % milestones:
                old.unlink()
        return path

    def set_best_aside(self, step: int) -> Path | None:
        """Rename the best checkpoint, since from here on the best is measured otherwise; None: there is none."""
        best = self._run_dir.best
        return best.rename(best.with_name(f"best-until-{step:08}.pt")) if best.exists() else None

    def newest(self) -> Path | None:
        """The newest checkpoint that can be read; None: there are none.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """
        damaged = []
        for path in reversed(self.list()):
            try:
                load_checkpoint(path)
                return path
            except CheckpointError as error:
                damaged.append(str(error))
        if damaged:
            raise CheckpointError("; ".join(damaged))
        return None
