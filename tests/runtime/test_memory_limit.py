"""Memory is refused beyond a limit, and given again after the block.

In a process of its own: memory that was freed but kept by the allocator is given again below any limit, and a long run
of tests keeps a lot of it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource
import numpy as np
from runtime.memory_limit import memory_limited

before = resource.getrlimit(resource.RLIMIT_DATA)
with memory_limited(64 << 20), memory_limited(1 << 30):  # the inner one does not raise the outer
    np.empty(16 << 20, np.uint8)
    try:
        np.empty(256 << 20, np.uint8)
    except MemoryError:
        print("refused")
assert resource.getrlimit(resource.RLIMIT_DATA) == before
np.empty(256 << 20, np.uint8)
print("given")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_limit_refuses_more_and_ends_with_the_block() -> None:
    run = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert (run.returncode, run.stdout.split()) == (0, ["refused", "given"]), run.stderr
