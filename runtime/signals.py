"""How long processes that work for another outlive the order to end.

Launchers and schedulers send SIGTERM to every process of a job at once. The one that reads clips or waits for scores
may want to save itself first, and needs those that it has started until then.
"""

from __future__ import annotations

import signal

SECONDS_LEFT = 30
"""That such a process goes on for once it is told to end, as long as torchrun waits before it kills."""


def outlive_sigterm() -> None:
    """Have this process, told by SIGTERM to end, do so `SECONDS_LEFT` later. Call it in its main thread."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends it, whatever it was forked from does at an alarm
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(SECONDS_LEFT))
