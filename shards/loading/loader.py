"""The data loader: worker processes read planned micro-batches, in the plan's order, a few ahead.

    slots = distribute_from(planned, per_step, step, rank, world)
    for batch in load(dataset, slots, LoaderSettings(workers=4)):
        ...                                  # a Batch, or None where the plan left this rank's slot empty

Which batches come, and their bytes, depend on the plan alone, not on the number of workers. The loader keeps no state:
to resume elsewhere, start it with what is left of the plan. It draws nothing from torch's global random numbers.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Literal

import torch

from shards.loading.cache import CacheSettings
from shards.loading.collate import Batch, BatchReader, Contents
from shards.loading.dataset import Dataset
from shards.loading.distribute import Slots
from shards.loading.planned_batches import MicroBatch, PlannedBatches
from shards.loading.prefetch import Prefetcher, shard_uses
from shards.loading.workers import Workers


@dataclass(frozen=True)
class LoaderSettings:
    """How planned micro-batches are read.

    Attributes:
        workers: processes; 0: none but this one.
        prefetch: micro-batches that each worker reads ahead, and that lie in memory.
        on_error: what a damaged or missing clip does: stop with an error, or skip it and report it in its batch. A
            disk or a store that fails stops in any case.
        start_method: of worker processes; None: the platform's own.
        timeout: seconds that a batch of a local dataset is waited for, before that is an error; of a remote one, those
            of its cache's `batch_timeout`.
        contents: which members are read.
        cache: where shards of a remote dataset are kept; of no effect on a local one.

    Raises:
        ValueError: numbers that make no sense.
    """

    workers: int = 2
    prefetch: int = 2
    on_error: Literal["raise", "skip"] = "raise"
    start_method: Literal["fork", "forkserver", "spawn"] | None = None
    timeout: float = 60.0
    contents: Contents = field(default_factory=Contents)
    cache: CacheSettings = field(default_factory=CacheSettings)

    def __post_init__(self) -> None:
        if self.workers < 0 or self.prefetch < 1 or self.timeout <= 0:
            raise ValueError(f"workers must be 0 or more, prefetch 1 or more, timeout above 0: found {self}")
        if self.on_error not in ("raise", "skip"):
            raise ValueError(f"on_error: {self.on_error!r}: expected raise or skip")


class Batches(Iterator[Batch | None]):
    """The batches of planned micro-batches, in their order; None for None. Its processes read from its making on.

    Close it, or read it to its end, and its processes and files are gone.

    Raises, when the next one is taken:
        DatasetError: a clip is damaged or missing, and `on_error` is raise; names shard and key.
        StorageError: a disk or store failed, time and again.
        LoaderError: a worker process died (names its process id), or gave nothing for `timeout`.
    """

    def __init__(self, found: Iterator[Batch | None], resources: ExitStack) -> None:
        self._found, self._resources = found, resources

    def __next__(self) -> Batch | None:
        try:
            return next(self._found)
        except BaseException:  # the end, too
            self.close()
            raise

    def close(self) -> None:
        """End what reads."""
        self._found = iter(())
        self._resources.close()

    def __del__(self) -> None:
        self.close()


def load(
    dataset: Dataset,
    slots: Sequence[MicroBatch | None],
    settings: LoaderSettings = LoaderSettings(),
    pin_memory: bool = False,
) -> Batches:
    """Begin to read planned micro-batches.

    Args:
        dataset: opened with `open_dataset`.
        slots: from a plan (`distribute_from`, `plan_evaluation`), or a part of one. Several loaders may read one plan.
        settings: how to read.
        pin_memory: batches lie in memory that a GPU fetches from by itself; takes a GPU.

    Raises:
        LoaderError: a worker process cannot be started.
    """
    with ExitStack() as stack:
        reader = stack.enter_context(
            closing(BatchReader(dataset, settings.contents, settings.on_error == "skip", settings.cache))
        )
        planned, is_filled = _without_empty(slots)
        batches: Iterator[Batch | Exception]
        if settings.workers and planned:
            count = min(settings.workers, len(planned))
            # a remote batch waits for its shards first
            timeout, setting = settings.timeout, "loader_timeout"
            if reader.cache:
                timeout, setting = settings.cache.batch_timeout, "cache.batch_timeout"
            workers = Workers(reader, planned, count, settings.prefetch, settings.start_method, timeout, setting)
            batches = (workers.next() for _ in range(len(planned)))
            if pin_memory:
                batches = stack.enter_context(closing(_pinned_ahead(workers, len(planned))))
            stack.callback(workers.close)
        else:
            read = map(reader.read, planned)
            batches = (batch.pin_memory() if pin_memory else batch for batch in read)
        prefetcher = None
        if reader.cache:
            names, shard_of = dataset.clip_index.shard
            prefetcher = Prefetcher(reader.cache, shard_uses(slots, [names[shard] for shard in shard_of]))
            stack.callback(prefetcher.close)
        return Batches(_handed_over(is_filled, batches, prefetcher), stack.pop_all())


def _handed_over(
    is_filled: Sequence[bool], batches: Iterator[Batch | Exception], prefetcher: Prefetcher | None
) -> Iterator[Batch | None]:
    """What `Batches` gives, and raises."""
    for place, filled in enumerate(is_filled):
        if not filled:
            yield None
            continue
        batch = next(batches)
        if isinstance(batch, Exception):
            raise batch
        yield batch
        if prefetcher:
            prefetcher.advance(place + 1)


def _without_empty(slots: Sequence[MicroBatch | None]) -> tuple[Sequence[MicroBatch], list[bool]]:
    """The micro-batches of slots, and of each slot whether there is one in it; of a plan's none is made for it."""
    if isinstance(slots, Slots):
        planned = slots.planned
        return planned, [place < len(planned) for place in range(len(slots))]
    if isinstance(slots, PlannedBatches):
        return slots, [True] * len(slots)
    return [slot for slot in slots if slot is not None], [slot is not None for slot in slots]


def _pinned_ahead(workers: Workers, count: int) -> Generator[Batch | Exception, None, None]:
    """What workers read, copied by a thread, one ahead, into memory that a GPU fetches from by itself."""

    def pinned() -> Batch | Exception:
        batch = workers.next()
        return batch.pin_memory() if isinstance(batch, Batch) else batch

    # a thread begins with the first GPU, whatever that of the others
    thread = ThreadPoolExecutor(1, "pin memory", torch.cuda.set_device, (torch.cuda.current_device(),))
    try:
        ahead = thread.submit(pinned)
        for left in reversed(range(count)):
            batch = ahead.result()
            if left:
                ahead = thread.submit(pinned)
            yield batch
    finally:
        thread.shutdown(wait=False)  # it ends with the workers, should it wait for one that hangs
