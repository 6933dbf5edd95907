"""A process that works for another goes on for a while when it is told to end, and ends then."""

from __future__ import annotations

import signal
import subprocess
import sys


def test_a_process_told_to_end_goes_on_and_ends_when_its_time_is_over_whatever_it_did_at_an_alarm_before() -> None:
    program = (
        "import os, signal\n"
        "from shards.loading import patience\n"
        "patience.SECONDS_LEFT = 1\n"
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
        "patience.outlive_sigterm()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('goes on', flush=True)\n"
        "while True:\n"
        "    signal.pause()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "goes on\n"
    assert ended.returncode == -signal.SIGALRM
