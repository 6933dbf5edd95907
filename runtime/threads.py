"""Let PyTorch's threads on a CPU sleep instead of spin while other processes want the cores.

OpenMP's threads wait for each other many thousand times a second, and spin meanwhile, which is fastest where each has a
core. Where other processes run, a thread that spins takes the core from the one that it waits for: on two busy cores
training gets more than ten times slower. GNU's OpenMP, PyTorch's on Linux, decides how long to spin at each wait, and
spins next to nothing while a process has more OpenMP threads than cores. That is brought about here: as long as others
want the cores, a few more threads exist, which sleep. As many compute as before, and every bit of a result is the same.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from functools import cache
from pathlib import Path

_STAT, _MAPS = Path("/proc/stat"), Path("/proc/self/maps")
_SECONDS = 0.5
_CALM_SAMPLES = 6
_IDLE, _IOWAIT, _ALL = 3, 4, 8  # columns of /proc/stat; behind them come guests, which are counted already


@cache
def sleep_when_busy() -> None:
    """Watch the cores from here on, in a thread of its own. For a process that computes on a CPU; torch is imported.

    Without effect where the user says how threads wait or how many there are (OMP_*, GOMP_*), or where there is no
    /proc or no GNU OpenMP.
    """
    if any(name.startswith(("OMP_", "GOMP_")) for name in os.environ):
        return
    library = _openmp()
    if library is None or not _STAT.exists() or library.omp_get_max_threads() < 2:
        return
    threads = library.omp_get_max_threads()
    threading.Thread(target=_watch, args=(library, threads), name="sleep_when_busy", daemon=True).start()


def _openmp() -> ctypes.CDLL | None:
    """GNU's OpenMP, if this process has loaded it."""
    try:
        paths = {line.split(maxsplit=5)[5] for line in _MAPS.read_text().splitlines() if "libgomp" in line}
        return ctypes.CDLL(min(paths, key=lambda path: ("torch" not in path, path))) if paths else None
    except OSError:
        return None


def _watch(library: ctypes.CDLL, threads: int) -> None:
    cores = os.sched_getaffinity(0)
    crowd, load = Crowd(library, threads), OtherLoad(cores)
    limit, calm = most_of_others(len(cores), threads), 0
    while True:
        time.sleep(_SECONDS)
        others = load.sample()
        calm = calm + 1 if others < 0.7 * limit else 0
        if others > limit:
            crowd.gather()
        elif calm >= _CALM_SAMPLES:
            crowd.leave()


def most_of_others(cores: int, threads: int) -> float:
    """Cores that other processes may take before so many threads no longer have one each."""
    return max(0, cores - threads) + max(0.3, cores / 8)


class OtherLoad:
    """How many of some cores are taken by other processes, those that this one has started among them."""

    def __init__(self, cores: set[int]) -> None:
        self._names = {f"cpu{core}" for core in cores}
        self._before = self._now()

    def sample(self) -> float:
        """The mean since the last sample."""
        (began, busy, own), self._before = self._before, self._now()
        elapsed = self._before[0] - began
        return max(0.0, (self._before[1] - busy) - (self._before[2] - own)) / elapsed if elapsed > 0 else 0.0

    def _now(self) -> tuple[float, float, float]:
        """Seconds: by the clock, of all processes on the cores, of this one."""
        busy = 0
        for line in _STAT.read_text().splitlines():
            name, *columns = line.split()
            if name in self._names:
                ticks = [int(column) for column in columns[:_ALL]]
                busy += sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT]
        return time.monotonic(), busy / os.sysconf("SC_CLK_TCK"), time.process_time()


class Crowd:
    """OpenMP threads that only sleep, so many that with `threads` others there are more than cores."""

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        self._library, self._threads = library, threads
        self._end: threading.Event | None = None

    def gather(self) -> None:
        """Have them, unless they are there."""
        if self._end is None:
            self._end = threading.Event()
            threading.Thread(target=self._stand, args=(self._end,), daemon=True).start()

    def leave(self) -> None:
        """Let them end."""
        if self._end is not None:
            self._end.set()
            self._end = None

    def _stand(self, end: threading.Event) -> None:
        # a thread that opens a parallel region keeps the region's threads until it ends; free(NULL) does nothing
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
        count = max(2, self._library.omp_get_num_procs() - self._threads + 2)
        self._library.GOMP_parallel(nothing, None, ctypes.c_uint(count), ctypes.c_uint(0))
        end.wait()
