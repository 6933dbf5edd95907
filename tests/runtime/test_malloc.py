"""Memory that was freed stays in the process, where glibc is."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
from runtime.malloc import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        bytearray(20 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

mapped = faults(8)
keep_freed_memory()
faults(2)
print(mapped, faults(8))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_keep_freed_memory_faults_no_pages_anew() -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before, after = map(int, found.stdout.split())
    assert after < before / 4
