"""Evaluations on Ray: any number of workers, killed actors, tasks and drivers, a cluster; always the same files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.evaluation import evaluate
from eval.results import Evaluation
from shards import Dataset
from tests.eval.small import digests, small_checkpoint, small_evaluation, spoken_clip, spoken_dataset
from tests.processes import alive, descendants, end, freeze_worker, is_loopback, listening, wait_for
from tests.shards.datasets import write_dataset

pytest.importorskip("pystoi")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return spoken_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One short clip and two long ones: a process that dies is started again, which takes seconds."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "errors.jsonl").touch()
    clips = [spoken_clip(f"main/a/{frames}", "test", frames) for frames in (40, 55, 60)]
    return write_dataset(str(folder), {"test-000000.tar": clips})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("run") / "best.pt")


@pytest.fixture(scope="module")
def straight(dataset: Dataset, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed evaluation in one process leaves, on one thread, as actors have it."""
    out = tmp_path_factory.mktemp("straight") / "out"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        evaluate(small_evaluation(dataset, checkpoint, out, **MORE))
    finally:
        torch.set_num_threads(threads)
    return digests(out)


MORE: dict[str, Any] = {"metrics": ["stoi"], "max_padded_frames": 60}
"""Batches of a clip each."""


@contextmanager
def started(dataset: Dataset, checkpoint: Path, out: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """The command, in a process of its own, which is gone afterwards with all that it started."""
    command = [sys.executable, "-m", "eval", "--checkpoint", str(checkpoint), "--shards", dataset.store.url]
    command += ["--split=test", "--metrics=[stoi]", "--max-padded-frames=60", "--device=cpu", "--out", str(out), *flags]
    process = subprocess.Popen(command, cwd=ROOT, text=True)
    try:
        yield process
    finally:
        end(process, descendants(process.pid))


def finished(process: subprocess.Popen[str]) -> None:
    assert process.wait(timeout=300) == 0


def test_ray_executor_leaves_the_files_of_the_local_one(
    dataset: Dataset, checkpoint: Path, straight: dict[str, str], tmp_path: Path
) -> None:
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "x", **MORE | {"workers": 2}))
    assert digests(tmp_path / "x") == straight


def test_metric_that_kills_its_process_costs_its_own_figure(few: Dataset, checkpoint: Path, tmp_path: Path) -> None:
    names = ["stoi", "tests.eval.plugs:deadly", "tests.eval.plugs:deadly_alone"]
    evaluate(small_evaluation(few, checkpoint, tmp_path / "x", metrics=names, workers=2))
    evaluation = Evaluation.open(tmp_path / "x")
    failed = evaluation.failures("network")["tests.eval.plugs:deadly"]
    assert set(failed) == {"main/a/40"}
    assert all("died" in reason for reason in failed.values())
    assert set(evaluation.failures("original")) == {"tests.eval.plugs:deadly_alone"}, "nothing is lost without a word"
    assert len(evaluation.figures("network", "stoi")[0]) == 3
    assert len(evaluation.figures("network", "tests.eval.plugs:deadly")[0]) == 2


def test_metric_that_kills_every_process_leaves_a_report_without_its_figures(
    few: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    settings = small_evaluation(few, checkpoint, tmp_path / "x", metrics=["tests.eval.plugs:deadly"], workers=2)
    evaluate(replace(settings, max_seconds=1.5, clips=2))
    assert len(Evaluation.open(tmp_path / "x").failures("network")["tests.eval.plugs:deadly"]) == 2


def test_actor_that_is_killed_is_made_again(
    dataset: Dataset, checkpoint: Path, straight: dict[str, str], tmp_path: Path
) -> None:
    with started(dataset, checkpoint, tmp_path / "x", "--workers=2") as process:
        actor = freeze_worker("_Actor.synthesize", process.pid)
        listens = listening([process.pid, *descendants(process.pid)])
        assert actor in listens
        assert all(is_loopback(address) for found in listens.values() for address in found), "Ray is for us alone"
        os.kill(actor, signal.SIGKILL)
        finished(process)
        assert not alive(actor)
    assert digests(tmp_path / "x") == straight


def test_actor_that_was_stopped_is_made_again(
    dataset: Dataset, checkpoint: Path, straight: dict[str, str], tmp_path: Path
) -> None:
    with started(dataset, checkpoint, tmp_path / "x", "--workers=2", "--task-timeout=40") as process:
        actor = freeze_worker("_Actor.synthesize", process.pid)
        finished(process)
        assert not alive(actor)
    assert digests(tmp_path / "x") == straight


def test_resume_after_kills_leaves_the_same_files(
    dataset: Dataset, checkpoint: Path, straight: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "x"
    for records in (1, 3):
        with started(dataset, checkpoint, out, "--workers=1") as process:
            enough = f"{records} finished batches"
            wait_for(lambda wanted=records: len(list(out.glob("batches/*.json"))) >= wanted, enough)  # type: ignore[misc]
            end(process, descendants(process.pid))
    assert not (out / "clips.parquet").exists(), "it was killed before its end"
    with started(dataset, checkpoint, out, "--workers=1") as process:
        finished(process)
    assert {name: digest for name, digest in digests(out).items() if not name.endswith(".part")} == straight


def test_cluster_at_an_address_evaluates_from_another_folder(
    cluster_token: str,
    dataset: Dataset,
    checkpoint: Path,
    straight: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 << 20},
    )
    try:
        monkeypatch.chdir(Path(dataset.store.url).parent)
        settings = small_evaluation(dataset, checkpoint, tmp_path / "x", **MORE, address=cluster.address)
        evaluate(replace(settings, workers=None, shards=Path(dataset.store.url).name))
    finally:
        cluster.shutdown()
    assert digests(tmp_path / "x") == straight
