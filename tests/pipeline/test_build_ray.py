"""Builds on Ray: any number of workers, killed workers, drivers and nodes, object stores; always the same bytes."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.build import BuildError, plan_build, run_build
from pipeline.config import BuildSettings
from pipeline.shard_task import ShardTask, build_shard
from pipeline.verify import verify
from runtime.ray_jobs import Outcome, Runner, WorkerKilledError, job_runner
from shards import StorageError, Store
from tests.corpora import Lrs2Corpus, coordinate_line
from tests.processes import (
    alive,
    descendants,
    end,
    environment,
    freeze_worker,
    is_loopback,
    listening,
    title,
    wait_for,
)

TASK = "build_shard"


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory: pytest.TempPathFactory) -> Lrs2Corpus:
    """120 clips (links to four videos) for some twenty small shards: a build of a few seconds."""
    corpus = Lrs2Corpus(tmp_path_factory.mktemp("long"))
    for number in range(4):
        corpus.add(f"s/{number:05}", frames=75, click_at=0.2 * (number + 1))
    for number in range(4, 120):
        name, source = f"s/{number:05}", f"s/{number % 4:05}"
        for suffix in ("mp4", "txt"):
            (corpus.root / "main" / f"{name}.{suffix}").symlink_to(corpus.root / "main" / f"{source}.{suffix}")
        corpus.lines["main"].append(coordinate_line(name, 75))
        corpus.lists["train"].append(name)
    return corpus.finish()


@pytest.fixture(scope="module")
def long_settings(long_corpus: Lrs2Corpus) -> BuildSettings:
    return BuildSettings(dataset="lrs2", root=str(long_corpus.root), shard_mb=5)


@pytest.fixture(scope="module")
def expected(long_settings: BuildSettings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed build in one process gives."""
    out = tmp_path_factory.mktemp("expected") / "out"
    run_build(plan_build(long_settings, lambda line: None), long_settings, str(out), workers=0)
    return contents(out)


def stop_at_the_shard_of_tests(task: ShardTask) -> Any:
    if task.shard.name.startswith("test"):
        os.kill(os.getpid(), signal.SIGSTOP)
    return build_shard(task)


