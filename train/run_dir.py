"""The run dir: a run's logs, its checkpoints, and what it was run with (docs/training.md, Files of a run)."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from runtime.atomic import atomic_write
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
    try:
        return {"commit": _git("rev-parse", "HEAD"), "changed": bool(_git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(*arguments: str) -> str:
    git = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(git, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
