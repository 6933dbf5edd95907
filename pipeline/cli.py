"""The command line `pipeline`: a function a command, arguments in, exit status out; the docstring is its help."""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Sequence

from rich.console import Console

from pipeline.config import BuildSettings, config_file
from runtime.command_line import CommandParser, run_commands, settings_of, split_flag
from runtime.ray_jobs import TASK_TIMEOUT
from runtime.settings_file import read_section
from runtime.terminal import say, shortened

DEMO_DATASET = "data/demo-shards"

_console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)  # paths and names may hold brackets


def _warn(line: str) -> None:
    say(line, sys.stderr)


def demo(arguments: Sequence[str]) -> int:
    """Write the embedded demo corpus: drawn faces that speak, in LRS2 form."""
    from pipeline.demo import write_corpus
    from runtime.progress import JobProgress

    parser = CommandParser("pipeline demo", demo.__doc__)
    parser.add_argument("--out", type=str, default="data/demo", help="folder of the corpus")
    parser.add_argument("--clips", type=int, default=240, help="how many clips, over all splits")
    parser.add_argument("--speakers", type=int, default=6, help="how many speakers; a third of them only in test")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    parser.add_argument("--workers", type=int | None, default=None, help="processes; default: one a processor")
    values = parser.parse(arguments)
    with JobProgress("demo", values.clips) as progress:

        def on_clip(done: int, total: int) -> None:
            progress.total, progress.clips = total, done
            progress.update()

        summary = write_corpus(
            values.out,
            clips=values.clips,
            speakers=values.speakers,
            seed=values.seed,
            workers=values.workers,
            on_clip=on_clip,
        )
    length = f"{summary.clips} clips, {summary.speakers} speakers, {summary.seconds / 60:.1f} min"
    say(f"demo corpus: {length} in {summary.path}")
    return 0


def build(arguments: Sequence[str]) -> int:
    """Turn videos into indexed shards, on this machine or on a Ray cluster."""
    from pipeline.build import BuildError, plan_build, run_build
    from pipeline.build_tables import plan_table, summary_table

    parser = CommandParser("pipeline build", build.__doc__, section="data")
    parser.add_settings(BuildSettings, skip=["split"])
    parser.add_argument(
        "--split", type=list[str], default=[], metavar="NAME=FILE", help="a further split list; may be repeated"
    )
    parser.add_argument("--out", type=str, default=DEMO_DATASET, help="folder or fsspec URL of the dataset")
    _add_job_arguments(parser)
    parser.set_defaults(read_section(config_file(_named_dataset(arguments)), "data"))
    parser.add_argument("--dry_run", action="store_true", help="print the plan and stop")
    # jsonargparse spells a flag that adds to a list --split+
    values = parser.parse([re.sub(r"^--split(?==|$)", "--split+", argument) for argument in arguments])
    settings = settings_of(values, BuildSettings)
    folder, name = posixpath.split(settings.root.rstrip("/"))
    missing = name == "LRS2-BBC" and "://" not in folder and not os.path.exists(os.path.join(folder, "demo.json"))
    if settings.dataset == "demo" and missing and not values.dry_run:
        _warn(f"no demo corpus in {folder} yet: writing it (pipeline demo --out {folder})")
        demo(["--out", folder])
    plan = plan_build(settings, _warn)
    if values.dry_run:
        _console.print(plan_table(plan, settings))
        return 0
    try:
        built = run_build(plan, settings, values.out, values.address, values.workers, values.task_timeout)
    except BuildError as error:
        _warn(f"error: {error}")
        return 1
    _console.print(summary_table(built, values.out))
    return 0


