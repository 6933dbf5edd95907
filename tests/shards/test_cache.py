"""Remote shards come through a bounded folder: fetched once, checked, made room for, and a bad store is named."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from shards import Dataset, DatasetError, StorageError
from shards.format.manifest import ShardEntry
from shards.loading.batch_plan import BatchSettings, plan_epoch
from shards.loading.cache import CacheSettings, ShardCache
from shards.loading.loader import LoaderSettings, load
from shards.loading.prefetch import Prefetcher, shard_uses
from tests.processes import wait_for
from tests.shards.datasets import small_dataset

PLAN = BatchSettings(max_padded_frames=120, window_shards=2)
SHARDS = [f"train-{number:06d}.tar" for number in range(4)]


class FaultyStore(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store in memory whose reads of shards go through `fault` first."""

    protocol = "faulty"
    store: dict[str, Any] = {}  # noqa: RUF012  # its parent's way
    pseudo_dirs = [""]  # noqa: RUF012
    fault: Callable[[str], None] = staticmethod(lambda path: None)
    reads: list[str] = []  # noqa: RUF012

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **settings: Any) -> bytes:
        if path.endswith(".tar"):
            type(self).reads.append(path.rsplit("/", 1)[-1])
            type(self).fault(path)
        content: bytes = super().cat_file(path, start=start, end=end, **settings)
        return content


fsspec.register_implementation("faulty", FaultyStore, clobber=True)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[FaultyStore]:
    monkeypatch.setattr(FaultyStore, "reads", [])
    monkeypatch.setattr(FaultyStore, "fault", staticmethod(lambda path: None))
    return FaultyStore


@pytest.fixture
def dataset(faulty: type[FaultyStore], tmp_path: Path) -> Iterator[Dataset]:
    yield small_dataset(f"faulty://{tmp_path.name}")
    FaultyStore.store.clear()


@pytest.fixture
def settings(tmp_path: Path) -> CacheSettings:
    return CacheSettings(str(tmp_path / "cache"), max_bytes=10**9, timeout=30.0, attempts=3, pause=0.0)


def cache_of(dataset: Dataset, settings: CacheSettings) -> ShardCache:
    return ShardCache(dataset.store, dataset.manifest, settings)


def opened(cache: ShardCache, shard: str) -> bytes:
    descriptor = cache.open(shard)
    try:
        return os.pread(descriptor, 1 << 30, 0)
    finally:
        os.close(descriptor)


def kept(settings: CacheSettings) -> list[str]:
    return sorted(path.name.partition("-")[2] for path in Path(settings.folder).glob("*.tar"))


def size(dataset: Dataset, shard: str) -> int:
    return next(entry.bytes for entry in dataset.manifest.splits["train"] if entry.name == shard)


def test_shard_is_fetched_once_and_holds_the_stores_bytes(
    dataset: Dataset, settings: CacheSettings, faulty: type[FaultyStore]
) -> None:
    expected = dataset.store.read(SHARDS[0])
    faulty.reads.clear()
    cache = cache_of(dataset, settings)
    assert [opened(cache, SHARDS[0]) for _ in range(3)] == [expected] * 3
    assert opened(cache_of(dataset, settings), SHARDS[0]) == expected, "another process finds it there"
    assert faulty.reads == SHARDS[:1]


