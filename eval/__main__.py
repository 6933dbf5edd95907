"""`python -m eval table --shards data/x --split val --checkpoints runs/x/best.pt`: scores, and what they are worth."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import torch

from eval.controls import VOCODERS, Work, score_fixed, score_network, set_scene
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
    one.add_argument("--trained-on", nargs="+", help="splits of the mean mel; default: train and pretrain, if there")
    one.add_argument("--clips", type=_positive, help="a fixed part of the split; default: all of it")
    one.add_argument("--voice", choices=["other", "self"], default="other", help="another clip's; self: as published")
    one.add_argument("--vocoder", choices=sorted(VOCODERS), default="default", help="published: to compare with others")
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


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _table(values: argparse.Namespace) -> int:
    device = torch.device(values.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if values.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: there is none")
    dataset = open_dataset(values.shards)
    work = Work(
        dataset,
        values.split,
        values.trained_on or [name for name in ("train", "pretrain") if name in dataset.manifest.splits],
        values.clips,
        values.voice,
        values.vocoder,
        values.max_frames,
        values.workers,
        values.processes,
        device,
    )
    checkpoints = {path: load_checkpoint(path) for path in values.checkpoints}
    scene = set_scene(work)
    alone = sum(len(micro_batch.visits) for micro_batch in scene.planned) - len(scene.voices)
    if values.voice == "other" and alone:
        print(f"{alone} clips are spoken with their own voice: their speaker has no other clip in {values.split}")
    runs = {
        path: score_network(checkpoint, scene, path, seed)
        for seed, (path, checkpoint) in enumerate(checkpoints.items())
    }
    fixed = score_fixed(scene)
    if values.out:
        write_figures(values.out, runs, fixed)
    for line in table(runs, fixed):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
