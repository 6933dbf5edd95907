"""Limit the memory that a block of code may take, where the system can: what asks for more gets a `MemoryError`.

For code that reads strangers' files and takes memory by what they claim before anybody can look, as the demuxers of
FFmpeg do.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")


@contextmanager
def memory_limited(bytes_more: int) -> Iterator[None]:
    """Let this process take so many bytes more than it has, until the block ends. Without effect outside of Linux."""
    if sys.platform != "linux":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    found = re.search(rb"VmData:\s+(\d+) kB", _STATUS.read_bytes())
    limit = (int(found[1]) << 10) + bytes_more if found is not None else resource.RLIM_INFINITY
    allowed = [value for value in (limit, *before) if value != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(allowed, default=resource.RLIM_INFINITY), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
