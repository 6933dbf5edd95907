"""Keep memory that was freed in the process: what is made anew for each clip is then not faulted in page by page."""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MAPPED_FROM, _KEPT = 32 << 20, 256 << 20


@cache
def keep_freed_memory() -> None:
    """Have glibc take blocks of less than 32 MB from its heap, and keep up to 256 MB of that; elsewhere nothing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc
        return
    mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)
    mallopt(_M_TRIM_THRESHOLD, _KEPT)
