"""Keep two builds out of one folder or bucket, with a lock that a crash does not leave behind for ever.

`build.lock` names the build that holds it, is rewritten every few seconds while that runs, and is deleted at its end.
In a local folder the operating system's lock on the file says at once whether its holder is alive. A bucket has no such
locks, nor have all file systems, and some have them for each machine alone: there, a lock that is not rewritten for a
minute has lost its holder. No clocks are compared, since those of two machines may differ.

A bucket cannot refuse the second of two that write at the same moment. So a build looks again after it has written, and
at each rewriting: the lock is whose name stands in it last, and the other build stops.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Self

from runtime.regular_file import open_in_place
from runtime.terminal import say
from shards import StorageError, Store

LOCK_NAME = "build.lock"

BEAT_SECONDS = 10.0
"""From one rewriting of the lock to the next."""
WATCH_SECONDS = 60.0
"""Without a rewriting, after which a lock has lost its holder: several beats, since a network may stall."""
SETTLE_SECONDS = 2.0
"""Between writing to a bucket and looking who else did."""

_RECORD_BYTES = 1024  # written as one block of this size, so that a reader never sees half a record


class BuildLock:
    """Holds the lock of a dataset's folder or bucket while its block runs.

    Entering it raises ValueError where another build holds the lock; the message names that build, and what to do.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.path(LOCK_NAME)
        self._token = uuid.uuid4().hex
        self._since = datetime.now(UTC).isoformat(" ", "seconds")
        self._beats = 0
        self._file: int | None = None
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, name="build lock", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._acquire()
        except BaseException:
            self._close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(OSError):  # whoever comes next sees that nobody rewrites it
            if self._is_ours():
                self._store.remove(LOCK_NAME)
        self._close()

    @property
    def lost(self) -> bool:
        """Whether another build has taken the lock, or somebody has deleted it: this one must write no more."""
        return self._lost

    def _acquire(self) -> None:
        while True:
            locked = self._store.is_local and self._open()
            found = self._read()
            if found and not (locked and _parse(found).get("host") == socket.gethostname()):
                self._watch(found)
            if not self._store.is_local or self._is_in_place():
                break
            self._close()  # its holder has ended and deleted it meanwhile
        self._write()
        if not locked:
            time.sleep(SETTLE_SECONDS)
        if not self._is_ours():
            raise self._refusal(self._read())

    def _open(self) -> bool:
        """Open the local file, take the operating system's lock on it; returns whether this file system has such."""
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        self._file = open_in_place(self._path)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._refusal(self._read()) from error
        except OSError:
            return False
        return True

    def _watch(self, found: bytes) -> None:
        """Wait until a lock that was found has lost its holder (ValueError: its holder is alive)."""
        where = f"{self._store.url}: {LOCK_NAME} names {_who(found)}"
        say(f"{where}: waiting up to {WATCH_SECONDS:.0f} s to see whether it is alive", sys.stderr)
        end = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < end:
            time.sleep(min(1.0, WATCH_SECONDS / 10))
            content = self._read()
            if not content or (self._file is not None and not self._is_in_place()):
                return  # its holder has ended
            if content != found:
                raise self._refusal(content)

    def _refusal(self, content: bytes) -> ValueError:
        return ValueError(
            f"{self._store.url}: another build writes here: {_who(content)}: wait until it has ended, or stop it, and "
            "run this command again (no finished shard is built twice); or choose another --out"
        )

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError):  # a network that stumbles: the next one may come through
                self._lost = not self._is_ours()
                if self._lost:
                    return
                self._write()

    def _is_ours(self) -> bool:
        return self._token.encode() in self._read() and (self._file is None or self._is_in_place())

    def _is_in_place(self) -> bool:
        """Whether the open file is the one that has the lock's name, and has not been deleted."""
        assert self._file is not None, "a local lock is open"
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _read(self) -> bytes:
        """The record, or nothing where there is none."""
        try:
            return os.pread(self._file, _RECORD_BYTES, 0) if self._file is not None else self._store.read(LOCK_NAME)
        except FileNotFoundError:
            return b""

    def _write(self) -> None:
        self._beats += 1
        record = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "user": os.environ.get("USER", str(os.getuid())),
            "since": self._since,
            "beats": self._beats,
            "token": self._token,
        }
        content = json.dumps(record).encode().ljust(_RECORD_BYTES)
        if self._file is None:
            self._store.write(LOCK_NAME, content)
            return
        try:
            os.pwrite(self._file, content, 0)
        except OSError as error:  # which does not say which file
            raise StorageError(error.errno or 0, f"writing failed: {error.strerror}", self._path) from error

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _parse(content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _who(content: bytes) -> str:
    record = _parse(content)
    if not record:
        return "a build that has not yet written its name"
    names = {name: str(record.get(name, "?"))[:80] for name in ("process", "user", "host", "since")}
    return f"process {names['process']} of {names['user']} on {names['host']}, since {names['since']}"