def contents(folder: Path) -> dict[str, str]:
    """sha256 of each file, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def command_line(settings: BuildSettings, root: str, out: str, *flags: str) -> list[str]:
    """`pipeline build` of a settings from and to somewhere else."""
    flags_of_settings = [
        "--dataset",
        settings.dataset,
        "--root",
        root,
        "--shard-mb",
        str(settings.shard_mb),
        "--out",
        out,
    ]
    return [sys.executable, "-m", "pipeline", "build", *flags_of_settings, *flags]


@contextmanager
def started_build(settings: BuildSettings, out: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """`pipeline build` in a process of its own beside `out`, which is ended with all that it started.

    Its paths are relative: they must mean the same to workers elsewhere.
    """
    command = command_line(settings, os.path.relpath(settings.root, out.parent), out.name, *flags)
    here = {"cwd": out.parent, "env": os.environ | {"PYTHONPATH": str(Path.cwd())}}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **here) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            end(process, descendants(process.pid))


def finish(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def assert_nothing_partial(out: Path, expected: dict[str, str]) -> int:
    """What lies under a final name is whole; returns how many shards are finished."""
    found = {name: content for name, content in contents(out).items() if not name.endswith((".part", ".lock"))}
    assert all(content == expected[name] for name, content in found.items())
    return len([name for name in found if name.endswith(".json")])


def test_build_with_two_workers_gives_the_bytes_of_one_process_and_listens_on_loopback_only(
    long_settings: BuildSettings, expected: dict[str, str], tmp_path: Path
) -> None:
    with started_build(long_settings, tmp_path / "out", "--workers", "2") as process:
        worker = freeze_worker(TASK, process.pid)
        started = [process.pid, *descendants(process.pid)]
        listens = listening(started)
        assert [address for found in listens.values() for address in found if not is_loopback(address)] == []
        names = " ".join(title(pid) for pid in listens)
        assert all(name in names for name in ("gcs_server", "raylet", f"ray::{TASK}")), "they were looked at"
        assert environment(worker)["RAY_AUTH_MODE"] == "token"
        token = environment(worker)["RAY_AUTH_TOKEN"]
        assert len(token) == 64
        assert not any(token in title(pid) for pid in started), "every user of a machine sees command lines"
        os.kill(worker, signal.SIGCONT)
        output = finish(process)
    assert contents(tmp_path / "out") == expected
    assert "120/120 clips" in output


@pytest.mark.slow
def test_build_survives_a_killed_worker(long_settings: BuildSettings, expected: dict[str, str], tmp_path: Path) -> None:
    with started_build(long_settings, tmp_path / "out", "--workers", "2") as process:
        worker = freeze_worker(TASK, process.pid)
        os.kill(worker, signal.SIGKILL)
        finish(process)
        assert not alive(worker)
    assert contents(tmp_path / "out") == expected


@pytest.mark.slow
def test_build_resumes_after_a_killed_driver_which_leaves_nothing_partial(
    long_settings: BuildSettings, expected: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with started_build(long_settings, out, "--workers", "2") as process:
        freeze_worker(TASK, process.pid)  # whose shard is not finished, however fast the other worker is
        wait_for(lambda: len(list(out.glob("*.json"))) >= 3, "three finished shards")
        started = descendants(process.pid)
        end(process, started)
    finished = assert_nothing_partial(out, expected)
    assert 3 <= finished < len([name for name in expected if name.endswith(".tar")]), "it was killed in mid-build"
    assert not (out / "manifest.json").exists()
    with started_build(long_settings, out, "--workers", "1") as process:
        output = finish(process)
    assert "shards were built before" in output
    assert contents(out) == expected


@pytest.mark.slow
def test_build_started_twice_refuses_the_second_and_finishes_the_first(
    long_settings: BuildSettings, expected: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with started_build(long_settings, out, "--workers", "2") as first:
        worker = freeze_worker(TASK, first.pid)  # so that it surely lasts until the second begins
        with started_build(long_settings, out, "--workers", "1") as second:
            output = second.communicate(timeout=300)[0]
            assert second.returncode == 2, output
        assert f"process {first.pid} of" in output
        os.kill(worker, signal.SIGCONT)
        finish(first)
    assert contents(out) == expected


@pytest.mark.slow
def test_build_ends_with_a_sentence_where_ray_is_gone(long_settings: BuildSettings, tmp_path: Path) -> None:
    with started_build(long_settings, tmp_path / "out", "--workers", "2") as process:
        freeze_worker(TASK, process.pid)
        (server,) = [pid for pid in descendants(process.pid) if title(pid).split(" ")[0].endswith("gcs_server")]
        os.kill(server, signal.SIGKILL)
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 2, output
    assert "no longer answers" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_build_names_a_shard_whose_worker_was_stopped_each_time(
    small_settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.build.build_shard", stop_at_the_shard_of_tests)
    plan = plan_build(small_settings, print)
    with pytest.raises(
        BuildError, match=r"1 of \d+ shards could not be built:\n  test-000000\.tar: .*task timeout of 20 s"
    ):
        run_build(plan, small_settings, str(tmp_path / "out"), workers=2, task_timeout=20)


@pytest.mark.slow
def test_build_moves_the_shards_of_a_dead_node_to_others(
    cluster_token: str, long_settings: BuildSettings, expected: dict[str, str], tmp_path: Path
) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20},
    )
    doomed = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    cluster.wait_for_nodes()
    raylet = doomed.all_processes["raylet"][0].process.pid
    node = [raylet, *descendants(raylet)]
    try:
        with started_build(long_settings, tmp_path / "out", "--address", cluster.address) as process:
            worker = freeze_worker(TASK, raylet)
            assert title(worker).startswith(f"ray::{TASK}"), "a task was in flight on the node when it died"
            node += descendants(raylet)
            cluster.remove_node(doomed, allow_graceful=False)
            for pid in set(node):
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
            assert not alive(raylet)
            output = finish(process)
    finally:
        cluster.shutdown()
    assert contents(tmp_path / "out") == expected
    assert "120/120 clips" in output


@pytest.mark.slow
def test_build_reads_and_writes_s3_like_a_folder(
    s3: Any, small_corpus: Lrs2Corpus, small_settings: BuildSettings, tmp_path: Path
) -> None:
    s3.mkdir("corpus")
    s3.mkdir("datasets")
    s3.put(str(small_corpus.folder), "corpus/here", recursive=True)
    local, remote = tmp_path / "out", "s3://datasets/small"
    run_build(plan_build(small_settings, print), small_settings, str(local), workers=0)
    command = command_line(small_settings, "s3://corpus/here/LRS2-BBC", remote, "--workers", "2")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    store = Store(remote)
    assert {name: store.sha256(name) for name in store.names()} == contents(local)
    assert verify(remote, workers=0)[1] == []
    store.write("val-000000.tar", b"damaged")
    assert any("val-000000.tar" in problem for problem in verify(remote, workers=0)[1])
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert {name: store.sha256(name) for name in store.names()} == contents(local)


def stumble(folder: Path) -> str:
    """Fails as a network does, the first two times it is called with a folder."""
    tries = len(list(folder.iterdir()))
    (folder / str(tries)).touch()
    if tries < 2:
        raise StorageError(110, "Connection timed out", str(folder))
    return "through"


@pytest.mark.parametrize("workers", [0, 1])
def test_job_runner_retries_storage_that_fails_for_a_moment(tmp_path: Path, workers: int) -> None:
    with job_runner(None, workers) as runner:
        (outcome,) = runner.map(stumble, [tmp_path], retry_on=(StorageError,))
    assert (outcome.result, outcome.error) == ("through", None)
    assert len(list(tmp_path.iterdir())) == 3


def test_build_refuses_a_store_in_memory_with_workers_that_do_not_share_it(small_settings: BuildSettings) -> None:
    with pytest.raises(ValueError, match=r"memory://x: .*--workers 0"):
        run_build(plan_build(small_settings, print), small_settings, "memory://x", workers=2)


def fail_on_three(number: int) -> int:
    if number == 3:
        raise ValueError("three is not welcome")
    if number == 4:
        raise StorageError(5, "Input/output error", "/data/x.tar")
    return number * number


@pytest.mark.parametrize("workers", [0, 2])
def test_job_runner_continues_after_an_item_that_fails(workers: int) -> None:
    with job_runner(None, workers) as runner:
        outcomes: dict[int, Any] = {
            outcome.item: outcome for outcome in runner.map(fail_on_three, range(6), retry_on=(StorageError,))
        }
    assert {item: outcome.result for item, outcome in outcomes.items()} == {0: 0, 1: 1, 2: 4, 3: None, 4: None, 5: 25}
    assert str(outcomes[3].error) == "three is not welcome"
    assert isinstance(outcomes[4].error, StorageError)
    assert str(outcomes[4].error) == "/data/x.tar: Input/output error"


@pytest.mark.parametrize("folder", ["short", "a folder for temporary files whose name is much longer than most names"])
def test_job_runner_keeps_its_sockets_below_a_short_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """The name of a socket has 107 characters, and Ray's take some 70 of them."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", f"/tmp/{folder}")
    with job_runner(None, 1) as runner:
        assert [outcome.result for outcome in runner.map(len, ["abc"])] == [3]
    assert os.environ.pop("RAY_TMPDIR", None) == (None if folder == "short" else "/tmp")


