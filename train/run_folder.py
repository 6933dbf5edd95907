"""The folder of a run: its checkpoints, its log, and what it was run with.

settings.json              resolved settings, versions, state of the source tree
log.jsonl                  a JSON line a logged step
tensorboard/               the same for TensorBoard
checkpoints/step-00001000.pt, ...   the last few, each enough to go on from
best.pt                    the best by validation
bad-batches.jsonl          steps whose loss or gradient was not finite: their keys
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs.versions import versions_of
from model.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint

_PACKAGES = ("lip-to-speech", "torch", "numpy", "webdataset", "sentencepiece")


def step_of(path: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(path.stem.removeprefix("step-"))


class RunFolder:
    """The files of a run. Only the first rank writes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.log = self.path / "log.jsonl"
        self.best = self.path / "best.pt"
        self.tensorboard = self.path / "tensorboard"
        self.bad_batches = self.path / "bad-batches.jsonl"

    def checkpoints(self) -> list[Path]:
        """Those to go on from, oldest first."""
        found = (self.path / "checkpoints").glob("step-*.pt")
        return sorted(path for path in found if re.fullmatch(r"step-\d{8}\.pt", path.name))

    def save(self, checkpoint: Checkpoint, keep: int) -> Path:
        """Write a checkpoint to go on from; then, and only then, delete the oldest beyond `keep`.

        Raises:
            OSError: it cannot be written; those before it are untouched.
        """
        path = self.path / "checkpoints" / f"step-{checkpoint.step:08}.pt"
        save_checkpoint(path, checkpoint)
        for old in [each for each in self.checkpoints() if each <= path][:-keep]:
            old.unlink()
        return path

    def save_best(self, checkpoint: Checkpoint) -> None:
        """Write the best checkpoint so far, in the place of the one before."""
        save_checkpoint(self.best, checkpoint)

    def newest(self) -> Path | None:
        """The newest checkpoint that can be read; None: there is none to read.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """
        damaged = []
        for path in reversed(self.checkpoints()):
            try:
                load_checkpoint(path)
                return path
            except CheckpointError as error:
                damaged.append(str(error))
        if damaged:
            raise CheckpointError("; ".join(damaged))
        return None

    def go_back(self, step: int) -> None:
        """Drop the logs' lines past a step, and a last line that was not finished: they will be written again. What a
        run left that was killed while it saved goes too."""
        for log in (self.log, self.bad_batches):
            if log.exists():
                unfinished = log.with_suffix(".unfinished")
                unfinished.write_text("".join(_lines_to(log, step)))
                unfinished.replace(log)
        for left in [*self.path.glob(".best.pt.*"), *self.path.glob("checkpoints/.step-*.pt.*")]:
            left.unlink()

    def describe(self, settings: Mapping[str, Any], **more: Any) -> None:
        """Write settings, versions and the state of the source tree beside the log."""
        self.path.mkdir(parents=True, exist_ok=True)
        content = {"settings": settings, "versions": versions_of(_PACKAGES), "source": _source(), **more}
        unfinished = self.path / ".settings.json"
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
        unfinished.replace(self.path / "settings.json")


def _lines_to(log: Path, step: int) -> Iterator[str]:
    for line in log.read_text().splitlines(keepends=True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                yield line
        except (ValueError, KeyError, TypeError):
            continue


def _source() -> dict[str, Any]:
    """The commit of the source tree and whether it was changed; empty where it is no git tree."""
    root = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return {}
    if commit.returncode:
        return {}
    return {"commit": commit.stdout.strip(), "changed": bool(status.stdout.strip())}
