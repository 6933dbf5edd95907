"""Reads planned micro-batches one at a time, in this process; `load` has worker processes do it ahead."""

from __future__ import annotations

from collections.abc import Sequence

from shards.format.sample import roi_side
from shards.format.store import Store
from shards.loading.batch_plan import MicroBatch
from shards.loading.cache import CacheSettings, ShardCache
from shards.loading.collate import Batch, Contents, collate
from shards.loading.dataset import Dataset
from shards.loading.member_reader import MemberOffsets, MemberReader, open_local


class BatchReader:
    """Reads any micro-batch of a dataset. Only values until it reads: it travels to other processes, and opens files in
    the one that reads.

    Args:
        dataset: opened with `open_dataset`.
        contents: which members are read.
        skip: skip clips that are damaged or missing, and list them in the batch.
        cache: where shards of a remote dataset are kept; default: as `CacheSettings` says.
    """

    def __init__(
        self,
        dataset: Dataset,
        contents: Contents,
        skip: bool = False,
        cache: CacheSettings | None = None,
    ) -> None:
        self._url, self._contents, self._skip = dataset.store.url, contents, skip
        self._members = MemberOffsets.of(dataset.index, roi_side(dataset.manifest.features["crop"]["crop_radius"]))
        self.cache = (
            None if dataset.store.is_local else ShardCache(dataset.store, dataset.manifest, cache or CacheSettings())
        )
        self._reader: MemberReader | None = None

    def read(self, micro_batch: MicroBatch) -> Batch:
        """The clips of a micro-batch, in memory.

        Raises:
            DatasetError: a clip is damaged or missing, and `skip` is off.
            StorageError: the disk or the store failed.
        """
        if self._reader is None:
            where = Store(self._url).path
            opened = self.cache.open if self.cache else lambda shard: open_local(where(shard))
            self._reader = MemberReader(self._members, opened, where)
        return collate(self._reader, micro_batch, self._skip, self._contents)

    def shard_of_rows(self) -> Sequence[str]:
        """The shard of each row of the index."""
        return [self._members.shards[number] for number in self._members.shard.tolist()]

    def close(self) -> None:
        """Close what it has opened."""
        if self._reader is not None:
            self._reader.close()
