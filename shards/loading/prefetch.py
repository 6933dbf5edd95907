"""Prefetch: fill the cache, in the background, with the shards that a plan is going to need."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from shards.format.errors import DatasetError, StorageError
from shards.loading.cache import ShardCache
from shards.loading.distribute import rows_read
from shards.loading.planned_batches import MicroBatch


def shard_uses(slots: Sequence[MicroBatch | None], shard_of: Sequence[str]) -> dict[str, int]:
    """The last place in the plan at which each shard is read; shards in the order in which they are first needed.

    Args:
        slots: what is going to be read, in order.
        shard_of: the shard of each row of the index.
    """
    last: dict[str, int] = {}
    for place in range(len(slots)):
        for row in rows_read(slots, place):
            last[shard_of[row]] = place
    return last


class Prefetcher:
    """Threads that fill a cache in the order of `shard_uses`, never with more than fits beside what is still needed.

    Each takes the next shard that nobody else on this machine is fetching. What they cannot fetch they leave to the
    reader, who tries again and says what is wrong.
    """

    def __init__(self, cache: ShardCache, uses: dict[str, int], threads: int = 4) -> None:
        self._cache, self._uses = cache, list(uses.items())
        self._place, self._closed = 0, False
        self._moved = threading.Condition()
        for _ in range(threads):
            threading.Thread(target=self._run, name="shard prefetch", daemon=True).start()

    def advance(self, place: int) -> None:
        """Say how far the plan has been read: what was needed only before it may be deleted."""
        with self._moved:
            self._place = place
            self._moved.notify_all()

    def close(self) -> None:
        """Fetch no further shard. A fetch that is under way ends by itself."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()

    def _run(self) -> None:
        for number, (shard, last) in enumerate(self._uses):
            with self._moved:
                self._moved.wait_for(partial(self._fits, number))
                if self._closed:
                    return
                over = last < self._place
            with suppress(DatasetError, StorageError, ValueError):
                if not over:
                    self._cache.fill(shard)

    def _fits(self, number: int) -> bool:
        if self._closed:
            return True
        held = (shard for shard, last in self._uses[: number + 1] if last >= self._place)
        return sum(map(self._cache.bytes, held)) <= self._cache.settings.max_bytes
