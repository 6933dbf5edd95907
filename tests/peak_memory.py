"""Peak memory of this process, for tests of bounds.

Read from Linux's /proc: `getrusage` begins with the peak of the process that started this one, and cannot be reset.
"""

from __future__ import annotations

import re
from pathlib import Path

_PROCESS = Path("/proc/self")


def reset_peak() -> None:
    """Let the peak begin anew, at what is resident now."""
    (_PROCESS / "clear_refs").write_text("5")


def peak_kilobytes() -> int:
    """The most that was resident since the process began, or since `reset_peak`."""
    match = re.search(r"VmHWM:\s+(\d+) kB", (_PROCESS / "status").read_text())
    assert match is not None, "/proc/self/status has a VmHWM on Linux"
    return int(match[1])