def test_cache_fetches_a_shard_once_for_all_who_need_it_at_the_same_time(
    dataset: Dataset, settings: CacheSettings, faulty: type[FaultyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = dataset.store.read(SHARDS[0])
    faulty.reads.clear()
    go = threading.Event()
    monkeypatch.setattr(faulty, "fault", staticmethod(lambda path: go.wait(30)))
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(opened, cache_of(dataset, settings), SHARDS[0]) for _ in range(4)]
        wait_for(lambda: faulty.reads, "the first to ask the store")
        assert not cache_of(dataset, settings).fill(SHARDS[0]), "who only wants it there need not wait"
        go.set()
        assert [each.result() for each in found] == [expected] * 4
    assert faulty.reads == SHARDS[:1]


def test_cache_folder_stays_within_its_bound_and_loses_what_was_used_longest_ago(
    dataset: Dataset, settings: CacheSettings
) -> None:
    room = size(dataset, SHARDS[0]) + size(dataset, SHARDS[1]) + size(dataset, SHARDS[2])
    settings = replace(settings, max_bytes=room)
    cache = cache_of(dataset, settings)
    for shard in (*SHARDS[:3], SHARDS[0]):
        opened(cache, shard)
    os.utime(next(Path(settings.folder).glob(f"*{SHARDS[1]}")), (1, 1))
    opened(cache, SHARDS[3])
    assert SHARDS[1] not in kept(settings)
    assert {SHARDS[0], SHARDS[3]} <= set(kept(settings))
    assert sum(path.stat().st_size for path in Path(settings.folder).iterdir()) <= room


def test_opened_shard_stays_readable_after_it_was_deleted(dataset: Dataset, settings: CacheSettings) -> None:
    expected = dataset.store.read(SHARDS[0])
    cache = cache_of(dataset, replace(settings, max_bytes=max(size(dataset, shard) for shard in SHARDS)))
    descriptor = cache.open(SHARDS[0])
    opened(cache, SHARDS[1])
    assert kept(settings) == [SHARDS[1]]
    assert os.pread(descriptor, 1 << 30, 0) == expected
    os.close(descriptor)


def test_cache_with_room_for_one_shard_serves_many_readers(dataset: Dataset, settings: CacheSettings) -> None:
    """Each shard that comes drives another out, in the middle of its being opened: nobody may lose or mix up any."""
    settings = replace(settings, max_bytes=max(size(dataset, shard) for shard in SHARDS))
    expected = {shard: dataset.store.read(shard) for shard in SHARDS}

    def read(number: int) -> bool:
        cache, shard = cache_of(dataset, settings), SHARDS[number % 4]
        return opened(cache, shard) == expected[shard]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(60)))
    assert len(kept(settings)) == 1


def test_shard_larger_than_the_cache_is_refused(dataset: Dataset, settings: CacheSettings) -> None:
    largest = max(size(dataset, shard) for shard in SHARDS)
    with pytest.raises(ValueError, match=rf"max_bytes: {largest - 1} is too small, train-00000\d.tar has {largest}"):
        cache_of(dataset, replace(settings, max_bytes=largest - 1))


def failing(times: int, error: Exception) -> Callable[[str], None]:
    left = [times]

    def fault(path: str) -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return fault


