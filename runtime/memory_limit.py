"""Limit the memory that a block of code may take, where the system can: what asks for more gets a `MemoryError`.

For code that reads strangers' files and takes memory by what they claim before anybody can look, as the demuxers of
FFmpeg do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATM = Path("/proc/self/statm")


@contextmanager
def memory_limited(bytes_more: int) -> Iterator[None]:
    """Let this process take so many bytes more than it has, until the block ends. Without effect outside of Linux.

    What was freed and is kept by the allocator counts as had: it is given again, below any limit.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(_STATM.read_bytes().split()[5])  # of data and stack; the same in `status` takes ten times as long
    limit = pages * resource.getpagesize() + bytes_more
    allowed = [value for value in (limit, *before) if value != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(allowed, default=resource.RLIM_INFINITY), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
