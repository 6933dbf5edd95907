"""The folder of a run: its checkpoints, its log, and what it was run with.

settings.json              resolved settings, versions, state of the source tree
log.jsonl                  a JSON line a logged step
tensorboard/               the same for TensorBoard
checkpoints/step-00001000.pt, ...   the last few, and milestones, each enough to go on from
best.pt                    the best by validation
asr.pt              the recogniser of the output content loss, as it was when the run began
bad-batches.jsonl          steps whose loss or gradient was not finite: their keys
skipped.jsonl              clips that could not be read, and why
earlier-1, ...             what was here of a run without checkpoints when another began
lock                       held by the process that writes here
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from model.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from runtime.atomic import atomic_path, atomic_write
from runtime.versions import versions_of

_PACKAGES = ("lip-to-speech", "torch", "numpy", "webdataset", "sentencepiece")


def step_of(path: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(path.stem.removeprefix("step-"))


class RunDir:
    """The files of a run. Only the first rank writes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.log = self.path / "log.jsonl"
        self.best = self.path / "best.pt"
        self.recogniser = self.path / "asr.pt"
        self.tensorboard = self.path / "tensorboard"
        self.bad_batches = self.path / "bad-batches.jsonl"
        self.skipped = self.path / "skipped.jsonl"

    def checkpoints(self) -> list[Path]:
        """Those to go on from, oldest first."""
        found = (self.path / "checkpoints").glob("step-*.pt")
        return sorted(path for path in found if re.fullmatch(r"step-\d{8}\.pt", path.name))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out of the folder until the block ends.

        Raises:
            ValueError: another process has it.
            OSError: the folder cannot be made.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process alone: its children do not hold it
            except (BlockingIOError, PermissionError) as error:
                lock.seek(0)
                raise ValueError(f"{self.path}: {lock.read().strip() or 'another process'} trains into it") from error
            except OSError:
                pass  # a file system without locks
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
            try:
                yield
            finally:
                if os.listdir(self.path) == ["lock"]:  # nothing was begun
                    (self.path / "lock").unlink()
                    self.path.rmdir()

    def set_aside(self) -> Path | None:
        """Move what a run without checkpoints left into a folder of its own, since another begins; None: nothing."""
        left = [path for path in (self.best, self.log, self.bad_batches, self.skipped) if path.exists()]
        if not left:
            return None
        aside = next(path for path in (self.path / f"earlier-{n}" for n in count(1)) if not path.exists())
        aside.mkdir()
        for path in left:
            path.rename(aside / path.name)
        return aside

    def keep_best_apart(self, step: int) -> Path | None:
        """Rename the best checkpoint, since from here on the best is measured otherwise; None: there is none."""
        if not self.best.exists():
            return None
        return self.best.rename(self.path / f"best-until-{step:08}.pt")

    def save(self, checkpoint: Checkpoint, keep: int, milestones: int | None = None) -> Path:
        """Write a checkpoint to go on from; then, and only then, delete the oldest beyond `keep` but for milestones.

        Raises:
            OSError: it cannot be written; those before it are untouched.
        """
        path = self.path / "checkpoints" / f"step-{checkpoint.step:08}.pt"
        save_checkpoint(path, checkpoint)
        for old in [each for each in self.checkpoints() if each <= path][:-keep]:
            if milestones is None or step_of(old) % milestones:
                old.unlink()
        return path

    def keep_recogniser(self, source: Path) -> None:
        """Copy a checkpoint, so that the run has it whatever becomes of that file."""
        with atomic_path(self.recogniser) as path:
            shutil.copyfile(source, path)

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

    def go_back(self, step: int, validated: int) -> None:
        """Drop the logs' lines past a step, those of later validations, and a last line that was not finished: they
        will be written again. What a run left that was killed while it saved goes too."""
        for log in (self.log, self.bad_batches, self.skipped):
            if log.exists():
                atomic_write(log, "".join(_lines_to(log, step, validated)))
        for left in [*self.path.glob(".best.pt.*"), *self.path.glob("checkpoints/.step-*.pt.*")]:
            left.unlink()

    def describe(self, settings: Mapping[str, Any], **more: Any) -> None:
        """Write settings, versions and the state of the source tree beside the log."""
        content = {"settings": settings, "versions": versions_of(_PACKAGES), "source": _source(), **more}
        atomic_write(self.path / "settings.json", json.dumps(content, indent=1) + "\n")


def _lines_to(log: Path, step: int, validated: int) -> Iterator[str]:
    for line in log.read_text().splitlines(keepends=True):
        try:
            content = json.loads(line)
            last = validated if content.get("kind") == "validation" else step
            if line.endswith("\n") and content["step"] <= last:
                yield line
        except (ValueError, KeyError, TypeError, AttributeError):
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
