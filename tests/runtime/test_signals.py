"""SIGTERM: a helper process runs on for a while, and ends then."""

from __future__ import annotations

import signal
import subprocess
import sys


def test_outlive_sigterm_runs_on_and_ends_when_its_time_is_over_whatever_an_alarm_did_before() -> None:
    program = (
        "import os, signal\n"
        "from runtime import signals\n"
        "signals.SECONDS_LEFT = 1\n"
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
        "signals.outlive_sigterm()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('runs on', flush=True)\n"
        "while True:\n"
        "    signal.pause()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "runs on\n"
    assert ended.returncode == -signal.SIGALRM
