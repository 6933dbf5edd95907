"""Parts of the page by themselves: names of uploads, voices of a dataset, visitors who leave, folders left behind."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import soundfile

from eval.serve.folder import PREFIX, page_folder
from eval.serve.settings import is_loopback
from eval.serve.visits import AWAY_SECONDS, Job, RefusedError, Visits
from eval.serve.voices import voices_dataset, write_voices
from eval.serve.wire import WireError, encoded, receive
from eval.synthesize.part_times import PartTimes
from runtime.limits import MAX_VISITS
from tests.eval.small import spoken_dataset
from tests.processes import wait_for

pytest.importorskip("starlette")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("talking face (1).mp4", "talking face (1).mp4"),
        ("../../etc/passwd", "passwd"),
        (r"C:\videos\me.mov", "me.mov"),
        ("-i concat:a|b.mp4", "i concat_a_b.mp4"),
        ("\x1b[2J\u202egpj.webm", "__2J_gpj.webm"),
        ("...", "file"),
        ("", "file"),
        ("x" * 300 + ".mp4", "x" * 80 + ".mp4"),
        ("a." + "y" * 300, "a." + "y" * 10),
        ("видео.mp4", "видео.mp4"),
    ],
)
def test_upload_has_a_name_that_can_do_no_harm(name: str, plain: str) -> None:
    from eval.serve.uploads import plain_name

    assert plain_name(name) == plain


def test_voices_are_those_of_the_speakers_of_the_training_splits(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    spoken_dataset(tmp_path / "data")
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    assert voices_dataset(None, run / "best.pt") is None
    (run / "settings.json").write_text(json.dumps({"settings": {"shards": str(tmp_path / "data")}}))
    for checkpoint in (run / "best.pt", run / "checkpoints" / "step-1.pt"):
        assert voices_dataset("none", checkpoint) is None
        dataset = voices_dataset(None, checkpoint)
        assert dataset is not None
        with pytest.raises(ValueError, match="no split to train on"):  # all it has is test
            write_voices(dataset, 2, tmp_path)
    with pytest.raises(ValueError, match="nosuch"):
        voices_dataset("nosuch", run / "best.pt")


def test_voices_are_a_clip_of_each_of_the_speakers_with_the_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    dataset = spoken_dataset(tmp_path / "data")
    monkeypatch.setattr(type(dataset), "training_splits", lambda _: ("test",))
    assert write_voices(dataset, 2, tmp_path) == {"voice-0.wav": "a", "voice-1.wav": "b"}
    assert soundfile.info(tmp_path / "voice-0.wav").duration == 50 / 25  # of 40, 45, 50 and 55 frames


def test_part_times_count_each_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("eval.synthesize.part_times.time.perf_counter", lambda: float(next(clock)))
    told: list[tuple[str, float | None]] = []
    times = PartTimes(lambda part, done: told.append((part, done)))
    with times.timed("outer"), times.timed("inner"):
        times.progress("inner", 0.5)
    assert times.seconds["inner"] > 0
    assert times.seconds["outer"] > 0
    assert told == [("outer", None), ("inner", None), ("inner", 0.5)]
    assert str(times).startswith("outer ")


def test_visitors_and_their_jobs_are_bounded_and_go_when_they_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        visits = Visits(tmp_path, max_waiting=2)
        visitors = [visits.enter() for _ in range(MAX_VISITS)]
        with pytest.raises(RefusedError, match="visitors are here already"):
            visits.enter()
        jobs = [Job(visitor, visitor.folder / "job", "x.mp4", None) for visitor in visitors[:3]]
        for job in jobs[:2]:
            visits.submit(job)
        with pytest.raises(RefusedError, match="2 clips wait already"):
            visits.submit(jobs[2])
        assert [visits.place(job) for job in jobs[:2]] == [0, 1]
        again = Job(visitors[0], visitors[0].folder / "again", "x.mp4", None)
        visits.submit(again)  # in the place of his first one
        assert visits.waiting == [jobs[1], again]
        visits.leave(visitors[1])
        assert (visits.waiting, visitors[1].folder.exists()) == ([again], False)
        with pytest.raises(RefusedError, match="this page was left"):
            visits.of(visitors[1].id)
        now = time.monotonic()
        monkeypatch.setattr("eval.serve.visits.time.monotonic", lambda: now + AWAY_SECONDS + 1)
        visitors[2].streams = 1
        visits.remove_absent()
        assert [visitor.id for visitor in visits] == [visitors[2].id]
        assert [path.name for path in tmp_path.iterdir()] == [visitors[2].id]

    asyncio.run(check())


def test_worker_that_sends_nonsense_is_not_believed() -> None:
    async def received(content: bytes) -> object:
        reader = asyncio.StreamReader()
        reader.feed_data(content)
        reader.feed_eof()
        return await receive(reader)

    assert asyncio.run(received(encoded({"a": 1}))) == {"a": 1}
    for content in (
        b"",
        b"x" * 8,
        b"\xff" * 8,
        encoded({"a": 1})[:-1],
        b"\x01\0\0\0\0\0\0\0[",
        b"\x02\0\0\0\0\0\0\0[]",
    ):
        with pytest.raises(WireError):
            asyncio.run(received(content))


def test_page_folder_goes_and_takes_abandoned_ones_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    held, left, young = (tmp_path / f"{PREFIX}{name}" for name in ("held", "left", "young"))
    for old in (held, left, young):
        old.mkdir()
        (old / "lock").touch()
        (old / "video.mp4").touch()
    for old in (held, left):
        os.utime(old, (0, 0))
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path)
    with (held / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with page_folder() as folder:
            assert (folder.path.stat().st_mode & 0o777, left.exists()) == (0o700, False)
            (folder.path / "upload.mp4").touch()
        assert not folder.path.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}{name}" for name in ("held", "link", "young")]


def test_page_folder_goes_when_its_server_is_killed(tmp_path: Path) -> None:
    program = "import time; from eval.serve.folder import page_folder\nwith page_folder(): print(), time.sleep(60)"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(list(tmp_path.iterdir())) == 1
        process.kill()
    wait_for(lambda: not list(tmp_path.iterdir()), "the folder to go")


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("example", False),
    ],
)
def test_loopback_is_this_machine_alone(host: str, local: bool) -> None:
    assert is_loopback(host) == local
