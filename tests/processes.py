"""Watch and kill processes that a test started, by process id; nothing else on the machine is touched."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LISTENS = "0A"
"""Of TCP's states in /proc/net."""


def wait_for(condition: Callable[[], Value], what: str, seconds: float = 90.0) -> Value:
    """The first true value of `condition`, asked again and again; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


def descendants(pid: int) -> list[int]:
    """Processes that `pid` started, and those that they did, as far as they still run."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # the command, in brackets, may hold blanks: what follows the last bracket is state and parent
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        started = children.get(waiting.pop(), [])
        found += started
        waiting += started
    return found


def title(pid: int) -> str:
    """The command line of a process, which Ray sets to the task that a worker runs; empty if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
    return ""


def environment(pid: int) -> dict[str, str]:
    """Environment variables that a process was started with; none if it is gone."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        return dict(line.split("=", 1) for line in lines if "=" in line)
    return {}


def listening(pids: Iterable[int]) -> dict[int, list[Address]]:
    """Addresses where processes take TCP connections or UDP packets, by process id; each has at least one."""
    bound: dict[str, Address] = {}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            local, state, inode = fields[1], fields[3], fields[9]
            if state == _LISTENS or table.startswith("udp"):
                words = bytes.fromhex(local.partition(":")[0])  # of 32 bits, each in the order of the machine
                packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                bound[inode] = ipaddress.ip_address(packed)
    found: dict[int, list[Address]] = {}
    for pid in pids:
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    inode = os.readlink(descriptor).removeprefix("socket:[").removesuffix("]")
                    if inode in bound:
                        found.setdefault(pid, []).append(bound[inode])
    return found


def is_loopback(address: Address) -> bool:
    """Whether only processes of this machine reach an address."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def workers_at(task: str, parent: int) -> list[int]:
    """Ray workers below `parent` that are running `task` right now."""
    return [pid for pid in descendants(parent) if title(pid).startswith(f"ray::{task}")]


def freeze_worker(task: str, parent: int) -> int:
    """Stop a worker in the middle of `task`, so that what happens next surely meets it at work; returns its id."""

    def frozen() -> int | None:
        for pid in workers_at(task, parent):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                if title(pid).startswith(f"ray::{task}"):
                    return pid
                os.kill(pid, signal.SIGCONT)
        return None

    return wait_for(frozen, f"a worker at {task}") or 0


def end(process: subprocess.Popen[str], started: list[int]) -> None:
    """Kill a process and those it started, and wait until none of them runs."""
    for pid in (process.pid, *started):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(alive(pid) for pid in started), "the processes of a test to end")
