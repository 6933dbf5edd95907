"""The lock of a build: the second of two builds is refused, a crash leaves nothing that stops the next."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import build_lock
from pipeline.build import BuildError, plan_build, run_build
from pipeline.build_lock import LOCK_NAME, BuildLock
from pipeline.cli import main
from pipeline.config import BuildSettings
from pipeline.verify import verify
from runtime.regular_file import IrregularFileError
from shards import Store
from tests.corpora import Lrs2Corpus
from tests.processes import wait_for

HELD = """
import sys, time
from pipeline.build_lock import BuildLock
from shards import Store
with BuildLock(Store(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def without_os_locks(*_: Any) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.fixture(params=["a folder", "a folder without the system's locks", "a bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A place of each kind, where a lock is rewritten each 50 ms, and lost after a second without."""
    monkeypatch.setattr(build_lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(build_lock, "WATCH_SECONDS", 1.0)
    if request.param == "a bucket":
        return Store(f"memory://{tmp_path.name}")
    if request.param != "a folder":
        monkeypatch.setattr(fcntl, "flock", without_os_locks)
    return Store(str(tmp_path / "out"))


@pytest.fixture
def folder_store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out"))


def leave_a_lock(store: Store) -> None:
    """What a build that crashed leaves."""
    with BuildLock(store):
        content = store.read(LOCK_NAME)
    store.write(LOCK_NAME, content)


def test_build_lock_is_held_by_one_and_names_it_to_the_other(store: Store) -> None:
    with BuildLock(store) as lock:
        with pytest.raises(ValueError, match=rf"{store.url}: .*process {os.getpid()} of .* since 20.*run"):
            BuildLock(store).__enter__()
        assert not lock.lost
        assert store.names() == [LOCK_NAME]
    assert store.names() == []
    with BuildLock(store):
        pass


def test_build_lock_of_a_build_that_crashed_is_taken_over(store: Store) -> None:
    leave_a_lock(store)
    with BuildLock(store) as lock:
        wait_for(lambda: lock._beats > 2, "heartbeats")
        assert not lock.lost
    assert store.names() == []


def test_build_lock_of_a_killed_process_of_this_machine_is_taken_over_at_once(
    folder_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", HELD, folder_store.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"process {process.pid} of"):
            BuildLock(folder_store).__enter__()
        process.send_signal(signal.SIGKILL)
    assert folder_store.names() == [LOCK_NAME]
    monkeypatch.setattr(BuildLock, "_watch", lambda *_: pytest.fail("it waited"))
    with BuildLock(folder_store):
        pass


def test_build_lock_of_another_machine_that_is_alive_is_respected_though_the_system_gives_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)  # some file systems have locks for each machine alone
    with BuildLock(store) as lock:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(socket, "gethostname", lambda: "elsewhere")
            with pytest.raises(ValueError, match="another build writes here"):
                BuildLock(store).__enter__()
        assert "whether it is alive" in capsys.readouterr().err
        assert not lock.lost


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_build_lock_is_written_into_no_other_file(kind: str, folder_store: Store, tmp_path: Path) -> None:
    other, lock = tmp_path / "other.txt", Path(folder_store.path(LOCK_NAME))
    other.write_text("mine")
    lock.parent.mkdir(exist_ok=True)
    lock.symlink_to(other) if kind == "link" else os.mkfifo(lock)
    with pytest.raises(IrregularFileError, match=str(lock)):
        BuildLock(folder_store).__enter__()
    assert other.read_text() == "mine"


def test_build_lock_that_nests_deep_is_that_of_a_build_without_a_name(folder_store: Store) -> None:
    assert build_lock._who(b"[" * 100_000) == "a build that has not yet written its name"


def test_build_lock_goes_to_one_of_two_that_come_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_lock, "SETTLE_SECONDS", 0.3)
    meet, leave = threading.Barrier(3), threading.Event()
    outcomes: list[bool] = []

    def take() -> None:
        meet.wait()
        try:
            with BuildLock(store):
                outcomes.append(True)
                leave.wait()
        except ValueError:
            outcomes.append(False)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(outcomes) == 3, "three outcomes")
    leave.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False, False, True]


def overwritten(store: Store) -> None:
    store.write(LOCK_NAME, b'{"host": "elsewhere", "token": "another"}')


def deleted(store: Store) -> None:
    store.remove(LOCK_NAME)


@pytest.mark.parametrize("lose", [overwritten, deleted])
def test_build_lock_that_is_lost_is_noticed_and_left_alone(store: Store, lose: Callable[[Store], None]) -> None:
    def lose_until_noticed(lock: BuildLock) -> bool:  # the holder may be about to write, and then holds it again
        lose(store)
        return lock.lost

    with BuildLock(store) as lock:
        wait_for(lambda: lose_until_noticed(lock), "the loss")
        left = store.names()
    assert store.names() == left, "the lock is another build's now"


def test_build_lock_is_kept_by_a_holder_whose_network_stumbles(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: BuildLock) -> bool:
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    with BuildLock(store) as lock:
        with monkeypatch.context() as stumbling:
            stumbling.setattr(BuildLock, "_is_ours", fail)
            threading.Event().wait(0.2)
        before = lock._beats
        wait_for(lambda: lock._beats > before + 1, "heartbeats")
        assert not lock.lost


@pytest.mark.slow
def test_build_lock_holds_in_an_object_store(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_lock, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(build_lock, "WATCH_SECONDS", 3.0)
    s3.mkdir("datasets")
    store = Store("s3://datasets/small")
    with BuildLock(store) as lock:
        with pytest.raises(ValueError, match=f"process {os.getpid()}"):
            BuildLock(store).__enter__()
        assert not lock.lost
    leave_a_lock(store)
    with BuildLock(store):
        assert store.names() == [LOCK_NAME]
    assert store.names() == []


def test_build_is_refused_while_another_builds_there(
    small_corpus: Lrs2Corpus, folder_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--dataset", "lrs2", "--root", str(small_corpus.root), "--out", folder_store.url, "--workers", "0"]
    with BuildLock(folder_store):
        assert main(["build", *flags]) == 2
        assert f"process {os.getpid()}" in capsys.readouterr().err
        assert folder_store.names() == [LOCK_NAME], "nothing was written"
    assert main(["build", *flags]) == 0
    assert verify(folder_store.url, workers=0)[1] == []
    assert not folder_store.exists(LOCK_NAME)


def test_build_leaves_no_lock_where_it_is_refused(small_settings: BuildSettings, folder_store: Store) -> None:
    folder_store.write("thesis.tex", b"years of work")
    with pytest.raises(ValueError, match=r"thesis\.tex"):
        run_build(plan_build(small_settings, print), small_settings, folder_store.url, workers=0)
    assert folder_store.names() == ["thesis.tex"]


def test_build_stops_once_its_lock_is_lost(
    small_settings: BuildSettings, folder_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as losing:
        losing.setattr(BuildLock, "lost", True)
        with pytest.raises(BuildError, match=r"build\.lock.*run the same command again"):
            run_build(plan_build(small_settings, print), small_settings, folder_store.url, workers=0)
    assert not folder_store.exists("manifest.json")
    result = run_build(plan_build(small_settings, print), small_settings, folder_store.url, workers=0)
    assert result.reused == 1, "the shard that was finished stays"
