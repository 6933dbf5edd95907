"""How fast training is beside two busy processes, by how PyTorch's threads wait for each other.

A small network of the demo's sizes takes steps on noise: a process for each way to wait, one at a time, without other
load of ours ("quiet") and beside two processes that only count ("loaded"). Ways take turns; figures are medians, as
ratios to the usual way, quiet. What else the machine does is in them: look at the loads in the last line.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import torch

from runtime.threads import sleep_when_busy
from tests.benchmarks.plain_baseline import Example, noise_examples, plain_step
from tests.benchmarks.training_vs_plain import CONFIG, PUBLISHED_FORM
from train.__main__ import parse

ROOT = Path(__file__).resolve().parents[2]
_LENGTHS = (25, 25)
_SECONDS, _BUSY = 3.0, 2
_SECONDS_BEFORE = 5.0
"""Of steps that do not count: until then a worker may take the one before it, which has just ended, for a busy one."""
_COUNTING = "import time\nend = time.monotonic() + 600\nwhile time.monotonic() < end: pass"  # should nobody end it
WAYS = {
    "as PyTorch has it": ["plain"],
    "sleeping when busy": ["watched"],
    "GOMP_SPINCOUNT=3000": ["plain", "GOMP_SPINCOUNT=3000"],
    "OMP_WAIT_POLICY=PASSIVE": ["plain", "OMP_WAIT_POLICY=PASSIVE"],
    "one thread": ["plain", "OMP_NUM_THREADS=1"],
}
USUAL = "as PyTorch has it"


def measure(runs: int) -> Iterator[str]:
    """Lines of the report: a Markdown table."""
    yield f"| {torch.multiprocessing.cpu_count()} cores | quiet | loaded |"
    yield "|---|---:|---:|"
    workers = {name: _start(*way) for name, way in WAYS.items()}
    taken: dict[tuple[str, bool], list[float]] = {}
    loads: dict[bool, list[float]] = {False: [], True: []}
    try:
        for _ in range(runs):
            for loaded in (False, True):
                with busy(_BUSY if loaded else 0):
                    for name, worker in workers.items():
                        taken.setdefault((name, loaded), []).append(_rate(worker))
                    loads[loaded].append(os.getloadavg()[0])
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    usual = statistics.median(taken[USUAL, False])
    for name in WAYS:
        quiet, loaded_rate = (statistics.median(taken[name, loaded]) / usual for loaded in (False, True))
        yield f"| {name} | {quiet:.2f} | {loaded_rate:.2f} |"
    yield ""
    means = ", ".join(f"{name} {statistics.mean(loads[x]):.1f}" for name, x in (("quiet", False), ("loaded", True)))
    yield f"1.00 is {usual:,.0f} frames a second; load averages: {means}"


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that only count, until the block ends."""
    started = [subprocess.Popen([sys.executable, "-S", "-c", _COUNTING]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def _start(how: str, *variables: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = {**kept, **dict(each.split("=") for each in variables)}
    command = [sys.executable, "-m", "tests.benchmarks.busy_machine", how]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _rate(worker: subprocess.Popen[str]) -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def small_step() -> tuple[Callable[[Example], None], Example]:
    """A step of the demo's sizes in the published form, and what it trains on."""
    settings, _, _ = parse([f"--config={CONFIG}", *PUBLISHED_FORM])
    return plain_step(settings, 40), noise_examples(_LENGTHS, settings.transforms.size)


def _work(how: str) -> None:
    """What a worker does: whenever a line comes, steps for some seconds, and their frames a second."""
    if how == "watched":
        sleep_when_busy()
    step, batch = small_step()
    for _ in sys.stdin:
        _rate_of(step, batch, _SECONDS_BEFORE)
        print(_rate_of(step, batch, _SECONDS), flush=True)


def _rate_of(step: Callable[[Example], None], batch: Example, seconds: float) -> float:
    began, steps = perf_counter(), 0
    while perf_counter() - began < seconds:
        step(batch)
        steps += 1
    return steps * sum(_LENGTHS) / (perf_counter() - began)


if __name__ == "__main__":
    _work(sys.argv[1])
