"""Write a preview page: clips of a dataset to see and to play, in a single HTML file that needs no network.

A clip is shown as a strip of its lip region over its mel on one time axis, with its transcript and word times, and with
all its frames as a sheet that a few lines of script play in step with its sound. Pictures and sound are data URIs. The
page's bytes depend only on the dataset, the seed and the library versions.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pipeline.media.source_store import SourceStore
from pipeline.preview_lip_square import SIDE, draw_lip_square
from runtime.constants import FPS, MEL_FRAMES_PER_VIDEO_FRAME, N_MELS, SAMPLE_RATE, SAMPLES_PER_FRAME
from runtime.html_page import check_page, write_page
from runtime.images import COLORS, COLUMNS, TILE, data_uri, jpeg, make_tiles, mel_data_uri, sheet, strip
from shards import Dataset, DatasetError, Sample, open_dataset
from shards.format.manifest import read_skipped
from shards.format.wav import encode_wav

_MOST_FRAMES = 160  # shown of one clip: 6.4 s keep a page small and hold most utterances whole
_STRIP, _NARROW_STRIP = 12, 6  # frames in a strip, on a wide screen and on a phone


def write_preview(
    dataset_url: str,
    page: str | os.PathLike[str],
    *,
    n: int = 24,
    split: str | None = None,
    seed: int = 0,
    root: str | None = None,
) -> int:
    """Write the page; it appears whole or not at all, and the folders it lies in are made.

    Args:
        dataset_url: local path or fsspec URL of a finished dataset.
        page: the file to write.
        n: how many clips, taken from splits and speakers in turn; all of them where there are fewer.
        split: only clips of this one.
        seed: another seed draws other clips.
        root: folder or fsspec URL of the videos: a whole frame of each clip is then shown, with its lip square.

    Returns:
        The number of clips on the page.

    Raises:
        ValueError: n is below 1, there is nothing to show, or `page` cannot be a file.
        DatasetError: no dataset, no such split, or a clip whose bytes do not keep the contract.
        StorageError: the disk or network failed.
    """
    if n < 1:
        raise ValueError(f"n: {n} clips cannot be shown, at least 1 was expected")
    check_page(Path(page))
    dataset = open_dataset(dataset_url)
    dataset.manifest.shard_names(split)
    drawn = draw_clips(dataset, n, split, seed)
    shown = sum(len(keys) for keys in drawn.values())
    if not shown:
        raise ValueError(f"{dataset_url}: no clips to show{f' in split {split}' if split else ''}")
    videos = SourceStore(root) if root is not None else None
    name = dataset.store.path().rstrip("/").rpartition("/")[2] or dataset_url
    write_page(
        Path(page),
        "preview.html",
        styles=("preview.css",),
        scripts=("preview.js",),
        package="pipeline",
        title=f"{name}: preview",
        name=name,
        manifest=dataset.manifest,
        totals=_split_totals(dataset),
        reasons=Counter(str(entry["reason"]) for entry in read_skipped(dataset.store)).most_common(),
        shown=shown,
        seed=seed,
        drawn=drawn,
        make_card=lambda key: _card(dataset.sample(key), videos),
        frame_side=SIDE,
        fps=FPS,
        bands=N_MELS,
        colors=[f"rgb{color}" for color in COLORS],
        tile=TILE,
        columns=COLUMNS,
        strip=_STRIP,
        narrow_strip=_NARROW_STRIP,
    )
    return shown


def draw_clips(dataset: Dataset, n: int, split: str | None, seed: int) -> dict[str, list[str]]:
    """Up to `n` keys by split, in the manifest's order of splits: splits take turns, and in each its speakers do."""
    rows = dataset.index.select(["key", "split", "speaker"]).to_pylist()
    rows.sort(key=lambda row: hashlib.sha256(f"{seed}:{row['key']}".encode()).digest())
    speakers: dict[str, dict[str, list[str]]] = {name: {} for name in dataset.manifest.splits if split in (None, name)}
    split_of = {}
    for row in rows:
        if row["split"] in speakers:
            speakers[row["split"]].setdefault(row["speaker"], []).append(row["key"])
            split_of[row["key"]] = row["split"]
    drawn = _in_turn(_in_turn(groups.values()) for groups in speakers.values())[:n]
    by_split = {name: [key for key in drawn if split_of[key] == name] for name in speakers}
    return {name: keys for name, keys in by_split.items() if keys}