def track(arguments: Sequence[str]) -> int:
    """Find the lips in videos: lip centers for `pipeline build`, and what was seen of each face."""
    from pipeline.tracking.calibrate import calibrate
    from pipeline.tracking.lip_tracks import SQUARE_EYE_DISTANCES, TrackSettings
    from pipeline.tracking.track_folder import TrackError, track_folder

    parser = CommandParser("pipeline track", track.__doc__)
    parser.add_argument("--root", type=str, required=True, help="folder or fsspec URL of the videos")
    parser.add_argument(
        "--out", type=str, default="coordinates.txt", help="file of lip centers; tracks.parquet is written beside it"
    )
    parser.add_settings(TrackSettings)
    parser.add_argument("--all_faces", action="store_true", help="also write coordinates-face-N.txt of every face")
    parser.add_argument(
        "--follow_links", action="store_true", help="read videos that links lead to outside of the root, too"
    )
    parser.add_argument(
        "--calibrate",
        type=str | None,
        metavar="DATASET",
        default=None,
        help="write nothing: print how large the faces of a dataset are that was built from --root with coordinates",
    )
    parser.add_argument("--clips", type=int, default=200, help="clips that --calibrate looks at")
    _add_job_arguments(parser)
    values = parser.parse(arguments)
    if values.calibrate is not None:
        found = calibrate(values.calibrate, values.root, values.clips)
        middle, low, high = found.eye_distances
        say(
            f"lip square: {middle:.2f} eye distances (90% of clips: {low:.2f} to {high:.2f}), used are "
            f"{SQUARE_EYE_DISTANCES}\n"
            f"tracked against stored lip centers: x {found.error[0]:.2f}, y {found.error[1]:.2f} pixels apart on "
            f"average, bias {found.bias[0]:+.2f}, {found.bias[1]:+.2f}\n"
            f"{found.clips} clips, {found.skipped} without a usable face"
        )
        return 0
    try:
        tracked = track_folder(
            values.root,
            values.out,
            settings_of(values, TrackSettings),
            all_faces=values.all_faces,
            follow_links=values.follow_links,
            address=values.address,
            workers=values.workers,
            task_timeout=values.task_timeout,
        )
    except TrackError as error:
        _warn(f"error: {error}")
        return 1
    for reason, count in tracked.reasons.most_common():
        say(f"{count} skipped: {reason}")
    say(
        f"tracked: {tracked.usable} of {tracked.videos} videos, {tracked.speed:.0f} video-s/s: "
        f"{', '.join(tracked.files)}"
    )
    return 0 if tracked.usable else 1


def verify(arguments: Sequence[str]) -> int:
    """Recheck every checksum, count, shape, type, index row and mel of a dataset."""
    from pipeline.verify import verify as recheck

    parser = CommandParser("pipeline verify", verify.__doc__)
    _add_dataset_argument(parser)
    _add_job_arguments(parser)
    parser.add_argument(
        "--index_only", action="store_true", help="look at manifest, index, plan and errors, and at no shard"
    )
    values = parser.parse(arguments)
    manifest, problems = recheck(values.dataset, values.address, values.workers, values.task_timeout, values.index_only)
    for problem in problems:
        say(shortened(problem))  # it may quote a file
    totals = manifest.totals
    if problems:
        again = "the same `pipeline build` again rebuilds shards whose checksums differ; delete others that are damaged"
        _warn(f"{values.dataset}: {len(problems)} problems; {again} before it")
        return 1
    say(
        f"verified{', but for shards' if values.index_only else ''}: {totals['clips']} clips, {totals['hours']:.3f} h, "
        f"{totals['bytes'] / 1e6:.1f} MB in {values.dataset}"
    )
    return 0


def info(arguments: Sequence[str]) -> int:
    """Totals per split and speaker, lengths, and the lag between lips and sound."""
    from pipeline.info import print_info

    parser = CommandParser("pipeline info", info.__doc__)
    _add_dataset_argument(parser)
    parser.add_argument(
        "--lag_clips", type=int, default=200, help="clips a split that the lag is measured on; 0: not at all"
    )
    values = parser.parse(arguments)
    print_info(values.dataset, values.lag_clips, _console)
    return 0


