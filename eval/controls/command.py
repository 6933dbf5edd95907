"""`python -m eval table`: scores of checkpoints, and what they are worth."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from eval.controls.scores import TableSettings, score_fixed, score_network, set_scene
from eval.controls.table import table
from eval.results import make_folder, write_json
from eval.settings import VOCODERS
from eval.systems import device_of
from model.checkpoint import load_checkpoint
from shards import Store, open_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--shards", required=True, help="dataset, a local folder or an fsspec URL")
    parser.add_argument("--split", required=True, help="of the clips that are scored")
    parser.add_argument("--checkpoints", nargs="+", required=True, help="of the same recipe, say with other seeds")
    parser.add_argument("--trained-on", nargs="+", help="splits of the mean mel; default: those that training takes")
    parser.add_argument("--clips", type=_positive, help="a fixed part of the split; default: all of it")
    parser.add_argument(
        "--speaker-reference", choices=["other", "self"], default="other", help="another clip's; self: as published"
    )
    parser.add_argument(
        "--vocoder", choices=sorted(VOCODERS), default="default", help="published: to compare with others"
    )
    parser.add_argument("--out", type=Path, help="file for the figures of every clip, JSON")
    parser.add_argument(
        "--max-padded-frames", type=int, default=1200, help="padded video frames of a batch; default: 1200"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that read; default: 1")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="that score; default: one a core")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if there is one")


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number was expected") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too small, at least 1 was expected")
    return number


def run(values: argparse.Namespace) -> int:
    """Print the table; returns the exit status.

    Raises:
        ValueError, OSError: input that cannot be used.
    """
    device = device_of(values.device)
    dataset = open_dataset(values.shards)
    settings = TableSettings(
        dataset,
        values.split,
        values.trained_on or dataset.training_splits(),
        values.clips,
        values.speaker_reference,
        values.vocoder,
        values.max_padded_frames,
        values.workers,
        values.processes,
        device,
    )
    checkpoints = {path: load_checkpoint(path) for path in values.checkpoints}
    out: Path | None = values.out
    if out is not None:
        if out.is_dir():
            raise ValueError(f"--out {out}: is a folder, the name of a file to write was expected")
        make_folder(out.parent)
    scene = set_scene(settings)
    alone = sum(len(micro_batch.clips) for micro_batch in scene.planned) - len(scene.voices)
    if values.speaker_reference == "other" and alone:
        print(f"{alone} clips are spoken with their own voice: their speaker has no other clip in {values.split}")
    runs = {
        path: score_network(checkpoint, scene, path, seed)
        for seed, (path, checkpoint) in enumerate(checkpoints.items())
    }
    fixed = score_fixed(scene)
    for line in table(runs, fixed):
        print(line)
    if out is not None:
        write_json(Store(str(out.absolute().parent)), out.name, {"checkpoints": runs, "fixed": fixed})
    return 0
