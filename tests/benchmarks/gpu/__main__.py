"""`python -m tests.benchmarks.gpu [PART ...]`: the measurements of a GPU, each in a process of its own.

A part has a time limit on a GPU; one that fails or exceeds it says so, and the others run. `--device cpu` runs small
networks: that shows only that it runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PARTS: dict[str, tuple[int, list[str]]] = {
    "agreement": (90, ["agreement"]),
    "steps": (130, ["steps", "card", "2400", "2400~", "host", "4800~", "4800", "9600"]),
    "float32": (60, ["steps", "2400", "--precision=float32"]),
    "inside": (70, ["steps", "waits", "profile"]),
    "end_to_end": (240, ["end_to_end"]),
    "compiled": (240, ["steps", "2400", "2400~", "--compile"]),
}
"""Seconds at most, and module with arguments, by name."""

ON_CPU: dict[str, list[str]] = {
    "agreement": ["agreement"],
    "steps": ["steps", "card", "60", "200~", "host", "profile", "--precision=float32"],
    "end_to_end": ["end_to_end", "--steps=6", "--clips=12"],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-benchmark"))
    values = parser.parse_args()
    parts = {name: arguments for name, (_, arguments) in PARTS.items()} if values.device == "cuda" else ON_CPU
    unknown = set(values.parts) - set(parts)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))} on {values.device}: expected {', '.join(parts)}")
    for name in values.parts or parts:
        module, *arguments = parts[name]
        limit = PARTS[name][0] if values.device == "cuda" else None
        run(name, limit, module, [*arguments, f"--device={values.device}", f"--out={values.out / name}"])


def run(name: str, limit: float | None, module: str, arguments: list[str]) -> None:
    """Run a part, for `limit` seconds at most."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    command = [sys.executable, "-u", "-m", f"tests.benchmarks.gpu.{module}", *arguments]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with what it started
        status = process.wait()
    print(f"== {name}: {time.monotonic() - began:.0f} s, exit status {status}", flush=True)


if __name__ == "__main__":
    main()
