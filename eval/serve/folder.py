"""The folder of a running page: uploads and results lie there, and are gone when the page ends, however it ends.

A killed process removes nothing. So a small process of its own waits for the end of the server, which it notices by a
pipe that closes, kills the server's workers and removes the folder. Should it be killed as well, the next server to
start removes what is left: folders that nobody holds the lock of.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "lip-to-speech-page-"
_LOCK = "lock"
_YOUNG_SECONDS = 60.0
"""A folder that young may be about to be locked."""

# reads lines `+pid` and `-pid` of workers, each the leader of a session of its own, until its standard input ends
_CARETAKER = """
import os, select, shutil, signal, sys, time
workers = {}
for line in sys.stdin:
    pid = int(line[1:])
    if line[0] == "+":
        try: workers[pid] = os.pidfd_open(pid)
        except (OSError, AttributeError): pass
    elif pid in workers:
        os.close(workers.pop(pid))
for pid, descriptor in workers.items():
    if not select.select([descriptor], [], [], 0)[0]:
        try: os.killpg(pid, signal.SIGKILL)
        except OSError: pass
        select.select([descriptor], [], [], 5)
for _ in range(50):
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    if not os.path.exists(sys.argv[1]): break
    time.sleep(0.1)
"""


class PageFolder:
    """The folder, while it is there.

    Attributes:
        path: of the folder, readable by its owner only.
    """

    def __init__(self, path: Path, caretaker: subprocess.Popen[str]) -> None:
        self.path = path
        self._caretaker = caretaker

    def started(self, pid: int) -> None:
        """A worker, leader of a session of its own, was started; it does not outlive this process."""
        self._tell(f"+{pid}\n")

    def ended(self, pid: int) -> None:
        """A worker has ended."""
        self._tell(f"-{pid}\n")

    def _tell(self, line: str) -> None:
        assert self._caretaker.stdin is not None
        with suppress(OSError):  # somebody killed it: the next server cleans up
            self._caretaker.stdin.write(line)
            self._caretaker.stdin.flush()


@contextmanager
def page_folder() -> Iterator[PageFolder]:
    """A folder of one's own in the system's temporary folder, until the block or this process ends (OSError)."""
    remove_abandoned()
    path = Path(tempfile.mkdtemp(prefix=PREFIX))
    command = [sys.executable, "-I", "-S", "-c", _CARETAKER, str(path)]
    # a session of its own: what ends the server by its terminal or its group does not end this
    caretaker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    with (path / _LOCK).open("w") as lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield PageFolder(path, caretaker)
        finally:
            assert caretaker.stdin is not None
            with suppress(OSError):
                caretaker.stdin.close()
            caretaker.wait()
            shutil.rmtree(path, ignore_errors=True)  # where the other process was killed


def remove_abandoned() -> None:
    """Remove folders of servers that are gone."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            found = path.lstat()
            if path.is_symlink() or found.st_uid != os.getuid() or time.time() - found.st_mtime < _YOUNG_SECONDS:
                continue
            with suppress(FileNotFoundError), (path / _LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its server runs
            shutil.rmtree(path, ignore_errors=True)