@pytest.mark.parametrize("error", [OSError(104, "Connection reset by peer"), RuntimeError("SlowDown")])
def test_store_that_fails_now_and_then_is_tried_again_and_then_named(
    dataset: Dataset,
    settings: CacheSettings,
    faulty: type[FaultyStore],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    expected = dataset.store.read(SHARDS[0])
    monkeypatch.setattr(faulty, "fault", staticmethod(failing(2, error)))
    assert opened(cache_of(dataset, settings), SHARDS[0]) == expected
    faulty.reads.clear()
    monkeypatch.setattr(faulty, "fault", staticmethod(failing(1000, error)))
    told = "Connection reset by peer|SlowDown"
    with pytest.raises(StorageError, match=rf"{SHARDS[1]}: reading failed: .*({told})"):
        cache_of(dataset, settings).open(SHARDS[1])
    assert faulty.reads == [SHARDS[1]] * 3
    assert kept(settings) == [SHARDS[0]]
    assert not list(Path(settings.folder).glob(".*.part"))


def test_store_that_does_not_answer_is_given_up_and_named(
    dataset: Dataset, settings: CacheSettings, faulty: type[FaultyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = dataset.store.read(SHARDS[0])
    faulty.reads.clear()
    over = threading.Event()
    settings = replace(settings, timeout=0.05)
    try:
        monkeypatch.setattr(faulty, "fault", staticmethod(lambda path: over.wait(60)))
        with pytest.raises(StorageError, match=rf"{SHARDS[0]}: no answer .* 0\.05 s"):
            cache_of(dataset, settings).open(SHARDS[0])
        assert faulty.reads == [SHARDS[0]] * 3
    finally:
        over.set()
    assert opened(cache_of(dataset, replace(settings, timeout=30)), SHARDS[0]) == expected


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: b"x" + content[1:]])
def test_shard_with_another_checksum_is_named_and_not_kept(
    dataset: Dataset, settings: CacheSettings, faulty: type[FaultyStore], change: Callable[[bytes], bytes]
) -> None:
    entry: ShardEntry = dataset.manifest.splits["train"][0]
    dataset.store.write(SHARDS[0], change(dataset.store.read(SHARDS[0])))
    faulty.reads.clear()
    cache = cache_of(dataset, settings)
    for _ in range(2):
        with pytest.raises(DatasetError, match=rf"{SHARDS[0]}: expected {entry.bytes} bytes of sha256 {entry.sha256}"):
            cache.open(SHARDS[0])
    assert len(faulty.reads) == 3, "tried again at first, then known"
    assert kept(settings) == []


def test_missing_shard_is_named_at_once(dataset: Dataset, settings: CacheSettings, faulty: type[FaultyStore]) -> None:
    dataset.store.remove(SHARDS[0])
    faulty.reads.clear()
    with pytest.raises(DatasetError, match=rf"{SHARDS[0]}: the shard is missing"):
        cache_of(dataset, settings).open(SHARDS[0])
    assert len(faulty.reads) == 1


def test_full_disk_is_named_as_the_caches(
    dataset: Dataset, settings: CacheSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StorageError, match=r"cache: the cache .*written.*: No space left .*cache\.folder"):
            cache_of(dataset, settings).open(SHARDS[0])
    assert not list(Path(settings.folder).glob(".*.part"))
    assert opened(cache_of(dataset, settings), SHARDS[0])


@pytest.mark.parametrize(("call", "code"), [("flock", errno.ENOSYS), ("open", errno.EACCES), ("utime", errno.EROFS)])
@pytest.mark.parametrize("workers", [0, 1])
def test_disk_of_the_cache_that_cannot_be_used_is_named_and_not_the_store(
    dataset: Dataset,
    settings: CacheSettings,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
    workers: int,
) -> None:
    """Some network disks know no locks; of others only the owner may write."""

    def refuse(path: Any, *arguments: Any, **named: Any) -> Any:
        if call == "open" and not str(path).startswith(settings.folder):
            return whole(path, *arguments, **named)
        raise OSError(code, os.strerror(code))

    module = fcntl if call == "flock" else os
    whole = getattr(module, call)
    unhandled: list[Any] = []
    planned = plan_epoch(dataset.index, ["train"], 0, 0, settings=PLAN)
    with monkeypatch.context() as patch:
        patch.setattr(module, call, refuse)
        patch.setattr(threading, "excepthook", unhandled.append)
        with pytest.raises(StorageError, match=rf"cache: the cache .*: {os.strerror(code)}: .*cache\.folder") as caught:
            list(load(dataset, planned, LoaderSettings(workers=workers, cache=settings)))
        wait_for(lambda: not any(t.name == "shard prefetch" for t in threading.enumerate()), "the threads to end")
    assert ".tar" not in str(caught.value)
    assert not unhandled, "nor does a thread of the prefetcher say anything"


def test_leftovers_of_a_killed_process_are_deleted(dataset: Dataset, settings: CacheSettings) -> None:
    most = max(size(dataset, shard) for shard in SHARDS)
    settings = replace(settings, max_bytes=most)
    cache = cache_of(dataset, settings)
    opened(cache, SHARDS[0])
    (whole,) = Path(settings.folder).glob("*.tar")
    whole.rename(whole.with_name(f".{whole.name}.part"))
    assert opened(cache, SHARDS[1])
    assert opened(cache, SHARDS[0])
    whole.rename(whole.with_name(f".{whole.name}.part"))
    assert opened(cache, SHARDS[0]), "its own left-over too"
    assert len(list(Path(settings.folder).glob(".*.part"))) == 0


def test_cache_leaves_other_files_in_its_folder_alone(dataset: Dataset, settings: CacheSettings) -> None:
    folder = Path(settings.folder)
    folder.mkdir()
    names = ["train-000000.tar", "0123456789abcdef.tar", "notes.part", ".mine.tar.part"]
    for name in names:
        (folder / name).write_bytes(b"mine" * 100_000)
    cache = cache_of(dataset, replace(settings, max_bytes=max(size(dataset, shard) for shard in SHARDS)))
    for shard in SHARDS:
        assert opened(cache, shard)
    assert all((folder / name).exists() for name in names)


def test_forked_process_does_not_keep_the_lock_of_a_fetch(
    dataset: Dataset, settings: CacheSettings, faulty: type[FaultyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, child = cache_of(dataset, settings), list[int]()
    reading, writing = os.pipe()

    def fork(path: str) -> None:
        if not child:
            child.append(os.fork())
            if child == [0]:
                os.read(reading, 1)
                os._exit(0)

    monkeypatch.setattr(faulty, "fault", staticmethod(fork))
    try:
        opened(cache, SHARDS[0])
        (whole,) = Path(settings.folder).glob("*.tar")
        whole.unlink()
        assert cache.fill(SHARDS[0])
        assert kept(settings) == [SHARDS[0]]
    finally:
        os.write(writing, b"x")
        os.waitpid(child[0], 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_of_a_remote_dataset_are_those_of_a_local_one(
    dataset: Dataset, settings: CacheSettings, tmp_path: Path, workers: int
) -> None:
    local = small_dataset(str(tmp_path / "local"))
    planned = plan_epoch(local.index, ["train"], 0, 0, settings=PLAN)
    assert plan_epoch(dataset.index, ["train"], 0, 0, settings=PLAN) == planned
    reading = LoaderSettings(workers=workers, cache=settings)
    for ours, theirs in zip(load(dataset, planned, reading), load(local, planned, reading), strict=True):
        assert ours is not None
        assert theirs is not None
        assert ours.keys == theirs.keys
        for name in ("roi", "mel", "wav", "lengths"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert kept(settings) == SHARDS, "each was fetched, and the local ones were not copied"


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_names_a_store_that_fails_and_skips_a_damaged_shard(
    dataset: Dataset,
    settings: CacheSettings,
    faulty: type[FaultyStore],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    planned = plan_epoch(dataset.index, ["train"], 0, 0, settings=PLAN)
    reading = LoaderSettings(workers=workers, cache=settings, on_error="skip")
    dataset.store.write(SHARDS[2], b"damaged")
    batches = [batch for batch in load(dataset, planned, reading) if batch]
    assert {each.key.split("/")[1] for batch in batches for each in batch.skipped} == {"s2"}
    assert sum(len(batch.keys) for batch in batches) == 15
    Path(settings.folder).rename(f"{settings.folder} of before")
    monkeypatch.setattr(faulty, "fault", staticmethod(failing(10**6, OSError(110, "Connection timed out"))))
    with pytest.raises(StorageError, match=r"train-00000\d\.tar: .*Connection timed out"):
        list(load(dataset, planned, reading))


def test_shard_uses_are_in_the_order_of_the_plan(dataset: Dataset) -> None:
    shard_of = dataset.index["shard"].to_pylist()
    planned = plan_epoch(dataset.index, ["train"], 0, 0, settings=PLAN)
    found = shard_uses([None, *planned], shard_of)
    assert set(found) == set(SHARDS)
    places = {
        shard: [1 + n for n, slot in enumerate(planned) if shard in {shard_of[clip.row] for clip in slot.clips}]
        for shard in found
    }
    assert list(found) == sorted(found, key=lambda shard: places[shard][0])
    assert found == {shard: of_shard[-1] for shard, of_shard in places.items()}


def test_prefetcher_fetches_as_far_as_shards_fit(dataset: Dataset, settings: CacheSettings) -> None:
    settings = replace(settings, max_bytes=sum(sorted(size(dataset, shard) for shard in SHARDS)[-2:]))
    needed = {shard: 10 * number + 9 for number, shard in enumerate(SHARDS)}
    ahead = Prefetcher(cache_of(dataset, settings), needed, threads=1)
    wait_for(lambda: kept(settings) == SHARDS[:2], "the first two")
    ahead.advance(9)
    assert SHARDS[0] in kept(settings), "still needed"
    ahead.advance(10)
    wait_for(lambda: SHARDS[2] in kept(settings), "the third, when the first is over")
    assert SHARDS[0] not in kept(settings)
    ahead.close()
    wait_for(lambda: not any(t.name == "shard prefetch" for t in threading.enumerate()), "the threads to end")


def test_prefetcher_leaves_what_it_cannot_fetch_to_the_reader(
    dataset: Dataset, settings: CacheSettings, faulty: type[FaultyStore]
) -> None:
    dataset.store.remove(SHARDS[0])
    ahead = Prefetcher(cache_of(dataset, settings), dict.fromkeys(SHARDS, 9))
    wait_for(lambda: kept(settings) == SHARDS[1:], "the others")
    ahead.close()


@pytest.mark.parametrize("wrong", [{"max_bytes": 0}, {"attempts": 0}, {"timeout": 0.0}, {"pause": -1.0}])
def test_cache_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CacheSettings(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_shards_are_read_from_s3_by_worker_processes(
    s3: Any, settings: CacheSettings, tmp_path: Path, start_method: Literal["fork", "spawn"]
) -> None:
    s3.mkdir("datasets")
    local = small_dataset(str(tmp_path / "local"))
    remote = small_dataset("s3://datasets/small")  # its connections are open when workers are started
    planned = plan_epoch(remote.index, ["train"], 0, 0, settings=PLAN)
    room = 3 * max(size(remote, shard) for shard in SHARDS)
    reading = LoaderSettings(workers=2, start_method=start_method, cache=replace(settings, max_bytes=room))
    for ours, theirs in zip(load(remote, planned, reading), load(local, planned), strict=True):
        assert ours is not None
        assert theirs is not None
        assert ours.keys == theirs.keys
        np.testing.assert_array_equal(ours.roi, theirs.roi)
    assert len(kept(settings)) <= 3
