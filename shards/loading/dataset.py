"""The dataset: open it, and read it clip by clip, in the order in which it is stored, or one clip by its key.

This is the simple way, for inspection and for whoever wants every clip once; training and evaluation read planned
batches (batch_plan.py, loader.py). Nothing is unpickled, and a tar that is not what the manifest says is named.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from shards.format.errors import DatasetError
from shards.format.index import MEMBERS, member_extension, read_index, split_member
from shards.format.manifest import Manifest, read_manifest
from shards.format.sample import Sample, decode_sample
from shards.format.store import Store

_TRAINING_SPLITS = ("train", "pretrain")
_HELD_OUT = re.compile("val|dev|test|eval")
_MAX_MEMBER_BYTES = 8 << 30


@dataclass(frozen=True)
class Dataset:
    """A finished dataset, opened for reading: `open_dataset(url)`."""

    store: Store
    manifest: Manifest

    @cached_property
    def index(self) -> pa.Table:
        """The index, a row a clip (columns: `INDEX_SCHEMA`)."""
        return read_index(self.store)

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
        for shard in self.manifest.shard_names(split):
            for key, members in read_tar(self.store, shard):
                yield decode_sample(key, {name: member.content for name, member in members.items()})

    def sample(self, key: str) -> Sample:
        """One clip, read by its byte offsets.

        Raises:
            DatasetError: there is no such key, or its bytes do not keep the contract.
        """
        rows = self.index.filter(pc.field("key") == key).to_pylist()
        if not rows:
            raise DatasetError(f"{key}: no such clip in {self.store.url}")
        return read_row(self.store, rows[0])


def open_dataset(url: str) -> Dataset:
    """Open a finished dataset at a local path or fsspec URL.

    Raises:
        DatasetError: there is no manifest, or it is not readable.
    """
    store = Store(url)
    return Dataset(store, read_manifest(store))


def read_row(store: Store, row: dict[str, Any]) -> Sample:
    """The clip that an index row points to (`DatasetError` when its bytes are not what the row says)."""
    members = {}
    for member in MEMBERS:
        with _missing_named(store, row["shard"]):
            content = store.read_range(row["shard"], row[f"{member}_offset"], row[f"{member}_size"])
        members[member_extension(member, str(row["roi_member"]))] = content
    return decode_sample(row["key"], members)


class Member(NamedTuple):
    """A member of a tar: where its content begins, in bytes from the tar's beginning, and the content."""

    offset: int
    content: bytes


def read_tar(store: Store, shard: str) -> Iterator[tuple[str, dict[str, Member]]]:
    """Groups of members of a tar, (key, extension -> member), read as a stream.

    Raises:
        DatasetError: not a tar, cut short, or with members that no shard has (links, devices, names without a key).
    """
    where = store.path(shard)
    with _missing_named(store, shard), store.open(shard) as file:
        try:
            with tarfile.open(fileobj=file, mode="r|") as tar:
                yield from _groups(tar, where)
        except tarfile.TarError as error:
            raise DatasetError(f"{where}: not a readable tar, or cut short: {error}") from error


@contextmanager
def _missing_named(store: Store, shard: str) -> Iterator[None]:
    """A shard that is not there is a fault of the dataset."""
    try:
        yield
    except FileNotFoundError as error:
        raise DatasetError(f"{store.path(shard)}: the shard is missing") from error


def _groups(tar: tarfile.TarFile, where: str) -> Iterator[tuple[str, dict[str, Member]]]:
    key, members = "", dict[str, Member]()
    for info in tar:
        name = split_member(info.name)
        if not info.isreg() or info.issparse() or name is None or not 0 <= info.size <= _MAX_MEMBER_BYTES:
            raise DatasetError(f"{where}: member {info.name!r} is not one of a shard")
        if name[0] != key:
            if members:
                yield key, members
            key, members = name[0], {}
        if name[1] in members:
            raise DatasetError(f"{where}: member {info.name!r} is there twice")
        content = tar.extractfile(info)
        assert content is not None, "a regular member has content"
        members[name[1]] = Member(info.offset_data, content.read())
    if members:
        yield key, members
