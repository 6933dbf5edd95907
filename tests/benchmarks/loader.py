"""How many lip-region frames a second one worker turns into batches, beside reading their bytes and beside the videos.

`one worker`: a process of the loader, from shard to collated batch at its parent. `in process`: the same without a
worker. `preadv`: the same members' bytes, one call each, into memory that nobody has touched before, and nothing else.
`mp4`: each picture of the video decoded to colour, cropped, resized and made grey with Pillow, as the published code
does every epoch; `crop only` leaves out resizing, which with shards happens on the device. Pages are in memory already.
"""

from __future__ import annotations

import mmap
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from pipeline.clip import Corpus, build_sample
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from pipeline.media.coordinates import parse_coordinates
from shards import Dataset, Sample
from shards.format.roi import RoiCodec
from shards.loading.batch_plan import plan_epoch
from shards.loading.loader import LoaderSettings, load
from shards.loading.planned_batches import MicroBatch
from tests.shards.datasets import write_dataset

_DECODED_CLIPS = 10
_LEAST_FRAMES = {"npy": 400_000, "h264": 20_000}
"""To read in a run, so that starting a process counts for nothing."""


def measure(settings: BuildSettings, clips: list[CorpusClip], runs: int) -> Iterator[str]:
    """Lines of the report: a Markdown table, frames a second by the clock; ratios are medians over runs."""
    corpus = Corpus.of(settings)
    samples = [build_sample(clip, settings, corpus) for clip in clips]
    samples = [replace(sample, meta=replace(sample.meta, split="train")) for sample in samples]
    yield "| regions | one worker | in process | preadv | worker / preadv | mp4 | worker / mp4 | mp4, crop only | / |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    codecs: tuple[RoiCodec, ...] = ("npy", "h264")
    for codec in codecs:
        with tempfile.TemporaryDirectory() as folder:
            dataset = written(folder, samples, codec)
            yield row(codec, dataset, settings, clips, runs)


def written(folder: str, samples: list[Sample], codec: RoiCodec) -> Dataset:
    """The samples as a dataset of one split, `train`, whose shards have 25 clips at most."""
    parts = [samples[first :: len(samples) // 25 + 1] for first in range(len(samples) // 25 + 1)]
    return write_dataset(folder, {f"train-{number:06d}.tar": part for number, part in enumerate(parts)}, codec)


def row(codec: RoiCodec, dataset: Dataset, settings: BuildSettings, clips: list[CorpusClip], runs: int) -> str:
    planned = list(plan_epoch(dataset.clip_index, ["train"], 0, 0))
    epochs = -(-_LEAST_FRAMES[codec] // dataset.manifest.totals["frames"])
    sampled = clips[:: max(1, len(clips) // _DECODED_CLIPS)]
    taken: list[tuple[float, ...]] = []
    for _ in range(runs + 1):  # the first is a warm-up
        taken.append(
            (
                frames_a_second(dataset, planned * epochs, LoaderSettings(workers=1)),
                frames_a_second(dataset, planned * epochs, LoaderSettings(workers=0)),
                preadv_alone(dataset, planned * epochs),
                decoded(settings, sampled, size=112),
                decoded(settings, sampled, size=None),
            )
        )
    worker, here, preadv, mp4, cropped = (statistics.median(column) for column in zip(*taken[1:], strict=True))
    ratios = [statistics.median(run[0] / run[other] for run in taken[1:]) for other in (2, 3, 4)]
    return (
        f"| `{codec}` | {worker:,.0f} | {here:,.0f} | {preadv:,.0f} | {ratios[0]:.2f} "
        f"| {mp4:,.0f} | {ratios[1]:.0f} | {cropped:,.0f} | {ratios[2]:.0f} |"
    )


def frames_a_second(dataset: Dataset, slots: list[MicroBatch], settings: LoaderSettings) -> float:
    """Of the batches after the first, which waits for the worker to start."""
    batches = load(dataset, slots, settings)
    next(batches)
    began, frames = time.perf_counter(), 0
    for batch in batches:
        assert batch is not None, "no slot of this plan is empty"
        frames += int(batch.lengths.sum())
    return frames / (time.perf_counter() - began)


def preadv_alone(dataset: Dataset, slots: list[MicroBatch]) -> float:
    """The bytes of the same lip regions and mels, one call a member, a new mapping for each batch."""
    columns = ("shard", "frames", "roi_offset", "roi_size", "mel_offset", "mel_size")
    rows = dataset.index.select(columns).to_pylist()
    open_shards = {row["shard"]: os.open(dataset.store.path(row["shard"]), os.O_RDONLY) for row in rows}
    began, frames = time.perf_counter(), 0
    for slot in slots:
        wanted = [rows[clip.row] for clip in slot.clips]
        fresh = mmap.mmap(-1, sum(row["roi_size"] + row["mel_size"] for row in wanted))
        into, at = memoryview(fresh), 0
        for row in wanted:
            for member in ("roi", "mel"):
                size = row[f"{member}_size"]
                os.preadv(open_shards[row["shard"]], [into[at : at + size]], row[f"{member}_offset"])
                at += size
            frames += row["frames"]
        into.release()
        fresh.close()
    seconds = time.perf_counter() - began
    for descriptor in open_shards.values():
        os.close(descriptor)
    return frames / seconds


def decoded(settings: BuildSettings, clips: list[CorpusClip], size: int | None) -> float:
    """The published way, frames a second; `size` as in `lip_pictures`."""
    began, frames = time.perf_counter(), 0
    for clip in clips:
        centres = parse_coordinates(clip.coordinates or "").tolist()
        frames += len(lip_pictures(str(Path(settings.root) / clip.video), centres, settings.crop_radius, size))
    return frames / (time.perf_counter() - began)


def lip_pictures(video: str, centres: list[list[int]], crop_radius: int, size: int | None) -> np.ndarray[Any, Any]:
    """The published way, picture by picture through Pillow: uint8 (T, size, size) grey lip regions around the T
    centres; without a size, the crops as they are."""
    pictures = list[np.ndarray[Any, Any]]()
    with av.open(video) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for (x, y), frame in zip(centres, container.decode(stream), strict=False):
            picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
            lips = picture.crop((x - crop_radius, y - crop_radius, x + crop_radius, y + crop_radius))
            if size is not None:
                lips = lips.resize((size, size), Image.Resampling.BILINEAR)
            pictures.append(np.asarray(lips.convert("L")))
    return np.stack(pictures)
