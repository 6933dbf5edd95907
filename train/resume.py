"""What a run goes on from, and whether it is of the same run: settings, index and tokenizer decide.

What does not match is an error that names it; nothing is loaded in part without a word.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import Checkpoint, load_checkpoint
from model.tokenizer import Tokenizer
from shards import Dataset, Store
from shards.format.index import INDEX_NAME
from train.init import load_asr
from train.run_dir import RunDir, step_of
from train.settings import TrainSettings
from train.state import Run

_MAY_CHANGE = (
    *(
        "out",
        "shards",
        "workers",
        "cache",
        "compile",
        "checkpoint",
        "validation",
        "schedule",
        "on_error",
        "max_nonfinite_steps",
    ),
    *("init", "init_vsr", "init_asr"),
)
"""Settings that a resumed run may have otherwise: they say where and how long, or have had their effect."""


def to_go_on_from(folder: RunDir, resume: str | None) -> Path | None:
    """The checkpoint that a run goes on from; None: it begins.

    Args:
        folder: of the run.
        resume: `auto`, the newest that can be read; the name of one; or None.

    Raises:
        ValueError: there are checkpoints, and nothing is said of going on; or there are later ones than the named.
        CheckpointError: the named one is no checkpoint.
    """
    if resume is None:
        if folder.checkpoints():
            raise ValueError(
                f"{folder.path}: there is a run with checkpoints: go on with --resume auto, or name another --out"
            )
        return None
    if resume == "auto":
        return folder.newest()
    chosen = Path(resume)
    step = load_checkpoint(chosen).step
    later = [path.name for path in folder.checkpoints() if step_of(path) > step]
    if later:
        raise ValueError(
            f"{chosen}: there are later checkpoints, {', '.join(later)}: move them away to go on from here"
        )
    return chosen


def asr_checkpoint_of(folder: RunDir, settings: TrainSettings, begins: bool, say: Callable[[str], None]) -> str | None:
    """The recogniser that a run listens with: a copy of the one that is named, made when the run begins, since that
    file may be another by the time it goes on. The first rank's work.

    Raises:
        ValueError: as `load_asr`.
    """
    if settings.init_asr is None:
        return None
    named = Path(settings.init_asr)
    if begins:
        load_asr(settings, torch.device("cpu"))
        folder.keep_recogniser(named)
    elif not folder.recogniser.exists():
        return settings.init_asr
    elif not named.is_file() or _digest(named) != _digest(folder.recogniser):
        say(f"{named} is gone or has changed since this run began: it goes on with its own, {folder.recogniser}")
    return str(folder.recogniser)


def go_on(run: Run, where: Path, say: Callable[[str], None]) -> None:
    """Restore a run from a checkpoint of the same run.

    Raises:
        ValueError: it is of another.
        CheckpointError: it is no checkpoint.
    """
    checkpoint = load_checkpoint(where)
    check_identity(checkpoint, run.identity, str(where))
    run.restore(checkpoint)
    say(f"going on from {where}")
    place = run.place
    if place.best_of != run.measured_on:
        kept = run.ranks.first_does(lambda: run.folder.keep_best_apart(place.step))
        if kept is not None:
            say(f"the best so far was by {place.best_of}: it is {kept}; from here it is by {run.measured_on}")
        place.best, place.best_of = None, run.measured_on


def identity_of(settings: TrainSettings, dataset: Dataset, tokenizer: Tokenizer) -> dict[str, Any]:
    """What has to be the same for a run to go on as if it had not stopped."""
    task = _leaves({name: x for name, x in dataclasses.asdict(settings).items() if name not in _MAY_CHANGE})
    return {
        "task": json.loads(json.dumps(task)),
        "index": dataset.manifest.sha256[INDEX_NAME],
        "tokenizer": hashlib.sha256(tokenizer.model_bytes).hexdigest(),
        "recogniser": None if settings.init_asr is None else _digest(Path(settings.init_asr)),
    }


def _leaves(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings as `section.name: value`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _leaves(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return found


def _digest(path: Path) -> str:
    return Store(str(path.absolute().parent)).sha256(path.name)


def check_identity(checkpoint: Checkpoint, identity: Mapping[str, Any], where: str) -> None:
    """`ValueError` that names what differs, where a checkpoint is of another run."""
    if checkpoint.training is None:
        raise ValueError(f"{where}: it has weights, but not what a run needs to go on; start from it with --init")
    before = checkpoint.training["identity"]
    default = json.loads(json.dumps(_leaves(dataclasses.asdict(TrainSettings()))))  # of settings that came later
    different = [
        f"{name} was {before['task'].get(name, default[name])!r} and is {value!r}"
        for name, value in identity["task"].items()
        if before["task"].get(name, default[name]) != value
    ]
    different += [
        f"another {name}" for name in ("index", "tokenizer", "recogniser") if before.get(name) != identity[name]
    ]
    if different:
        raise ValueError(
            f"{where}: of another run: {'; '.join(different)}. Give this one another --out, or start it from those "
            "weights with --init"
        )