class FakeRay:
    """Ray as `Runner` sees it, in this process; a task ends at once, with what `function` returns or raises."""

    class RayError(Exception):
        pass

    class OutOfMemoryError(RayError):
        pass

    class RayTaskError(RayError):
        pass

    def __init__(self) -> None:
        self.exceptions = self
        self.in_flight: list[list[Any]] = []
        self._running: dict[int, Callable[[], Any]] = {}

    def remote(self, **options: Any) -> Callable[[Callable[[Any], Any]], Any]:
        assert options["max_retries"] == 0
        return lambda function: SimpleNamespace(remote=lambda item: self._begin(function, item))

    def _begin(self, function: Callable[[Any], Any], item: Any) -> int:
        number = len(self.in_flight) + 1
        self._running[number] = lambda: function(item)
        self.in_flight.append([item, len(self._running)])
        return number

    def wait(self, references: list[int], timeout: float) -> tuple[list[int], list[int]]:
        return references[:1], references[1:]

    def get(self, reference: int) -> Any:
        return self._running.pop(reference)()


@pytest.mark.parametrize(("kind", "tries"), [(FakeRay.OutOfMemoryError, 3), (FakeRay.RayError, 6)])
def test_job_runner_tries_an_item_whose_worker_is_killed_a_few_times_and_at_last_alone(
    kind: type[Exception], tries: int
) -> None:
    def too_large(item: str) -> str:
        if item == "large":
            raise kind("killed\na page of text")
        return item

    ray = FakeRay()
    outcomes = {o.item: o for o in Runner(ray, 2).map(too_large, ["a", "large", "b", "c"])}
    assert {item: outcome.result for item, outcome in outcomes.items()} == {"a": "a", "b": "b", "c": "c", "large": None}
    assert isinstance(outcomes["large"].error, WorkerKilledError)
    assert f"{tries} times" in str(outcomes["large"].error)
    assert "\n" not in str(outcomes["large"].error)
    begun = [others for item, others in ray.in_flight if item == "large"]
    assert len(begun) == tries
    assert begun[-1] == 1, "it is alone"
    assert [item for item, _ in ray.in_flight[-2:]] == ["large"] * 2


