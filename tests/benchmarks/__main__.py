"""`python -m tests.benchmarks [NAME ...]`: run all measurements, or those named.

Those of the pipeline and of the vocoder run on the footage of `--footage` (a folder with LRS2-BBC, LRS2_crop and split
lists; default: ../shared/real if it is there, else the demo corpus, which is written first). The others need none.
`python -m tests.benchmarks gpu` and `vocoder` have flags of their own (tests/benchmarks/gpu, vocoder.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch

from tests.benchmarks.gpu import __main__ as gpu

if TYPE_CHECKING:
    from pipeline.config import BuildSettings
    from pipeline.corpora import CorpusClip

ON_FOOTAGE = (
    "build_speed",
    "tracking",
    "roi_codecs",
    "griffin_lim",
    "evaluation",
    "loader",
    "training_vs_plain",
)  # measure(settings, clips, runs)
WITHOUT = ("transforms", "ctc_decoding", "networks", "busy_machine", "page")  # measure(runs)
MEASUREMENTS = (*ON_FOOTAGE, *WITHOUT, "large_index")  # the last: measure(clips)


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["gpu"]:
        gpu.main(arguments[1:])
        return
    if arguments[:1] == ["vocoder"]:
        import_module("tests.benchmarks.vocoder").main(arguments[1:])
        return
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=[], help=f"of {', '.join(MEASUREMENTS)}; default: all")
    parser.add_argument("--footage", type=Path, default=None)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--runs", type=int, default=7)
    values = parser.parse_args(arguments)
    unknown = set(values.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"no measurement {', '.join(sorted(unknown))}: there is {', '.join(MEASUREMENTS)}")
    try:
        modules = {name: import_module(f"tests.benchmarks.{name}") for name in values.names or MEASUREMENTS}
    except ModuleNotFoundError as error:
        parser.error(f"{error}: `make benchmarks` installs what all of them need; or name those to run")
    torch.set_num_threads(1)
    for line in report(modules, values.footage, values.clips, values.runs):
        print(line, flush=True)


def report(modules: dict[str, ModuleType], footage: Path | None, count: int, runs: int) -> Iterator[str]:
    """Lines: what each measurement is, and what it measured."""
    yield f"medians of {runs} runs"
    arguments: tuple[object, ...] = ()
    if not modules.keys().isdisjoint(ON_FOOTAGE):
        settings, clips = chosen_clips(footage or default_footage(), count)
        arguments = (settings, clips)
        yield f"footage: {len(clips)} clips, {sum(clip.frames for clip in clips) / 25:.0f} s from {settings.root}"
    for name, module in modules.items():
        yield f"\n{name}: {(module.__doc__ or '').splitlines()[0]}\n"
        if name == "large_index":
            yield from module.measure(count)
        else:
            yield from module.measure(*(arguments if name in ON_FOOTAGE else ()), runs)


def chosen_clips(folder: Path, count: int) -> tuple[BuildSettings, list[CorpusClip]]:
    """A settings for the footage, and clips spread over it."""
    from pipeline.config import BuildSettings
    from pipeline.corpora import index_corpus

    settings = BuildSettings(dataset="lrs2", root=str(folder / "LRS2-BBC"))
    clips = index_corpus(settings).clips
    return settings, clips[:: max(1, len(clips) // count)][:count]


def default_footage() -> Path:
    shared = Path(__file__).resolve().parents[3] / "shared" / "real"
    if shared.is_dir():
        return shared
    from pipeline.demo import write_corpus

    write_corpus("data/demo")
    return Path("data/demo")


if __name__ == "__main__":
    main()
