"""Workers hand batches over without names or shared folders; one that dies, fails or hangs is named in one sentence."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import tempfile
import time
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any

import pytest
import torch

from shards import Dataset
from shards.loading import workers
from shards.loading.batch_plan import plan_epoch
from shards.loading.collate import Batch, BatchReader
from shards.loading.loader import LoaderSettings, load
from shards.loading.planned_batches import MicroBatch
from shards.loading.workers import LoaderError
from tests.shards.datasets import small_dataset
from tests.shards.test_loader import SETTINGS, content, draw, read

ONE = LoaderSettings(workers=1, prefetch=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Not to be changed by a test."""
    return small_dataset(str(tmp_path_factory.mktemp("dataset")))


@pytest.fixture(scope="module")
def planned(dataset: Dataset) -> list[MicroBatch]:
    return list(plan_epoch(dataset.clip_index, ["train"], 0, 0, draw, SETTINGS))


def in_vain(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("folder", ["x" * 120, "cleaned"])
def test_batches_come_whatever_the_temporary_folder(
    dataset: Dataset, planned: list[MicroBatch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """A socket's name has about 100 characters, and a folder for temporary files may be emptied at any time."""
    expected = [content(batch) for batch in read(dataset, planned)]
    (tmp_path / folder).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    batches = load(dataset, planned, LoaderSettings(workers=2))
    found = [next(batches)]
    assert list((tmp_path / folder).iterdir()) == [], "nothing is there to be taken away"
    (tmp_path / folder).rmdir()
    assert [content(batch) for batch in [*found, *batches] if batch] == expected


def test_batches_take_no_shared_memory_that_a_container_bounds(
    dataset: Dataset, planned: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", in_vain)
    before = set(os.listdir("/dev/shm"))
    batches = list(load(dataset, planned, ONE))
    assert len(batches) == len(planned)
    assert set(os.listdir("/dev/shm")) <= before
    maps = Path("/proc/self/maps").read_text()
    assert "memfd:batch" in maps
    assert "/dev/shm/torch" not in maps


def test_memory_of_a_batch_goes_with_it(dataset: Dataset, planned: list[MicroBatch]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in load(dataset, planned, ONE):
        assert len(os.listdir("/proc/self/fd")) <= before + 6
    del _
    assert len(os.listdir("/proc/self/fd")) == before


def test_batch_that_was_handed_over_can_be_changed_and_its_numbers_are_aligned(
    dataset: Dataset, planned: list[MicroBatch]
) -> None:
    for batch in read(dataset, planned, ONE):
        for part in (batch.roi, batch.mel, batch.wav, batch.reference, batch.lengths):
            assert part.numel() == 0 or part.data_ptr() % 64 == 0
            part += 1


def test_worker_that_hangs_is_named_in_time(dataset: Dataset, planned: list[MicroBatch]) -> None:
    batches = load(dataset, planned * 9, LoaderSettings(workers=1, prefetch=1, timeout=1.0))
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(
        LoaderError, match=rf"\(pid {worker.pid}\) is alive, but has given no batch for 1 s: .* loader_timeout"
    ):
        list(batches)
    assert not multiprocessing.active_children()


def test_worker_that_hangs_from_birth_is_named_in_time(
    dataset: Dataset, planned: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fork of a process with threads may."""
    monkeypatch.setattr(workers, "_work", lambda *_: time.sleep(60))
    with pytest.raises(LoaderError, match="alive, but has given no batch for 1 s"):
        read(dataset, planned * 100, LoaderSettings(workers=1, prefetch=100, timeout=1.0, start_method="fork"))


@pytest.mark.parametrize(
    ("number", "what"),
    [(signal.SIGKILL, "was killed, .* memory .*max_padded_frames"), (signal.SIGUSR1, "died of signal 10")],
)
def test_worker_that_dies_is_named_with_what_to_do(
    dataset: Dataset, planned: list[MicroBatch], number: signal.Signals, what: str
) -> None:
    batches = load(dataset, planned * 20, ONE)
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, number)
    with pytest.raises(LoaderError, match=rf"loader worker \(pid {worker.pid}\) .*{what}"):
        list(batches)


def test_worker_that_ends_by_itself_is_named(
    dataset: Dataset, planned: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchReader, "read", lambda *_: os._exit(3))
    with pytest.raises(LoaderError, match=r"loader worker \(pid \d+\) ended with status 3"):
        read(dataset, planned, ONE)


def test_batch_that_cannot_be_taken_over_is_one_sentence(
    dataset: Dataset, planned: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_descriptor(_: object) -> int:
        raise RuntimeError("received 0 items of ancdata")  # of a process that has as many files open as it may

    monkeypatch.setattr(workers, "recv_handle", without_descriptor)
    monkeypatch.setattr(workers, "_JOIN_SECONDS", 0.1)
    with pytest.raises(LoaderError, match=r"is alive, but its batch cannot be taken over: .* \(ulimit -n\)"):
        read(dataset, planned * 9, ONE)


def _send_garbage(connection: Any, _: object) -> None:
    connection.send(["no batch"] * 9)


def _send_nothing_of(content: bytes) -> Any:
    def send(connection: Any, _: object) -> None:
        with workers._memory() as memory:
            memory.write(content)
            send_handle(connection, memory.fileno(), None)

    return send


def _die(*_: object) -> None:
    os._exit(4)


@pytest.mark.parametrize(
    ("name", "instead", "what"),
    [
        ("_send", _send_garbage, "cannot be taken over"),
        ("_send", _send_nothing_of(b""), "has handed over what is no batch"),
        ("_send", _send_nothing_of(b"garbage"), "has handed over what is no batch"),
        ("_send", _send_nothing_of(b"\xff" * 4096), "has handed over what is no batch"),
        ("_send", _send_nothing_of(bytes(4096)), "has handed over what is no batch"),
        ("_send", _send_nothing_of(b"\1" + bytes(7) + b"\x40" + bytes(55) + b"\x80" * 64), "is no batch"),
        ("_pack", _die, "ended with status 4"),
        ("send_handle", _die, "ended with status 4"),
    ],
)
def test_worker_that_sends_garbage_or_dies_while_it_sends_is_one_sentence(
    dataset: Dataset, planned: list[MicroBatch], monkeypatch: pytest.MonkeyPatch, name: str, instead: Any, what: str
) -> None:
    monkeypatch.setattr(workers, name, instead)
    monkeypatch.setattr(workers, "_JOIN_SECONDS", 0.1)
    with pytest.raises(LoaderError, match=rf"loader worker \(pid \d+\) .*{what}") as caught:
        read(dataset, planned * 9, ONE)
    assert "\n" not in str(caught.value)


def test_error_of_a_worker_that_nobody_foresaw_is_one_sentence(
    dataset: Dataset, planned: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unforeseen(*_: object) -> Batch:
        raise ZeroDivisionError("by\nnothing")

    monkeypatch.setattr(BatchReader, "read", unforeseen)
    with pytest.raises(LoaderError, match=r"loader worker \(pid \d+\): ZeroDivisionError: by nothing") as caught:
        read(dataset, planned, ONE)
    assert "\n" not in str(caught.value)


def test_batch_without_memory_to_hand_it_over_is_one_sentence(
    dataset: Dataset, planned: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite

    def small(descriptor: int, part: memoryview, place: int) -> int:
        return pwrite(descriptor, part, place) if place + len(part) < 10_000 else in_vain()

    monkeypatch.setattr(os, "pwrite", small)
    with pytest.raises(LoaderError, match=r"no memory to hand over a batch: No space left .*max_padded_frames"):
        read(dataset, planned, ONE)


def test_workers_that_cannot_be_started_are_one_sentence(
    dataset: Dataset, planned: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = os.fork
    forked: list[int] = []

    def second_fails() -> int:
        if forked:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        forked.append(fork())
        return forked[0]

    monkeypatch.setattr(os, "fork", second_fails)
    with pytest.raises(LoaderError, match=r"worker 2 of 2 cannot be started: .*temporarily unavailable"):
        read(dataset, planned, LoaderSettings(workers=2, start_method="fork"))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("count", [0, 2])
def test_pinned_batches_come_in_order_and_a_dead_worker_ends_them(
    dataset: Dataset, planned: list[MicroBatch], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """As far as it can be seen without a GPU."""
    pinned: list[int] = []

    def pin(batch: Batch) -> Batch:
        pinned.append(batch.number)
        return batch

    monkeypatch.setattr(Batch, "pin_memory", pin)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    settings = LoaderSettings(workers=count, prefetch=1)
    found = [content(batch) for batch in load(dataset, planned, settings, pin_memory=True) if batch]
    assert found == [content(batch) for batch in read(dataset, planned)]
    assert pinned == [micro_batch.number for micro_batch in planned]
    if count:
        batches = load(dataset, planned * 9, settings, pin_memory=True)
        next(batches)
        for worker in multiprocessing.active_children():
            worker.kill()
        with pytest.raises(LoaderError, match="was killed"):
            list(batches)
        batches = load(dataset, planned * 9, settings, pin_memory=True)
        next(batches)
        batches.close()
        assert not multiprocessing.active_children()
