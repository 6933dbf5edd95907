"""The run dir: a run's logs, its checkpoints, and what it was run with (docs/training.md, Files of a run)."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, Any

from runtime.atomic import atomic_write
from runtime.limits import MAX_LOG_BYTES
from runtime.regular_file import open_in_place, read_regular
from runtime.versions import versions_of

log = logging.getLogger(__name__)

_PACKAGES = ("lip-to-speech", "torch", "numpy", "webdataset", "sentencepiece")


class RunDir:
    """The files of a run. Only rank 0 writes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best.pt"
        self.asr = self.path / "asr.pt"
        self.lip2speech = self.path / "lip2speech.pt"
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
        with _opened(self.path / "lock", "a+") as file:
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
                with suppress(FileNotFoundError):  # somebody may have deleted it
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
        will be written again. Temporary files of a process that was killed while it saved are deleted too.

        Raises:
            ValueError, OSError: a log is no regular file, or cannot be read or written; names it.
        """
        for path in (self.log, self.bad_batches, self.skipped):
            if path.exists():
                _truncate(path, step, validated_step)
        for left in [*self.path.glob(".best.pt.*"), *self.checkpoints.glob(".step-*.pt.*")]:
            left.unlink()

    def describe(self, settings: Mapping[str, Any], **more: Any) -> None:
        """Write settings, versions and the state of the source tree to settings.json."""
        content = {"settings": settings, "versions": versions_of(_PACKAGES), "source": _source(), **more}
        atomic_write(self.path / "settings.json", json.dumps(content, indent=1) + "\n")


def append_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append records to a file, a JSON line each.

    Raises:
        ValueError, OSError: it is no regular file or a link, its folder is gone, or the disk is full; names it.
    """
    try:
        with _opened(path, "a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # a write to a full disk does not say which file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of such a file, each with its `step`; lines of another form are passed over. Raises as
    `append_lines`; none where there is no file."""
    return [record for line in _lines_of(path) if (record := _record_of(line)) is not None] if path.exists() else []


def _opened(path: Path, mode: str) -> IO[str]:
    """A file of the run dir, open for appending. A link would have another file written to, a FIFO be waited for."""
    return open(path, mode, encoding="utf-8", opener=lambda name, _: open_in_place(name, append=True))


def _truncate(path: Path, step: int, validated_step: int) -> None:
    lines = _lines_of(path)
    records = [_record_of(line) for line in lines]
    damaged = sum(record is None and line.endswith(b"\n") for line, record in zip(lines, records, strict=True))
    if damaged:
        aside = path.with_name(f"{path.name}.damaged")
        log.warning(
            "%s: %d lines are none that training wrote: dropped, the file as it was is %s", path, damaged, aside
        )
        atomic_write(aside, b"".join(lines))
    kept = []
    for line, record in zip(lines, records, strict=True):
        last = validated_step if record is not None and record.get("kind") == "validation" else step
        if record is not None and line.endswith(b"\n") and record["step"] <= last:
            kept.append(line)
    atomic_write(path, b"".join(kept))


def _lines_of(path: Path) -> list[bytes]:
    return read_regular(path, MAX_LOG_BYTES).splitlines(keepends=True)


def _record_of(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


def _source() -> dict[str, Any]:
    """The commit of the source tree and whether it was changed; empty where it is no git tree."""
    try:
        return {"commit": _git("rev-parse", "HEAD"), "changed": bool(_git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(*arguments: str) -> str:
    git = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(git, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
