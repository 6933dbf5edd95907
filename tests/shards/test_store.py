"""A file appears whole or not at all, and a medium that fails is told from a file that is not there."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.regular_file import IrregularFileError
from shards import StorageError, Store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "dataset") if request.param == "local" else f"memory://{tmp_path}")


def test_store_reads_what_was_written(store: Store) -> None:
    assert store.names() == []
    store.write("a.bin", b"hello")
    assert store.read("a.bin") == b"hello"
    assert store.read_range("a.bin", 1, 3) == b"ell"
    assert store.read_range("a.bin", 5, 0) == b""
    assert store.size("a.bin") == 5
    assert store.names() == ["a.bin"]
    assert store.exists("a.bin")
    store.remove("a.bin")
    store.remove("a.bin")
    assert not store.exists("a.bin")


def test_file_is_replaced_whole(store: Store) -> None:
    store.write("a", b"first version")
    store.write("a", b"second")
    assert store.read("a") == b"second"
    assert store.size("a") == 6


def test_failed_write_leaves_nothing_and_keeps_what_was_there(store: Store) -> None:
    store.write("a", b"old")

    def fail_half_way() -> None:
        with store.create("a") as file:
            file.write(b"new")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail_half_way()
    assert store.read("a") == b"old"
    assert store.names() == ["a"]


def test_missing_file_stays_a_missing_file(store: Store) -> None:
    store.write("other", b"")
    for action in (store.read, store.size, store.sha256):
        with pytest.raises(FileNotFoundError):
            action("missing")


def test_full_disk_is_a_storage_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"shard\.tar: writing failed: No space left") as caught:
        Store(str(tmp_path)).write("shard.tar", b"content")
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_forbidden_file_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: object, **settings: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(PermissionError):
        Store(str(tmp_path)).read("a")


def test_store_travels_as_its_url(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a", b"x")
    assert pickle.loads(pickle.dumps(store)).read("a") == b"x"


def test_unknown_kind_of_storage_is_refused() -> None:
    with pytest.raises(ValueError, match="nosuch://bucket"):
        Store("nosuch://bucket/x").exists()


def test_storage_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(StorageError(28, "No space left", "/data/a.tar")))
    assert (str(error), error.errno) == ("/data/a.tar: No space left", 28)


def read_range(store: Store, name: str) -> object:
    return store.read_range(name, 0, 4)


def open_file(store: Store, name: str) -> object:
    with store.open(name) as file:
        return file.read(4)


READS = [Store.read, Store.size, Store.sha256, read_range, open_file]


@pytest.mark.parametrize("read", READS)
def test_fifo_and_sparse_giant_are_refused_by_every_read(tmp_path: Path, read: Callable[[Store, str], object]) -> None:
    os.mkfifo(tmp_path / "fifo.tar")
    with (tmp_path / "giant.tar").open("wb") as file:
        file.truncate(7 << 30)
    for name, what in (("fifo.tar", "FIFO"), ("giant.tar", "holes")):
        with pytest.raises(IrregularFileError, match=rf"{name}: .*{what}"):
            read(Store(str(tmp_path)), name)


@pytest.mark.parametrize("read", READS)
def test_link_to_itself_is_an_error_that_names_it(tmp_path: Path, read: Callable[[Store, str], object]) -> None:
    (tmp_path / "round.tar").symlink_to("round.tar")
    with pytest.raises(OSError, match=r"round\.tar"):
        read(Store(str(tmp_path)), "round.tar")


def test_file_larger_than_its_reader_allows_is_not_read(store: Store) -> None:
    store.write("a", b"12345")
    assert store.read("a", max_bytes=5) == b"12345"
    with pytest.raises(IrregularFileError, match="a: 5 bytes, and at most 4"):
        store.read("a", max_bytes=4)
