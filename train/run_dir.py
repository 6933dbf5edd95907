"""The run dir: where a run keeps its logs, its checkpoints, and what it was run with.

settings.json              resolved settings, versions, state of the source tree
log.jsonl                  a JSON line a logged step
tensorboard/               the same for TensorBoard
checkpoints/step-00001000.pt, ...   the last few, and milestones, each enough to resume from (train/checkpointing.py)
best.pt                    the best by validation
asr.pt                     the ASR model of the output content loss, as it was when the run began
bad-batches.jsonl          steps whose loss or gradient was not finite: their keys
skipped.jsonl              clips that could not be read, and why
earlier-1, ...             what a run without checkpoints left here before another began
lock                       held by the process that writes here
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from runtime.atomic import atomic_path, atomic_write
from runtime.versions import versions_of

_PACKAGES = ("lip-to-speech", "torch", "numpy", "webdataset", "sentencepiece")


class RunDir:
    """The files of a run. Only rank 0 writes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best.pt"
        self.asr = self.path / "asr.pt"
        self.log = self.path / "log.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.bad_batches = self.path / "bad-batches.jsonl"
        self.skipped = self.path / "skipped.jsonl"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of the run dir until the block ends.

        Raises:
            ValueError: another process holds the lock.
            OSError: the folder cannot be made.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+") as file:
            try:
                # not flock: loader workers that outlive this process would still hold that
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                file.seek(0)
                raise ValueError(f"{self.path}: {file.read().strip() or 'another process'} trains into it") from error
            except OSError:
                pass  # a file system without locks
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            try:
                yield
            finally:
                if os.listdir(self.path) == ["lock"]:  # an error came before anything was written
                    (self.path / "lock").unlink()
                    self.path.rmdir()

    def set_aside(self) -> Path | None:
        """Move what a run without checkpoints left into a folder of its own; returns that, None: nothing was left."""
        left = [path for path in (self.best, self.log, self.bad_batches, self.skipped) if path.exists()]
        if not left:
            return None
        aside = next(path for path in (self.path / f"earlier-{n}" for n in count(1)) if not path.exists())
        aside.mkdir()
        for path in left:
            path.rename(aside / path.name)
        return aside

    def copy_asr(self, source: Path) -> None:
        """Copy a checkpoint, so that the run has it whatever becomes of that file."""
        with atomic_path(self.asr) as path:
            shutil.copyfile(source, path)

    def truncate_logs(self, step: int, validated_step: int) -> None:
        """Drop the logs' lines past a step, those of later validations, and a last line that was not finished: they
        will be written again. Temporary files of a process that was killed while it saved are deleted too."""
        for log in (self.log, self.bad_batches, self.skipped):
            if log.exists():
                atomic_write(log, "".join(_lines_to(log, step, validated_step)))
        for left in [*self.path.glob(".best.pt.*"), *self.checkpoints.glob(".step-*.pt.*")]:
            left.unlink()

    def describe(self, settings: Mapping[str, Any], **more: Any) -> None:
        """Write settings, versions and the state of the source tree to settings.json."""
        content = {"settings": settings, "versions": versions_of(_PACKAGES), "source": _source(), **more}
        atomic_write(self.path / "settings.json", json.dumps(content, indent=1) + "\n")


def append_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append records to a file, a JSON line each."""
    with path.open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def _lines_to(log: Path, step: int, validated_step: int) -> Iterator[str]:
    for line in log.read_text().splitlines(keepends=True):
        try:
            content = json.loads(line)
            last = validated_step if content.get("kind") == "validation" else step
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
