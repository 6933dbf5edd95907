"""Small datasets written directly, without videos: clips of noise whose frames, samples and mels all differ."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any
from zlib import crc32

import numpy as np

from model.mel import MelSettings
from shards import Dataset, Sample, SampleMeta, ShardWriter, Store, open_dataset
from shards.format.index_bytes import INDEX_NAME
from shards.format.index_writer import encode_index
from shards.format.manifest import MANIFEST_NAME, Manifest, ShardEntry, encode_manifest, hours_of
from shards.format.roi import RoiCodec

HALF = 11


def noise(key: str, split: str, frames: int) -> Sample:
    """A clip of noise, which the key decides; one of the set `pretrain` has a word every fifth of a second."""
    random = np.random.default_rng(crc32(key.encode()))
    side = 2 * (HALF + 5)
    smooth = np.cumsum(np.cumsum(random.normal(0, 1, (frames, side, side)), axis=1), axis=2)
    corpus_set = key.split("/")[0]
    words = [(f"word{number}", number / 5, (number + 1) / 5) for number in range(frames // 5)]
    return Sample(
        key,
        roi=np.clip(128 + smooth, 0, 255).astype(np.uint8),
        mel=random.normal(0, 0.3, (80, 4 * frames)).astype(np.float32),
        wav=random.integers(-9000, 9000, 640 * frames).astype(np.int16),
        text=" ".join(word for word, _, _ in words),
        meta=SampleMeta(
            set=corpus_set,
            split=split,
            speaker=key.split("/")[1],
            source=f"{key}.mp4",
            source_sha256="0" * 64,
            frames=frames,
            fps=25,
            crop_radius=HALF,
            lips=[(80, 100)] * frames,
            words=words if corpus_set == "pretrain" else [],
            sound=(0, 640 * frames),
            notes=[],
        ),
    )


def write_dataset(url: str, shards: dict[str, list[Sample]], codec: RoiCodec = "npy") -> Dataset:
    """Write a finished dataset: shard name -> its clips, which are all of one split."""
    store = Store(url)
    rows: list[dict[str, Any]] = []
    splits: dict[str, list[ShardEntry]] = {}
    for name, samples in shards.items():
        with ShardWriter.create(store, name, codec) as writer:
            for sample in samples:
                writer.write(sample)
        rows += writer.rows
        frames = sum(sample.meta.frames for sample in samples)
        entry = ShardEntry(name, writer.bytes, writer.sha256, len(samples), frames)
        splits.setdefault(samples[0].meta.split, []).append(entry)
    index = encode_index(rows)
    store.write(INDEX_NAME, index)
    digests = {INDEX_NAME: hashlib.sha256(index).hexdigest()}
    frames = sum(row["frames"] for row in rows)
    totals = {"clips": len(rows), "frames": frames, "hours": hours_of(frames), "bytes": 0, "skipped": 0}
    (crop_radius,) = {sample.meta.crop_radius for samples in shards.values() for sample in samples}
    features = {"mel": asdict(MelSettings()), "crop": {"crop_radius": crop_radius}, "roi_codec": codec}
    manifest = Manifest("plan", {"dataset": "noise"}, features, totals, splits, {}, digests)
    store.write(MANIFEST_NAME, encode_manifest(manifest))
    return open_dataset(url)


def small_dataset(url: str, codec: RoiCodec = "npy", shards: int = 4, clips: int = 5) -> Dataset:
    """`shards` shards of `clips` clips, of 8 to 40 frames, half of them of the set `pretrain`; and one of split val."""
    named = {
        f"train-{shard:06d}.tar": [
            noise(f"{'pretrain' if clip % 2 else 'main'}/s{shard}/{clip:02d}", "train", 8 + (7 * clip + 5 * shard) % 33)
            for clip in range(clips)
        ]
        for shard in range(shards)
    }
    named["val-000000.tar"] = [noise(f"main/v/{clip:02d}", "val", 9 + clip) for clip in range(3)]
    return write_dataset(url, named, codec)
