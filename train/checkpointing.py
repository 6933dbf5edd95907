"""Checkpoints of a run: written, rotated, found, and restored to resume from, unless they are of another run.

A checkpoint to resume from (checkpoints/step-00001000.pt) holds the training field besides what any checkpoint has:

    fingerprint   settings, index, tokenizer and frozen networks that a resumed run must share
    state         `TrainState`
    optimizer     its state dict
    weights       those that are trained, where the checkpoint's own are their average (EMA); else None
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoint import Checkpoint, CheckpointError, check_weights, load_checkpoint, save_checkpoint
from model.tokenizer import Tokenizer
from shards import Dataset, Store
from shards.format.index_bytes import INDEX_NAME
from train.optim import restore_optimizer
from train.run_dir import RunDir
from train.settings import CheckpointSettings, TrainSettings
from train.state import TrainedModel, TrainState
from train.stored_training import read_training
from train.tasks.task import Task

log = logging.getLogger(__name__)

_MAY_CHANGE = (
    *("out", "shards", "threads", "workers", "loader_timeout", "rank_timeout", "cache", "compile", "checkpoint"),
    *("validation", "schedule", "on_error", "max_skipped_share", "max_nonfinite_steps"),
    *("init", "init_vsr", "init_asr", "init_lip2speech"),
)
"""Settings that a resumed run may have otherwise: they say where and how long, or have had their effect."""


def make_checkpoint(
    model: TrainedModel, state: TrainState, task: Task, fingerprint: Mapping[str, Any] | None = None
) -> Checkpoint:
    """A checkpoint of a run, to resume from if it gets the run's fingerprint; its weights are the average, if any."""
    weights = model.network.state_dict()
    training = {
        "fingerprint": fingerprint,
        "state": dataclasses.asdict(state),
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


def restore_checkpoint(checkpoint: Checkpoint, model: TrainedModel, where: str | Path) -> TrainState:
    """Load a checkpoint of this run into its model; returns the run's state.

    Raises:
        CheckpointError: weights, optimizer or state are not of such a run; it says `where` they come from.
    """
    stored = read_training(checkpoint, where)
    if (stored.weights is None) != (model.ema is None):
        raise CheckpointError(
            f"{where}: training.weights: expected where the weights are averaged (ema), and only there"
        )
    trained = checkpoint.weights if stored.weights is None else stored.weights
    for weights in (checkpoint.weights, trained):
        check_weights(model.network, weights, where)
    model.network.load_state_dict(dict(trained))
    try:
        restore_optimizer(model.optimizer, vars(stored.optimizer))
    except ValueError as error:
        raise CheckpointError(f"{where}: training: {error}") from error
    if model.ema is not None:
        model.ema.load(checkpoint.weights)
    return stored.state


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


class Checkpointer:
    """Writes, rotates and finds the checkpoints of a run. Only rank 0 writes."""

    def __init__(self, run_dir: RunDir, settings: CheckpointSettings) -> None:
        self._run_dir, self._settings = run_dir, settings

    def list(self) -> list[Path]:
        """Those to resume from, oldest first."""
        return sorted(self._run_dir.checkpoints.glob(f"step-{8 * '[0-9]'}.pt"))

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint to resume from; then, and only then, delete the oldest that are not to be kept."""
        milestones = self._settings.milestones
        path = self._run_dir.checkpoints / f"step-{checkpoint.step:08}.pt"
        save_checkpoint(path, checkpoint)
        for old in [each for each in self.list() if each <= path][: -self._settings.last]:
            if milestones is None or _step_of(old) % milestones:
                old.unlink()
        return path

    def set_best_aside(self, step: int) -> Path | None:
        """Rename the best checkpoint, since from here on the best is measured otherwise; None: there is none."""
        best = self._run_dir.best
        return best.rename(best.with_name(f"best-until-{step:08}.pt")) if best.exists() else None

    def find(self, resume: str | None) -> Path | None:
        """The checkpoint that a run resumes from; None: it begins.

        Args:
            resume: `auto`, the newest that can be read; the path of one; or None.

        Raises:
            ValueError: there are checkpoints, and resuming is not asked for; or there are later ones than the named.
            CheckpointError: the named one is no checkpoint, or all that there are are damaged.
        """
        found, damaged = self.list(), []
        if resume is None and found:
            where = self._run_dir.path
            raise ValueError(
                f"{where}: holds checkpoints of a run: resume it with --resume auto, or name another --out"
            )
        if resume == "auto":
            for path in reversed(found):
                try:
                    read_training(load_checkpoint(path), path)
                    return path
                except CheckpointError as error:
                    log.warning("%s; trying the one before it", error)
                    damaged.append(str(error))
            if damaged:
                raise CheckpointError("; ".join(damaged))
        if resume in (None, "auto"):
            return None
        step = load_checkpoint(resume).step
        later = [path.name for path in found if _step_of(path) > step]
        if later:
            raise ValueError(
                f"{resume}: there are later checkpoints, {', '.join(later)}: move them away to resume here"
            )
        return Path(resume)


def fingerprint_of(settings: TrainSettings, dataset: Dataset, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """What has to be the same for a run to resume as if it had not stopped."""
    fixed = _flat({name: x for name, x in dataclasses.asdict(settings).items() if name not in _MAY_CHANGE})
    return {
        "settings": json.loads(json.dumps(fixed)),
        "index": dataset.manifest.sha256[INDEX_NAME],
        "tokenizer": None if tokenizer is None else hashlib.sha256(tokenizer.model_bytes).hexdigest(),
        "asr": None if settings.init_asr is None else sha256_of(settings.init_asr),
        "lip2speech": None if settings.init_lip2speech is None else sha256_of(settings.init_lip2speech),
    }


def check_fingerprint(checkpoint: Checkpoint, fingerprint: Mapping[str, Any], where: str) -> None:
    """`ValueError` that names what differs, where a checkpoint is of another run."""
    before = read_training(checkpoint, where).fingerprint
    defaults = json.loads(json.dumps(_flat(dataclasses.asdict(TrainSettings()))))  # of settings that came later
    different = [
        f"{name} was {reprlib.repr(before.settings.get(name, defaults[name]))} and is {value!r}"
        for name, value in fingerprint["settings"].items()
        if before.settings.get(name, defaults[name]) != value
    ]
    others = ("index", "tokenizer", "asr", "lip2speech")
    different += [f"another {name}" for name in others if getattr(before, name) != fingerprint[name]]
    if different:
        raise ValueError(
            f"{where}: of another run: {'; '.join(different)}. Give this one another --out, or start it from those "
            "weights with --init"
        )


def _flat(values: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Nested settings as `section.name: value`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{section}{name}.") if isinstance(value, dict) else {f"{section}{name}": value}
    return found


def sha256_of(path: str | Path) -> str:
    """The checksum of a local file."""
    return Store(str(Path(path).absolute().parent)).sha256(Path(path).name)
