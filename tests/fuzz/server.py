"""A server that forks command lines: each runs in a process of its own, with limits, a moment after it is asked for.

To import torch and what the commands need of it takes seconds, far more than a command on two clips. The server has
done nothing but that: what it forks begins as `python -m train` does.

    server = CommandServer()
    outcome = server.run(["verify", "data"], program="pipeline", folder=Path("case"))
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

MAX_CPU_SECONDS, MAX_IDLE_SECONDS = 60.0, 20.0
"""Of a command, before it counts as one that hangs: that it computes, and that it computes nothing. Those of a clock
would depend on what else runs on a machine."""

_NO_COMPUTING = 0.5
"""Seconds of a processor within `MAX_IDLE_SECONDS`: what a progress bar takes."""

_ADDRESS_SPACE = 6 << 30
"""Bytes that a command may map beyond the server's own, which keeps a machine alive; what is judged is the peak."""

_FILE_BYTES = 1 << 30
"""Of a file that a command writes."""

_PRINTED_BYTES = 1 << 20
"""Of what a command printed, that are looked at."""


@dataclass(frozen=True)
class Outcome:
    """What came of a command.

    Attributes:
        status: its exit status; negative: the signal that ended it.
        hung: it was killed, since it computed for too long, or not at all.
        seconds: that it took.
        peak_mb: its peak of resident memory, without what it shares with the server.
        out, err: what it printed.
    """

    status: int
    hung: bool
    seconds: float
    peak_mb: int
    out: bytes
    err: bytes


class CommandServer:
    """Runs command lines one after the other, each forked from a process that has imported all that they need."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.server"],
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt from the keyboard is for the one that asks
        )

    def __enter__(self) -> CommandServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, program: str, arguments: Sequence[str], folder: Path) -> Outcome:
        """Run a command line in a folder. Beside the folder lie what it prints, its home and its temporary files."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"program": program, "arguments": list(arguments), "folder": str(folder)}
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the server of commands ended with {self._process.wait()}")
        out, err = (_printed(folder.parent / name) for name in ("out", "err"))
        return Outcome(**json.loads(answer), out=out, err=err)


def _printed(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_PRINTED_BYTES)


@dataclass(frozen=True)
class _Ended:
    """`Outcome` without what is in files."""

    status: int
    hung: bool
    seconds: float
    peak_mb: int


def serve() -> None:
    """Answer requests, a line of JSON each, until there are no more."""
    programs = _programs()
    gc.collect()
    gc.freeze()  # what is shared stays so
    shared, mapped = _memory()
    for line in sys.stdin:
        request = json.loads(line)
        began = time.monotonic()
        pid = os.fork()
        if not pid:
            _be_the_command(programs[request["program"]], request, mapped)
        ended = _wait(pid, began, shared)
        with suppress(BrokenPipeError):  # who asked has ended
            print(json.dumps(asdict(ended)), flush=True)


def _wait(pid: int, began: float, shared: int) -> _Ended:
    watched = os.pidfd_open(pid)
    computed, since, hung = 0.0, began, False
    while not hung and not select.select([watched], [], [], 1.0)[0]:
        now, used = time.monotonic(), _cpu_seconds(pid)
        computed, since = (used, now) if used > computed + _NO_COMPUTING else (computed, since)
        hung = computed > MAX_CPU_SECONDS or now - since > MAX_IDLE_SECONDS
    os.close(watched)
    if hung:
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # what it started
    seconds = round(time.monotonic() - began, 3)
    return _Ended(os.waitstatus_to_exitcode(status), hung, seconds, max(0, usage.ru_maxrss - shared) >> 10)


def _cpu_seconds(pid: int) -> float:
    """Of a process and of those it started that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _memory() -> tuple[int, int]:
    """Kilobytes of this process: that a fork shares with it, and that are mapped."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]), int(lines["VmSize"].split()[0])


def _programs() -> dict[str, Callable[[list[str]], int]]:
    """The commands by name, with all that they import while they run."""
    import torch._dynamo
    import torch.utils.tensorboard  # noqa: F401

    import eval.__main__
    import eval.metrics.pool
    import model.__main__
    import pipeline.build
    import pipeline.build_tables
    import pipeline.cli
    import pipeline.info
    import pipeline.preview
    import pipeline.tokenizer
    import pipeline.tracking
    import pipeline.tracking.calibrate
    import pipeline.tracking.track_folder
    import pipeline.verify
    import train.__main__

    return {
        "pipeline": pipeline.cli.main,
        "train": train.__main__.main,
        "eval": eval.__main__.main,
        "model": model.__main__.main,
    }


def _be_the_command(main: Callable[[list[str]], int], request: dict[str, Any], mapped: int) -> None:
    """End this process as a command does."""
    status = 1
    try:
        _prepare(Path(request["folder"]), mapped)
        status = _status_of(main, request["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _prepare(folder: Path, mapped: int) -> None:
    os.setsid()
    os.chdir(folder)
    sys.path.insert(0, "")  # as `python -m` has it: a module that a file names would be found
    beside = folder.parent
    for descriptor, name in ((1, "out"), (2, "err")):
        opened = os.open(beside / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    for name in ("home", "temporary"):
        (beside / name).mkdir(exist_ok=True)
    os.environ.update({"HOME": str(beside / "home"), "TMPDIR": str(beside / "temporary"), "COLUMNS": "200"})
    space = (mapped << 10) + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))


def _status_of(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    """What Python's own end of a program makes of a command."""
    try:
        return main(arguments)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    return 1


if __name__ == "__main__":
    serve()
