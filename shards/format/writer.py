"""Write one shard: samples in, a byte-identical tar and its index rows out.

The tar is a plain WebDataset tar, with time, owner and order fixed: a shard's bytes depend only on its samples.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import numpy as np

from shards.format.errors import DatasetError
from shards.format.hashing_file import HashingFile
from shards.format.member_names import MEMBERS, member_extension
from shards.format.npy import encode_npy_header
from shards.format.roi import RoiCodec, roi_blocks, roi_member
from shards.format.sample import Sample, member_encoders
from shards.format.store import Store

_BYTES_AT_ONCE = 1 << 20
"""A member of a short clip in one piece: in pieces of 10 kB, as of tarfile's streams, writing takes twice as long."""


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
        with store.create(shard) as file:
            hashing = HashingFile(file)
            tar = tarfile.TarFile(
                fileobj=cast(Any, hashing), mode="w", format=tarfile.PAX_FORMAT, copybufsize=_BYTES_AT_ONCE
            )
            with tar:
                writer = cls(shard, codec, tar)
                yield writer
            writer.bytes, writer.sha256 = file.tell(), hashing.digest.hexdigest()

    def write(self, sample: Sample) -> None:
        """Append a sample.

        Raises:
            DatasetError: it does not keep the contract, or its key was written before.
        """
        if any(row["key"] == sample.key for row in self.rows):
            raise DatasetError(f"{sample.key}: written twice to {self.shard}")
        places = {}
        for name, encode in member_encoders(sample, self.codec).items():
            if name == "roi.npy" and isinstance(sample.roi, np.memmap):
                mapped = _NpyFile(sample.roi)
                places[name] = self._write_member(f"{sample.key}.{name}", mapped, mapped.size)
            else:
                content = encode()
                places[name] = self._write_member(f"{sample.key}.{name}", io.BytesIO(content), len(content))
        meta = sample.meta
        row = {
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
        for member in MEMBERS:
            row[f"{member}_offset"], row[f"{member}_size"] = places[member_extension(member, roi_member(self.codec))]
        self.rows.append(row)

    def _write_member(self, name: str, content: io.BytesIO | _NpyFile, size: int) -> tuple[int, int]:
        """Append a file; at which byte of the tar its content begins, and its size."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o444
        self._tar.addfile(info, content)
        return self._tar.offset - -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, size


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
