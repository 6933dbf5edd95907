"""`python -m eval table --shards data/x --split val --checkpoints runs/x/best.pt`: scores, and what they are worth."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import torch

from eval.controls import Work, score_controls
from eval.table import table, write_figures
from model.checkpoint import load_checkpoint
from shards import open_dataset


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status: 0 done, 2 unusable input."""
    parser = argparse.ArgumentParser(prog="python -m eval", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("table", help="a checkpoint beside what has learned nothing")
    one.add_argument("--shards", required=True, help="dataset, a local folder or an fsspec URL")
    one.add_argument("--split", required=True, help="of the clips that are scored")
    one.add_argument("--checkpoints", nargs="+", required=True, help="of the same recipe, say with other seeds")
    one.add_argument("--trained-on", nargs="+", default=["train"], help="splits of the mean mel; default: train")
    one.add_argument("--clips", type=int, help="a fixed part of the split; default: all of it")
    one.add_argument("--out", help="file for the figures of every clip, JSON")
    one.add_argument("--max-frames", type=int, default=1200, help="padded video frames of a batch; default: 1200")
    one.add_argument("--workers", type=int, default=1, help="processes that read; default: 1")
    one.add_argument("--processes", type=int, default=os.cpu_count(), help="that score; default: one a core")
    one.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if there is one")
    values = parser.parse_args(arguments)
    try:
        return _table(values)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _table(values: argparse.Namespace) -> int:
    device = torch.device(values.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dataset = open_dataset(values.shards)
    work = Work(
        dataset,
        values.split,
        values.trained_on,
        values.clips,
        values.max_frames,
        values.workers,
        values.processes,
        device,
    )
    runs = {path: score_controls(load_checkpoint(path), work, path) for path in values.checkpoints}
    for line in table(runs):
        print(line)
    if values.out:
        write_figures(values.out, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
