"""The dataset: open it, and read it clip by clip, in the order in which it is stored, or one clip by its key.

This is the simple way, for inspection and for whoever wants every clip once; training and evaluation read planned
batches (batch_plan.py, loader.py). Nothing is unpickled, and a tar that is not what the manifest says is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runtime.regular_file import IrregularFileError
from shards.format.errors import DatasetError
from shards.format.index import read_index
from shards.format.manifest import Manifest, ShardEntry, read_manifest
from shards.format.member_names import MEMBERS, member_extension
from shards.format.member_sizes import member_sizes
from shards.format.sample import Sample, decode_sample, roi_side
from shards.format.store import Store
from shards.format.tar import Member, read_members
from shards.loading.index_view import ClipIndex

_TRAINING_SPLITS = ("train", "pretrain")
_HELD_OUT = re.compile("val|dev|test|eval")


@dataclass(frozen=True)
class Dataset:
    """A finished dataset, opened for reading: `open_dataset(url)`."""

    store: Store
    manifest: Manifest

    @cached_property
    def index(self) -> pa.Table:
        """The index, a row a clip (columns: `INDEX_SCHEMA`); all of it is in memory, gigabytes of 10,000 hours."""
        return read_index(self.store, self.manifest)

    @cached_property
    def clip_index(self) -> ClipIndex:
        """The index as training and evaluation use it: texts and word times are read as they are drawn."""
        return ClipIndex.open(self.store, self.manifest)

    @property
    def crop_radius(self) -> int:
        """h, of its lip regions, which are 2 (h + 5) pixels wide."""
        return int(self.manifest.features["crop"]["crop_radius"])

    def training_splits(self) -> tuple[str, ...]:
        """The splits to train on: train and pretrain; without these, all but those named as held out.

        Raises:
            ValueError: all splits are held out by their names: those with val, dev, test or eval in them.
        """
        splits = self.manifest.splits
        chosen = [split for split in _TRAINING_SPLITS if split in splits]
        chosen = chosen or [split for split in splits if not _HELD_OUT.search(split)]
        if not chosen:
            raise ValueError(
                f"{self.store.url}: no split to train on among {', '.join(splits) or 'none'}: name some with --splits"
            )
        return tuple(chosen)

    def samples(self, split: str | None = None) -> Iterator[Sample]:
        """Every clip of a split (or of all), in stored order.

        Raises:
            DatasetError: no such split, or a shard that does not keep the contract.
        """
        self.manifest.shard_names(split)
        for name, entries in self.manifest.splits.items():
            for entry in entries if split in (None, name) else ():
                for key, members in read_tar(self.store, entry, self.crop_radius):
                    content = {extension: member.content for extension, member in members.items()}
                    yield decode_sample(key, content, crop_radius=self.crop_radius)

    def sample(self, key: str) -> Sample:
        """One clip, read by its byte offsets.

        Raises:
            DatasetError: there is no such key, or its bytes do not keep the contract.
        """
        rows = self.index.filter(pc.field("key") == key).to_pylist()
        if not rows:
            raise DatasetError(f"{key}: no such clip in {self.store.url}")
        return read_row(self.store, rows[0], self.crop_radius)


def open_dataset(url: str) -> Dataset:
    """Open a finished dataset at a local path or fsspec URL.

    Raises:
        DatasetError: there is no manifest, or it is not readable.
    """
    store = Store(url)
    return Dataset(store, read_manifest(store))


def read_row(store: Store, row: dict[str, Any], crop_radius: int | None = None) -> Sample:
    """The clip that an index row points to (`DatasetError` when its bytes are not what the row says).

    Args:
        store: where its shard lies.
        row: of an index that was read with `read_index`.
        crop_radius: of the dataset; None: whatever the clip says.
    """
    members = {}
    for member in MEMBERS:
        with _unusable_named(store, row["shard"]):
            content = store.read_range(row["shard"], row[f"{member}_offset"], row[f"{member}_size"])
        members[member_extension(member, str(row["roi_member"]))] = content
    return decode_sample(row["key"], members, crop_radius=crop_radius, frames=row["frames"])


def read_tar(store: Store, entry: ShardEntry, crop_radius: int) -> Iterator[tuple[str, dict[str, Member]]]:
    """Groups of members of a shard, (key, extension -> member), read as a stream.

    Args:
        store: where it lies.
        entry: what the manifest says of it.
        crop_radius: of the dataset.

    Raises:
        DatasetError: not a tar, cut short, or with members that no shard has (links, devices, names without a key), or
            larger ones than its frames can take.
    """
    most = {name: size for name, (_, size) in member_sizes(max(1, entry.frames), roi_side(crop_radius)).items()}
    with _unusable_named(store, entry.name), store.open(entry.name) as file:
        yield from read_members(file, store.path(entry.name), most)


@contextmanager
def _unusable_named(store: Store, shard: str) -> Iterator[None]:
    """A shard that is not there, or no file, is a fault of the dataset."""
    try:
        yield
    except FileNotFoundError as error:
        raise DatasetError(f"{store.path(shard)}: the shard is missing") from error
    except IrregularFileError as error:
        raise DatasetError(str(error)) from error
