"""Threads that sleep while other processes want the cores: what others take, and the threads that are added."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from runtime import threads
from runtime.threads import Crowd, OtherLoad, _openmp, most_of_others, sleep_when_busy

linux = pytest.mark.skipif(sys.platform != "linux" or _openmp() is None, reason="needs GNU's OpenMP on Linux")


def test_other_load_is_what_is_neither_idle_nor_of_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ticks, stat = os.sysconf("SC_CLK_TCK"), tmp_path / "stat"
    clocks = iter([10.0, 12.0, 12.0]).__next__, iter([5.0, 6.0, 6.0]).__next__
    monkeypatch.setattr(threads, "_STAT", stat)
    monkeypatch.setattr(threads, "time", SimpleNamespace(monotonic=clocks[0], process_time=clocks[1]))
    stat.write_text("cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 7 7 7 7 7 7 7 7 7 7\nintr 1 2\n")
    load = OtherLoad({0})
    # user, nice, system, idle, iowait, irq, softirq, steal, guest
    columns = " ".join(str(ticks * seconds) for seconds in (1, 0, 1, 50, 50, 0, 0, 1, 1, 0))
    stat.write_text(f"cpu0 {columns}\ncpu1 {columns}\n")
    assert load.sample() == pytest.approx((3 - 1) / 2)
    assert load.sample() == 0


def test_most_of_others_leaves_each_thread_a_core() -> None:
    assert [most_of_others(*each) for each in ((2, 2), (4, 2), (8, 8), (2, 4))] == [0.3, 2.5, 1.0, 0.3]


@linux
def test_crowd_comes_and_goes_and_changes_no_bit() -> None:
    library = _openmp()
    assert library is not None
    count, x = library.omp_get_num_procs() + 1, torch.randn(300, 300)
    expected, crowd = x @ x, Crowd(library, 1)
    before = _threads()
    crowd.gather()
    crowd.gather()
    _wait_for(before + count)
    assert torch.equal(x @ x, expected)
    crowd.leave()
    crowd.leave()
    _wait_for(before)


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "GOMP_SPINCOUNT"])
def test_sleep_when_busy_leaves_it_to_the_user(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "2")
    sleep_when_busy.cache_clear()
    sleep_when_busy()
    assert all(thread.name != "sleep_when_busy" for thread in threading.enumerate())


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _wait_for(count: int) -> None:
    until = time.monotonic() + 60
    while _threads() != count and time.monotonic() < until:
        time.sleep(0.01)
    assert _threads() == count
