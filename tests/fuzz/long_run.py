"""The long run: several processes draw and run cases for so many minutes; cases are counted, wrong ones are kept."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty

from rich.console import Console
from rich.table import Table

from runtime.signals import exit_with_parent
from tests.fuzz.cases import Bench, Damage
from tests.fuzz.exploration import explore
from tests.fuzz.findings import Findings
from tests.fuzz.server import CommandServer, Outcome

_OUTCOMES = {0: "done", 1: "problems", 2: "refused"}
_SLOW = {"export": 1, **dict.fromkeys(("train", "eval", "resume", "init"), 4)}
"""Cases at a time of commands that take seconds, by how their names begin; of others `_FAST`."""
_FAST = 15
_PROGRESS_SECONDS = 60.0
_LAST_CASE_SECONDS = 90.0

Case = tuple[str, str, Damage, Outcome, list[str]]


def fuzz(pairs: list[tuple[str, str]], seed: int, seconds: float, processes: int) -> int:
    """Run cases for so many seconds; returns the exit status."""
    context = multiprocessing.get_context("spawn")
    cases: Queue[Case] = context.Queue()
    counted, findings = Counter[tuple[str, str, str]](), Findings()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        workers = [
            context.Process(target=_work, args=(Path(folder, str(n)), pairs, seed + n, seconds, cases), daemon=True)
            for n in range(processes)
        ]
        for worker in workers:
            worker.start()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            _collect(cases, workers, seconds, counted, findings)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the table is still to come
            print("interrupted")
        failed = [worker.exitcode for worker in workers if worker.exitcode]
        for worker in workers:
            worker.terminate()
            worker.join()
    _print_table(counted)
    print(f"seed {seed}: {sum(counted.values())} cases, {findings.kinds.total()} of them wrong")
    for kind, count in findings.kinds.most_common():
        print(f"  {count} x {kind}")
    return int(bool(findings.kinds or failed or not counted))


def _collect(
    cases: Queue[Case],
    workers: Sequence[BaseProcess],
    seconds: float,
    counted: Counter[tuple[str, str, str]],
    findings: Findings,
) -> None:
    """Count cases and keep wrong ones until the workers have ended, or a case of theirs takes too long at the end."""
    began = shown = time.monotonic()
    while any(worker.is_alive() for worker in workers) or not cases.empty():
        if time.monotonic() - shown > _PROGRESS_SECONDS:
            shown = time.monotonic()
            print(f"{(shown - began) / 60:.0f} min: {sum(counted.values())} cases", flush=True)
        if time.monotonic() - began > seconds + _LAST_CASE_SECONDS:
            return
        try:
            form, command, damage, outcome, wrong = cases.get(timeout=1.0)
        except Empty:
            continue
        counted[form, command, "WRONG" if wrong else _OUTCOMES.get(outcome.status, "WRONG")] += 1
        kept = findings.add(form, command, damage, wrong) if wrong else None
        if kept is not None:
            print(f"\n{form}, {command}: {damage.what}\n  " + "\n  ".join(wrong))
            print(f"  again: python -m tests.fuzz --replay {kept}", flush=True)


def _work(folder: Path, pairs: list[tuple[str, str]], seed: int, seconds: float, cases: Queue[Case]) -> None:
    """Draw and run cases until the time is over."""
    exit_with_parent(os.getppid())
    end = time.monotonic() + seconds
    warnings.simplefilter("ignore")  # of what damaging brings: a zip with a name twice
    draw = random.Random(seed)
    with suppress(KeyboardInterrupt), CommandServer() as server:
        bench = Bench(folder, server)
        while time.monotonic() < end:
            for form, command in draw.sample(pairs, len(pairs)):
                count = next((of for name, of in _SLOW.items() if command.startswith(name)), _FAST)
                explore(
                    bench,
                    form,
                    command,
                    count,
                    draw.randrange(2**32),
                    lambda *case: cases.put(case),
                    lambda: time.monotonic() > end,
                )


def _print_table(counted: Counter[tuple[str, str, str]]) -> None:
    outcomes = [*_OUTCOMES.values(), "WRONG"]
    table = Table("form", "command", "cases", *outcomes)
    for pair in sorted({(form, command) for form, command, _ in counted}):
        counts = [counted[(*pair, outcome)] for outcome in outcomes]
        table.add_row(*pair, *map(str, (sum(counts), *counts)))
    Console(width=120).print(table)
