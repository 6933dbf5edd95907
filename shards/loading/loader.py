"""The data loader: worker processes read planned micro-batches, in the plan's order, a few ahead.

    slots = distribute_from(planned, per_step, step, rank, world)
    for batch in load(dataset, slots, LoaderSettings(workers=4)):
        ...                                  # a Batch, or None where the plan left this rank's slot empty

Which batches come, and their bytes, depend on the plan alone, not on the number of workers. The loader keeps no state:
to resume elsewhere, start it with what is left of the plan. It draws nothing from torch's global random numbers.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from runtime.signals import outlive_sigterm
from shards.format.errors import DatasetError, StorageError
from shards.loading.batch_plan import MicroBatch
from shards.loading.cache import CacheSettings
from shards.loading.collate import Batch, BatchReader, Contents
from shards.loading.dataset import Dataset
from shards.loading.prefetch import Prefetcher, shard_uses


@dataclass(frozen=True)
class LoaderSettings:
    """How planned micro-batches are read.

    Attributes:
        workers: processes; 0: none but this one.
        prefetch: micro-batches that each worker reads ahead. They lie in shared memory (/dev/shm).
        on_error: what a damaged or missing clip does: stop with an error, or skip it and report it in its batch. A
            disk or a store that fails stops in any case.
        start_method: of worker processes; None: the platform's own.
        contents: which members are read.
        cache: where shards of a remote dataset are kept; of no effect on a local one.

    Raises:
        ValueError: numbers that make no sense.
    """

    workers: int = 2
    prefetch: int = 2
    on_error: Literal["raise", "skip"] = "raise"
    start_method: Literal["fork", "forkserver", "spawn"] | None = None
    contents: Contents = field(default_factory=Contents)
    cache: CacheSettings = field(default_factory=CacheSettings)

    def __post_init__(self) -> None:
        if self.workers < 0 or self.prefetch < 1:
            raise ValueError(f"workers must be 0 or more, prefetch 1 or more: found {self}")
        if self.on_error not in ("raise", "skip"):
            raise ValueError(f"on_error: {self.on_error!r}: expected raise or skip")


_PATIENCE = 30 * 60
"""Seconds that a batch is waited for. A fork of a process with threads may hang from birth (CPython 3.11)."""


def load(
    dataset: Dataset,
    slots: Sequence[MicroBatch | None],
    settings: LoaderSettings = LoaderSettings(),
    pin_memory: bool = False,
) -> Generator[Batch | None, None, None]:
    """The batches of planned micro-batches, in their order; None for None.

    Close the iterator, or read it to its end, and its processes and files are gone.

    Args:
        dataset: opened with `open_dataset`.
        slots: from a plan (`distribute_from`, `plan_evaluation`), or a part of one. Several loaders may read one plan.
        settings: how to read.
        pin_memory: batches lie in memory that a GPU fetches from by itself; takes a GPU.

    Raises:
        DatasetError: a clip is damaged or missing, and `on_error` is raise; names shard and key.
        StorageError: a disk or store failed, time and again.
        RuntimeError: a worker process died (names its process id), or gave nothing for half an hour.
    """
    reader = BatchReader(dataset, settings.contents, settings.on_error == "skip", settings.cache)
    planned = [slot for slot in slots if slot is not None]
    workers = min(settings.workers, len(planned))
    loader: DataLoader[Batch | Exception] = DataLoader(
        _Source(reader),
        batch_size=None,
        sampler=planned,
        num_workers=workers,
        timeout=_PATIENCE if workers else 0,
        collate_fn=_identity,
        pin_memory=pin_memory,
        prefetch_factor=settings.prefetch if workers else None,
        worker_init_fn=_start,
        multiprocessing_context=settings.start_method if workers else None,
        generator=torch.Generator(),  # else its seed is drawn from the global one, and a resumed run draws once more
    )
    with closing(reader):
        batches: Any = iter(loader)  # processes are started before threads, since a fork copies locks but no threads
        prefetcher = None
        if reader.cache:
            prefetcher = Prefetcher(reader.cache, shard_uses(slots, dataset.index["shard"].to_pylist()))
        try:
            for place, slot in enumerate(slots):
                if slot is None:
                    yield None
                    continue
                batch = _next(batches)
                if isinstance(batch, Exception):
                    raise batch
                yield batch
                if prefetcher:
                    prefetcher.advance(place + 1)
        finally:
            if prefetcher:
                prefetcher.close()
            if workers:
                batches._shutdown_workers()  # now, and not when an error that holds the iterator is forgotten
                for worker in batches._workers:  # after SIGTERM; one that hangs would be waited for at exit
                    worker.kill()
                    worker.join()


class _Source(TorchDataset[Batch | Exception]):
    """Reads a micro-batch when a worker asks for it."""

    def __init__(self, reader: BatchReader) -> None:
        self._reader = reader

    def __getitem__(self, micro_batch: MicroBatch) -> Batch | Exception:
        try:
            return self._reader.read(micro_batch)
        except (DatasetError, StorageError) as error:
            return error  # raised by a worker, it would come out as another error, of a page of text


def _next(batches: Any) -> Batch | Exception:
    """The next batch. torch names a worker that is found dead, but not one that dies while it hands its batch over."""
    try:
        batch: Batch | Exception = next(batches)
        return batch
    except (OSError, EOFError) as error:
        workers = {worker.sentinel: worker.pid for worker in getattr(batches, "_workers", [])}
        dead = [str(workers[ended]) for ended in connection.wait(list(workers), timeout=5.0)]
        if not dead:
            raise
        raise RuntimeError(f"loader worker (pid {', '.join(dead)}) died while it handed over a batch") from error


def _start(_: int) -> None:
    """What a worker does first, called with its number."""
    outlive_sigterm()


def _identity(batch: Any) -> Any:
    return batch
