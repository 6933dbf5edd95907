"""Write one shard: samples in, a byte-identical tar and its index rows out.

The tar is written by `webdataset`, with time, owner and order fixed: a shard's bytes depend only on its samples.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import IO, Any

import numpy as np

from shards.format.errors import DatasetError
from shards.format.index import MEMBERS, member_extension, split_member
from shards.format.npy import encode_npy_header
from shards.format.roi import RoiCodec, roi_blocks, roi_member
from shards.format.sample import Sample, member_encoders
from shards.format.store import Store


@dataclass
class _HashingFile:
    """Passes writes on and keeps the checksum of them, so that a finished tar need not be read again."""

    file: IO[bytes]
    digest: Any = field(default_factory=hashlib.sha256)

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self.file.write(content)


@dataclass
class ShardWriter:
    """The writer of one shard; use `ShardWriter.create`. After its block, `bytes`, `sha256` and `rows` are set."""

    shard: str
    codec: RoiCodec
    _tar: Any
    rows: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0
    sha256: str = ""

    @classmethod
    @contextmanager
    def create(cls, store: Store, shard: str, codec: RoiCodec) -> Iterator[ShardWriter]:
        """Write `shard` (a name ending in .tar) into `store`; it appears when the block ends without an error.

        Raises:
            StorageError: the medium failed.
        """
        from webdataset import TarWriter  # brings torch along, which a reader of shards need not wait for

        with store.create(shard) as file:
            hashing = _HashingFile(file)
            # PAX: the older default cuts off long and non-ASCII names
            with TarWriter(hashing, encoder=False, mtime=0, user="", group="", format="PAX_FORMAT") as tar:
                writer = cls(shard, codec, tar)
                yield writer
            writer.bytes, writer.sha256 = file.tell(), hashing.digest.hexdigest()
            file.flush()
            _add_offsets(writer.rows, file.name)

    def write(self, sample: Sample) -> None:
        """Append a sample.

        Raises:
            DatasetError: it does not keep the contract, or its key was written before.
        """
        if any(row["key"] == sample.key for row in self.rows):
            raise DatasetError(f"{sample.key}: written twice to {self.shard}")
        for name, encode in member_encoders(sample, self.codec).items():
            if name == "roi.npy" and isinstance(sample.roi, np.memmap):
                self._write_mapped(f"{sample.key}.{name}", sample.roi)
            else:
                self._tar.write({"__key__": sample.key, name: encode()})
        meta = sample.meta
        self.rows.append(
            {
                "key": sample.key,
                "split": meta.split,
                "set": meta.set,
                "shard": self.shard,
                "frames": meta.frames,
                "speaker": meta.speaker,
                "source": meta.source,
                "text": sample.text,
                "words": [{"word": word, "start": start, "end": end} for word, start, end in meta.words],
                "roi_member": roi_member(self.codec),
            }
        )

    def _write_mapped(self, name: str, array: np.ndarray[Any, Any]) -> None:
        """Append an array that lies in a file without holding it in memory, with the header that webdataset gives."""
        content, tar = _NpyFile(array), self._tar
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = content.size, tar.mtime, tar.mode
        info.uname, info.gname = tar.user, tar.group
        tar.tarstream.addfile(info, content)


class _NpyFile:
    """The `.npy` file of a lip region, read from begin to end without holding it in memory."""

    def __init__(self, roi: np.ndarray[Any, Any]) -> None:
        header = encode_npy_header(roi)
        self.size = len(header) + roi.nbytes
        self._blocks = chain([header], (block.tobytes() for block in roi_blocks(roi)))
        self._rest = memoryview(b"")

    def read(self, count: int) -> bytes:
        parts = []
        while count:
            self._rest = self._rest or memoryview(next(self._blocks, b""))
            if not self._rest:
                break
            parts.append(self._rest[:count])
            self._rest = self._rest[count:]
            count -= len(parts[-1])
        return b"".join(parts)


def _add_offsets(rows: list[dict[str, Any]], path: str) -> None:
    """Read the finished tar's headers and note in `rows` where each member's content begins and how long it is."""
    with tarfile.open(path, "r:") as tar:
        found = {split_member(info.name): info for info in tar}
    for row in rows:
        for member in MEMBERS:
            info = found[row["key"], member_extension(member, str(row["roi_member"]))]
            row[f"{member}_offset"], row[f"{member}_size"] = info.offset_data, info.size
