"""Find the checkpoint to resume a run from; refuse it if settings, index, tokenizer or ASR model differ."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import Checkpoint, load_checkpoint
from model.tokenizer import Tokenizer
from runtime.atomic import atomic_write
from runtime.renamed import RENAMED
from shards import Dataset, Store
from shards.format.index import INDEX_NAME
from train.checkpointing import Checkpointer, step_of
from train.init import load_asr
from train.run_dir import RunDir
from train.settings import TrainSettings

log = logging.getLogger(__name__)

_MAY_CHANGE = (
    *("out", "shards", "workers", "cache", "compile", "checkpoint", "validation", "schedule"),
    *("on_error", "max_nonfinite_steps", "init", "init_vsr", "init_asr"),
)
"""Settings that a resumed run may have otherwise: they say where and how long, or have had their effect."""


def find_checkpoint(checkpointer: Checkpointer, run_dir: RunDir, resume: str | None) -> Path | None:
    """The checkpoint that a run resumes from; None: it begins.

    Args:
        checkpointer, run_dir: of the run.
        resume: `auto`, the newest that can be read; the path of one; or None.

    Raises:
        ValueError: there are checkpoints, and resuming is not asked for; or there are later ones than the named.
        CheckpointError: the named one is no checkpoint.
    """
    if resume is None:
        if checkpointer.list():
            raise ValueError(
                f"{run_dir.path}: holds checkpoints of a run: resume it with --resume auto, or name another --out"
            )
        return None
    if resume == "auto":
        return checkpointer.newest()
    chosen = Path(resume)
    step = load_checkpoint(chosen).step
    later = [path.name for path in checkpointer.list() if step_of(path) > step]
    if later:
        raise ValueError(f"{chosen}: there are later checkpoints, {', '.join(later)}: move them away to resume here")
    return chosen


def own_asr(run_dir: RunDir, settings: TrainSettings, resuming: bool) -> str | None:
    """The ASR checkpoint of a run: a copy in its run dir, made when the run begins, since the file that settings name
    may be another by the time the run resumes. For rank 0.

    Raises:
        ValueError: as `load_asr`.
    """
    if settings.init_asr is None:
        return None
    named = Path(settings.init_asr)
    if not resuming:
        load_asr(settings, torch.device("cpu"))
        atomic_write(run_dir.asr, named.read_bytes())
    elif not run_dir.asr.exists():
        return settings.init_asr
    elif not named.is_file() or _sha256(named) != _sha256(run_dir.asr):
        log.info("%s is gone or has changed since this run began: it resumes with its own, %s", named, run_dir.asr)
    return str(run_dir.asr)


def fingerprint_of(settings: TrainSettings, dataset: Dataset, tokenizer: Tokenizer) -> dict[str, Any]:
    """What has to be the same for a run to resume as if it had not stopped."""
    fixed = _flat({name: x for name, x in dataclasses.asdict(settings).items() if name not in _MAY_CHANGE})
    return {
        "settings": json.loads(json.dumps(fixed)),
        "index": dataset.manifest.sha256[INDEX_NAME],
        "tokenizer": hashlib.sha256(tokenizer.model_bytes).hexdigest(),
        "asr": None if settings.init_asr is None else _sha256(Path(settings.init_asr)),
    }


def check_fingerprint(checkpoint: Checkpoint, fingerprint: Mapping[str, Any], where: str) -> None:
    """`ValueError` that names what differs, where a checkpoint is of another run."""
    if checkpoint.training is None:
        raise ValueError(f"{where}: holds weights, but not what a run needs to resume; start from it with --init")
    old = [f"{name} (now {new})" for name, new in RENAMED["training"].items() if name in checkpoint.training]
    if old:
        raise ValueError(f"{where}: of an older version, with the fields {', '.join(old)}; start from it with --init")
    before = checkpoint.training["fingerprint"]
    defaults = json.loads(json.dumps(_flat(dataclasses.asdict(TrainSettings()))))  # of settings that came later
    different = [
        f"{name} was {before['settings'].get(name, defaults[name])!r} and is {value!r}"
        for name, value in fingerprint["settings"].items()
        if before["settings"].get(name, defaults[name]) != value
    ]
    different += [f"another {name}" for name in ("index", "tokenizer", "asr") if before.get(name) != fingerprint[name]]
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


def _sha256(path: Path) -> str:
    return Store(str(path.absolute().parent)).sha256(path.name)