def test_job_runner_gives_the_result_of_an_item_that_goes_through_alone() -> None:
    tried: list[str] = []

    def at_the_second_try(item: str) -> str:
        tried.append(item)
        if tried.count(item) < 2:
            raise FakeRay.OutOfMemoryError("killed")
        return item

    assert sorted(str(o.result) for o in Runner(FakeRay(), 4).map(at_the_second_try, ["a", "b"])) == ["a", "b"]
    assert tried == ["a", "b", "b", "a"]


def test_build_names_the_longest_clip_where_workers_are_killed_for_memory(
    small_settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Runner, function: Any, items: Any, *_: Any, **__: Any) -> Iterator[Outcome[Any, Any]]:
        yield from (Outcome(item, None, WorkerKilledError("killed 3 times")) for item in items)

    monkeypatch.setattr(Runner, "map", killed)
    with pytest.raises(
        BuildError, match=r"train-000002\.tar: killed 3 times while .* main/speaker1/00005, 1 s: .*cut it"
    ):
        run_build(plan_build(small_settings, print), small_settings, str(tmp_path / "out"), workers=0)


def wait_a_while(item: int) -> int:
    time.sleep(3)
    return item


@pytest.mark.slow
def test_job_runner_ends_where_rays_memory_monitor_kills_every_try(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    with job_runner(None, 1) as runner:
        (outcome,) = runner.map(wait_a_while, [1])
    assert isinstance(outcome.error, WorkerKilledError)
    assert "for want of memory, 3 times" in str(outcome.error)
    assert "OOM" not in "".join(capfd.readouterr()), "Ray's own text of each kill is a page"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999"])
def test_job_runner_names_an_address_where_no_cluster_answers(cluster_token: str, address: str) -> None:
    with pytest.raises(ValueError, match=f"address: .*'{re.escape(address)}'"), job_runner(address, None):
        pass


def test_job_runner_refuses_a_negative_number_of_workers() -> None:
    with pytest.raises(ValueError, match="workers: -1"), job_runner(None, -1):
        pass
