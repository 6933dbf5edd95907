"""`python -m tests.benchmarks [NAME ...]`: run all measurements, or those named.

They run on the footage of `--footage` (a folder with LRS2-BBC, LRS2_crop and split lists; default: ../shared/real if it
is there, else the demo corpus, which is written first).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from pipeline.datasets import Clip, index_corpus
from pipeline.recipe import Recipe
from tests.benchmarks import build_speed, roi_codecs

MEASUREMENTS = {"build_speed": build_speed.measure, "roi_codecs": roi_codecs.measure}


def chosen_clips(folder: Path, count: int) -> tuple[Recipe, list[Clip]]:
    """A recipe for the footage, and clips spread over it."""
    recipe = Recipe(dataset="lrs2", root=str(folder / "LRS2-BBC"))
    clips = index_corpus(recipe).clips
    return recipe, clips[:: max(1, len(clips) // count)][:count]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=[], help=f"of {', '.join(MEASUREMENTS)}; default: all")
    parser.add_argument("--footage", type=Path, default=None)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--runs", type=int, default=7)
    values = parser.parse_args()
    unknown = set(values.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"no measurement {', '.join(unknown)}: there is {', '.join(MEASUREMENTS)}")
    torch.set_num_threads(1)
    recipe, clips = chosen_clips(values.footage or default_footage(), values.clips)
    seconds = sum(clip.frames for clip in clips) / 25
    print(f"{len(clips)} clips, {seconds:.0f} s of video from {recipe.root}, median of {values.runs} runs\n")
    for name in values.names or MEASUREMENTS:
        for line in MEASUREMENTS[name](recipe, clips, values.runs):
            print(line)
        print()


def default_footage() -> Path:
    shared = Path(__file__).resolve().parents[3] / "shared" / "real"
    if shared.is_dir():
        return shared
    from pipeline.demo import write_corpus

    write_corpus("data/demo")
    return Path("data/demo")


if __name__ == "__main__":
    main()
