"""Tasks of a Ray job that take too long, and clusters that no longer answer."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime import ray_watch
from runtime.ray_jobs import TaskTimeoutError, job_runner
from runtime.ray_watch import ClusterLostError, Watch


class FakeRay:
    """A cluster of one node as `Watch` sees it, at an address that answers until it is closed."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.node: dict[str, Any] = {"NodeID": "here", "Alive": True, "Resources": {"CPU": 2.0}}

    def get_runtime_context(self) -> Any:
        port = self.server.getsockname()[1] if self.server.fileno() >= 0 else 1
        return SimpleNamespace(gcs_address=f"127.0.0.1:{port}", get_node_id=lambda: "here")

    def nodes(self) -> list[dict[str, Any]]:
        return [self.node]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}


@pytest.fixture
def ray() -> Iterator[FakeRay]:
    fake = FakeRay()
    with fake.server:
        yield fake


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(ray_watch, "monotonic", lambda: now[0])
    return now


def look(watch: Watch, clock: list[float], seconds: float) -> list[Any]:
    """Let time pass; what the cluster says of its nodes is there when this returns."""
    clock[0] += seconds
    late = watch.overdue([])
    if watch._counting is not None:
        watch._counting.join()
    return late


def test_watch_tells_each_task_that_takes_too_long_once(ray: FakeRay, clock: list[float]) -> None:
    watch = Watch(ray, None, 60.0)
    watch.begin("a")
    assert look(watch, clock, 30.0) == []
    watch.begin("b")
    watch.begin("c")
    watch.overdue(["c"])
    assert look(watch, clock, 40.0) == ["a"]
    assert look(watch, clock, 40.0) == ["b"]
    assert look(watch, clock, 900.0) == []
    assert watch.slots() == 2


def test_watch_does_not_count_the_time_without_a_processor(ray: FakeRay, clock: list[float]) -> None:
    ray.node["Resources"] = {}
    watch = Watch(ray, 2, 60.0)
    watch.begin("a")
    look(watch, clock, 5.0)
    assert look(watch, clock, 900.0) == []
    ray.node["Resources"] = {"CPU": 1.0}
    look(watch, clock, 5.0)
    assert look(watch, clock, 70.0) == ["a"]


def test_watch_names_a_cluster_that_no_longer_answers(ray: FakeRay, clock: list[float]) -> None:
    watch = Watch(ray, 2, 60.0)
    assert look(watch, clock, 5.0) == []
    ray.server.close()
    assert look(watch, clock, 5.0) == [], "it may come back"
    with pytest.raises(ClusterLostError, match=r"cluster at 127\.0\.0\.1:\d+ no longer answers"):
        look(watch, clock, 15.0)


def test_watch_notices_that_this_machine_is_no_part_of_the_cluster(ray: FakeRay, clock: list[float]) -> None:
    watch = Watch(ray, 2, 60.0)
    ray.node["Alive"] = False
    look(watch, clock, 5.0)
    with pytest.raises(ClusterLostError, match="on this machine has ended"):
        look(watch, clock, 5.0)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def stop(item: Path) -> str:
    """Its process stops itself: for a folder each time, for a file that is not there yet the first time."""
    if item.is_dir() or (item.name == "once" and not item.exists()):
        item.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return item.name


@pytest.mark.slow
def test_job_runner_tries_an_item_again_whose_worker_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's 15: beside busy processes a worker starts for over a minute
    always = tmp_path / "always"
    always.mkdir()
    with job_runner(None, 2) as runner:
        list(runner.map(sleep, [1.0, 1.0]))  # both workers are there
        items = [tmp_path / "once", always, tmp_path / "never"]
        outcomes = {o.item.name: o for o in replace(runner, task_timeout=20.0).map(stop, items)}
    assert {name: outcome.result for name, outcome in outcomes.items()} == {
        "once": "once",
        "always": None,
        "never": "never",
    }
    assert isinstance(outcomes["always"].error, TaskTimeoutError)
    assert "20 s, 3 times" in str(outcomes["always"].error)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_job_runner_refuses_a_task_timeout_that_is_no_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="task_timeout: "), job_runner(None, 0, seconds):
        pass
