"""Memory is refused beyond a limit, and given again after the block."""

from __future__ import annotations

import resource
import sys

import numpy as np
import pytest

from runtime.memory_limit import memory_limited


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_limit_refuses_more_and_ends_with_the_block() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_limited(64 << 20), memory_limited(1 << 30):  # the inner one does not raise the outer
        np.empty(16 << 20, np.uint8)
        with pytest.raises(MemoryError):
            np.empty(256 << 20, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    np.empty(256 << 20, np.uint8)
