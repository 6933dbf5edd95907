"""`python -m tests.benchmarks gpu [PART ...]`: the measurements of a GPU, each in a process of its own, and one table.

All of them share `--minutes`, the most important first, and each has a limit of its own. One that fails, takes too long
or has no time left says so, and the others run. `--device cpu` runs small networks: that shows only that it runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.benchmarks.gpu.table import filled_in

PARTS: dict[str, tuple[int, list[str]]] = {
    "steps": (130, ["steps", "card", "2400", "2400~", "host", "4800~", "4800", "fits"]),
    "plain": (60, ["steps", "plain"]),
    "end_to_end": (240, ["end_to_end"]),
    "agreement": (90, ["agreement"]),
    "inside": (70, ["steps", "waits", "profile"]),
    "float32": (60, ["steps", "2400", "--precision=float32"]),
    "compiled": (240, ["steps", "2400", "2400~", "--compile"]),
    "graphs": (240, ["steps", "2400", "--graphs"]),
}
"""Seconds at most, and module with arguments, by name."""

ON_CPU: dict[str, list[str]] = {
    "steps": ["steps", "card", "60", "200~", "host", "fits", "profile", "--precision=float32"],
    "plain": ["steps", "plain", "--precision=float32"],
    "end_to_end": ["end_to_end", "--steps=6", "--clips=12"],
    "agreement": ["agreement"],
}

LEAST_SECONDS = 15
"""With less left, a part is not begun."""

LEAST_TRAINING = 120
"""Seconds, for three trainings and a report."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--minutes", type=float, default=15.0, help="for all parts together (default: 15)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-benchmark"))
    parser.add_argument("--train", type=Path, metavar="SHARDS", help="train on them for the minutes that are left")
    values = parser.parse_args(arguments)
    on_gpu = values.device.startswith("cuda")
    parts = {name: command for name, (_, command) in PARTS.items()} if on_gpu else ON_CPU
    unknown = set(values.parts) - set(parts)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))} on {values.device}: expected {', '.join(parts)}")
    until = time.monotonic() + 60 * values.minutes
    lines = list[str]()
    for name in values.parts or parts:
        left = until - time.monotonic()
        if left < LEAST_SECONDS:
            print(f"== {name}: skipped, {values.minutes:g} minutes are over", flush=True)
            continue
        module, *flags = parts[name]
        limit = min(left, PARTS[name][0]) if on_gpu else left
        lines += run(name, limit, module, [*flags, f"--device={values.device}", f"--out={values.out / name}"])
    if values.train is not None:
        lines += train(values.train, until - time.monotonic(), values.device, values.out / "train")
    for name in [] if values.parts else PARTS.keys() - parts.keys():
        print(f"== {name}: skipped on {values.device}", flush=True)
    print("", *filled_in(lines), sep="\n", flush=True)


def train(shards: Path, left: float, device: str, out: Path) -> list[str]:
    """Train the recipe of GRID in what is left of the time; prints its lines as they come, and returns them."""
    if left < LEAST_TRAINING:
        print(f"== train: skipped, {left:.0f} s are left and {LEAST_TRAINING} are the least", flush=True)
        return []
    flags = [f"--shards={shards}", f"--seconds={left}", f"--device={device}", f"--out={out}"]
    return run("train", left, "train_shards", flags)


def run(name: str, limit: float, module: str, flags: list[str]) -> list[str]:
    """Run a part, for `limit` seconds at most; prints its lines as they come, and returns them."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    command = [sys.executable, "-u", "-m", f"tests.benchmarks.gpu.{module}", *flags]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    # with what it started, which also holds the pipe
    timer = threading.Timer(limit, os.killpg, [process.pid, signal.SIGKILL])
    timer.start()
    lines = list[str]()
    for line in process.stdout or ():
        print(line, end="", flush=True)
        lines.append(line.rstrip("\n"))
    status = process.wait()
    timer.cancel()
    took = time.monotonic() - began
    over = f", stopped after its {limit:.0f} s" if took >= limit else ""
    print(f"== {name}: {took:.0f} s, exit status {status}{over}", flush=True)
    return lines


if __name__ == "__main__":
    main()
