"""Exact resume: a run that was killed or stopped comes to the same weights, bit for bit on the CPU."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
import torch

from tests.processes import wait_for
from tests.train.runs import finish, flags, logged, run_killed_at, start, weights_of


def _assert_same(ours: Path, theirs: Path, step: int) -> None:
    left, right = weights_of(ours, step), weights_of(theirs, step)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    for kind in ("train", "validation", "epoch"):
        assert logged(ours, kind) == logged(theirs, kind)
        assert logged(ours, kind)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_resume_after_a_kill_equals_an_uninterrupted_run(shards: str, tmp_path: Path, ranks: int) -> None:
    finish(start(flags(shards, tmp_path / "straight"), ranks))
    broken = flags(shards, tmp_path / "broken")
    run_killed_at("17", tmp_path / "marker", broken, ranks)
    assert sorted(logged(tmp_path / "broken"))[-1] <= 17
    printed = finish(start([*broken, "--resume=auto"], ranks))
    assert "resuming from" in printed
    assert "step-00000010.pt" in printed
    _assert_same(tmp_path / "broken", tmp_path / "straight", 40)


@pytest.mark.slow
def test_sigterm_saves_exits_with_status_75_and_the_run_resumes_exactly(shards: str, tmp_path: Path) -> None:
    finish(start(flags(shards, tmp_path / "straight", ema=0.9)))
    stopped = flags(shards, tmp_path / "stopped", ema=0.9)
    process = start(stopped)
    wait_for(lambda: (tmp_path / "stopped/log.jsonl").exists() and logged(tmp_path / "stopped"), "a first step")
    process.send_signal(signal.SIGTERM)
    assert "signalled to stop" in finish(process, 75)
    finish(start([*stopped, "--resume=auto"]))
    _assert_same(tmp_path / "stopped", tmp_path / "straight", 40)


@pytest.mark.slow
def test_sigterm_to_torchrun_lets_all_ranks_save_together(shards: str, tmp_path: Path) -> None:
    arguments = flags(shards, tmp_path / "run", every=1000)
    process = start(arguments, 2)
    wait_for(lambda: (tmp_path / "run/log.jsonl").exists() and logged(tmp_path / "run"), "a first step")
    process.send_signal(signal.SIGTERM)  # which torchrun sends on to all processes of a rank, its loader's too
    printed = finish(process, None)
    assert "signalled to stop" in printed
    assert "killed by signal" not in printed
    finish(start([*arguments, "--resume=auto"], 2))
    assert sorted(logged(tmp_path / "run")) == list(range(1, 41))


@pytest.mark.slow
def test_torchrun_restarts_after_a_rank_died_and_the_job_resumes(shards: str, tmp_path: Path) -> None:
    arguments = [*flags(shards, tmp_path / "run", steps=20, every=5), "--resume=auto"]
    script = [str(Path(__file__).parent / "killed_at.py"), "8@1", str(tmp_path / "marker")]
    printed = finish(start(arguments, 2, script, ["--standalone", "--max-restarts", "1"]))
    assert "step-00000005.pt" in printed
    assert sorted(logged(tmp_path / "run")) == list(range(1, 21))
    finish(start(flags(shards, tmp_path / "straight", steps=20, every=5), 2))
    _assert_same(tmp_path / "run", tmp_path / "straight", 20)


@pytest.mark.slow
@pytest.mark.parametrize("dies", [False, True])
def test_two_nodes_joined_by_rendezvous_train_and_resume(shards: str, tmp_path: Path, dies: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def launcher(node: int) -> list[str]:
        place = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", tmp_path.name]
        return ["--nnodes", "2", "--node-rank", str(node), "--max-restarts", "2", *place]

    arguments = [*flags(shards, tmp_path / "run", steps=6, every=3), "--resume=auto"]
    killed = [str(Path(__file__).parent / "killed_at.py"), "4@1", str(tmp_path / "marker")]
    nodes = [start(arguments, 1, killed if dies else None, launcher(node)) for node in range(2)]
    printed = [finish(node) for node in nodes]
    assert any("step-00000003.pt" in each for each in printed) == dies
    finish(start(flags(shards, tmp_path / "straight", steps=6, every=3), 2))
    assert logged(tmp_path / "run") == logged(tmp_path / "straight")