def _in_turn(groups: Iterable[list[str]]) -> list[str]:
    return [key for turn in zip_longest(*groups) for key in turn if key is not None]


def _split_totals(dataset: Dataset) -> list[dict[str, Any]]:
    """What each split holds, by the index, in the manifest's order; also a split all of whose clips were skipped."""
    counts = [("key", "count"), ("frames", "sum"), ("speaker", "count_distinct"), ("shard", "count_distinct")]
    table = dataset.index.group_by("split").aggregate(counts)
    table = table.select(["split", *(f"{column}_{count}" for column, count in counts)])
    rows = table.rename_columns(["split", "clips", "frames", "speakers", "shards"]).to_pylist()
    counted = {row["split"]: row for row in rows}
    empty = {"clips": 0, "frames": 0, "speakers": 0, "shards": 0}
    return [counted.get(split, {"split": split, **empty}) for split in dataset.manifest.splits]


def _card(sample: Sample, videos: SourceStore | None) -> dict[str, Any]:
    """What the template shows of a clip: how much of it, what is written along the time axis, and data URIs."""
    if not sample.roi.size:
        raise DatasetError(f"{sample.key}: its lip region is {sample.roi.shape}: there is nothing to show")
    frames = min(sample.meta.frames, _MOST_FRAMES)
    seconds = frames / FPS
    tiles = make_tiles(sample.roi[:frames])
    step = next(step for step in (0.1, 0.5, 1.0) if seconds <= 8 * step)
    notes, (first, last) = list(sample.meta.notes), sample.meta.sound
    if max(first, len(sample.wav) - last) >= SAMPLES_PER_FRAME:
        span = f"{first / SAMPLE_RATE:.2f} to {last / SAMPLE_RATE:.2f} s"
        notes.append(f"the source has sound from {span}; silence was put around it")
    if frames < sample.meta.frames:
        notes.append(f"the first {seconds:.1f} of {sample.meta.frames / FPS:.1f} s are shown")
    return {
        "sample": sample,
        "frames": frames,
        "seconds": seconds,
        "words": [
            (word, start, min(end, seconds)) for word, start, end in sample.meta.words if 0 <= start < min(end, seconds)
        ],
        "ticks": [tick * step for tick in range(int(seconds / step) + 1) if tick * step < 0.97 * seconds],
        "notes": notes,
        "frame": _whole_frame(sample, videos),
        "sheet": jpeg(sheet(tiles)),
        "strip": jpeg(strip(tiles, _STRIP)),
        "narrow_strip": jpeg(strip(tiles, _NARROW_STRIP)),
        "mel": mel_data_uri(sample.mel[:, : MEL_FRAMES_PER_VIDEO_FRAME * frames]),
        "sound": data_uri("audio/wav", encode_wav(sample.wav[: frames * SAMPLES_PER_FRAME])),
    }


def _whole_frame(sample: Sample, videos: SourceStore | None) -> str | None:
    """A data URI of a frame with the lip square (ValueError: the video is not there, or lies elsewhere)."""
    if videos is None:
        return None
    source = sample.meta.source
    try:
        videos.check(source)
        drawn = draw_lip_square(Path(videos.path(source)) if videos.is_local else videos.read(source), sample.meta)
    except FileNotFoundError as error:
        path = videos.path(source)
        raise ValueError(f"{path}: no such file: name the folder of the dataset's videos with --root") from error
    return None if drawn is None else jpeg(drawn)
