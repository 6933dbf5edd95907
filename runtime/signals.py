"""SIGTERM and orphans: a process that saves itself when it is to end, and its helpers, which end after it.

Launchers and schedulers send SIGTERM to every process of a job at once. The one that trains or waits for scores may
want to save itself first, and needs the processes that it has started until then.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SECONDS_LEFT = 30
"""That a helper process runs on once it is signalled to end, as long as torchrun waits before it kills."""
_POLL_SECONDS = 1.0


def outlive_sigterm() -> None:
    """Have this process, signalled by SIGTERM to end, do so `SECONDS_LEFT` later. Call it in its main thread."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends it, whatever it was forked from does at an alarm
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(SECONDS_LEFT))


@contextmanager
def sigterm_noted() -> Iterator[threading.Event]:
    """An event that SIGTERM sets until the block ends, instead of ending the process. Use it in the main thread."""
    noted = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: noted.set())
    try:
        yield noted
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def sigterm_raised() -> Iterator[None]:
    """SIGTERM ends the block as an error does, so that what it made for itself is removed: `SystemExit`, status 143.

    Without effect outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_with_parent(parent: int) -> None:
    """End this process about a second after `parent`, the id of the process that started it, has ended.

    A process whose parent was killed would otherwise wait for work for ever, and keep hold of the parent's GPU.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def exit_in_words(status: int) -> str:
    """How a process ended by the return code that `subprocess` has for it: `exit status 3`, or the name of a signal."""
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