def preview(arguments: Sequence[str]) -> int:
    """Write one self-contained page with lip strips, mels, transcripts and playable sound."""
    from pipeline.preview import write_preview

    parser = CommandParser("pipeline preview", preview.__doc__)
    _add_dataset_argument(parser)
    parser.add_argument("--n", type=int, default=24, help="how many clips, spread over splits and speakers")
    parser.add_argument("--split", type=str | None, default=None, help="only this split")
    parser.add_argument("--seed", type=int, default=0, help="which clips are drawn")
    parser.add_argument(
        "--root", type=str | None, default=None, help="folder of the videos: shows whole frames with the lip square"
    )
    parser.add_argument(
        "--html", type=str, nargs="?", default=None, const=None, help="file to write; default: DATASET-preview.html"
    )
    values = parser.parse(arguments)
    page = values.html or f"{values.dataset.rstrip('/').split('://')[-1]}-preview.html"
    clips = write_preview(values.dataset, page, n=values.n, split=values.split, seed=values.seed, root=values.root)
    say(f"preview of {clips} clips, to open in a browser: {page}")
    return 0


def tokenizer(arguments: Sequence[str]) -> int:
    """Train a SentencePiece tokenizer on a dataset's transcripts."""
    from pipeline.tokenizer import train_on_dataset

    parser = CommandParser("pipeline tokenizer", tokenizer.__doc__)
    _add_dataset_argument(parser)
    parser.add_argument(
        "--out", type=str | None, default=None, help="file to write, a path or URL; default: DATASET/tokenizer.model"
    )
    parser.add_argument("--vocabulary_size", type=int, default=4000, help="pieces, or as many as the text allows")
    parser.add_argument(
        "--splits",
        type=str,
        nargs="+",
        default=None,
        help="whose transcripts; default: train and pretrain, or else all but val, test and the like",
    )
    values = parser.parse(arguments)
    trained = train_on_dataset(
        values.dataset, out=values.out, vocabulary_size=values.vocabulary_size, splits=values.splits
    )
    pieces = trained.tokenizer.vocabulary_size
    if pieces != values.vocabulary_size:
        why = "the text allows no more" if pieces < values.vocabulary_size else "its characters alone need that many"
        _warn(f"warning: {pieces} pieces instead of {values.vocabulary_size}: {why}")
    say(
        f"tokenizer: {pieces} pieces from {trained.texts} texts, {trained.words} words of {', '.join(trained.splits)}: "
        f"{trained.path}"
    )
    return 0


COMMANDS = {each.__name__: each for each in (demo, track, build, verify, info, preview, tokenizer)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status: 0 done, 1 problems found, 2 unusable input, 130 interrupted."""
    return run_commands("pipeline", COMMANDS, arguments)


def _add_dataset_argument(parser: CommandParser) -> None:
    parser.add_argument("dataset", type=str, nargs="?", default=DEMO_DATASET, help="folder or fsspec URL of a dataset")


def _add_job_arguments(parser: CommandParser) -> None:
    parser.add_argument("--address", type=str | None, default=None, help="a Ray cluster to join: auto or HOST:6379")
    parser.add_argument(
        "--workers",
        type=int | None,
        default=None,
        help="shards or videos in flight; default: one a processor; 0: no Ray, in this process",
    )
    parser.add_argument(
        "--task_timeout",
        type=float,
        default=TASK_TIMEOUT,
        help="seconds that a shard, or eight videos, may take with Ray before they are tried elsewhere",
    )


def _named_dataset(arguments: Sequence[str]) -> str:
    """The dataset that a command line asks for, by flag or in its settings file: it decides the other defaults."""
    files, flags = split_flag(arguments, "config")
    flagged, _ = split_flag(flags, "dataset")
    if flagged:
        return flagged[-1]
    in_files = [read_section(file, "data").get("dataset") for file in reversed(files)]
    return next((str(name) for name in in_files if name), BuildSettings.dataset)
