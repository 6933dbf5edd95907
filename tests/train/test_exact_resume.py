"""Exact resume: a run that was killed or stopped comes to the same weights, bit for bit on the CPU."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.processes import wait_for
from tests.train.killed_at import kill_before
from tests.train.ranks import free_port
from tests.train.runs import finish, flags, logged, run_killed_at, start, start_torchrun, weights_of

STEPS = 12
"""Of three epochs of four steps; checkpoints after 5 and 10 lie within one."""
KILLED = "8"
"""After as many steps: the end of an epoch and a validation later than a checkpoint are lost with it."""
KILLED_AT = str(Path(__file__).parent / "killed_at.py")


def _flags(shards: str, run: Path, ranks: int, steps: int = STEPS) -> list[str]:
    """One rank averages its weights, two do not."""
    return flags(shards, run, steps, every=5, **{"validation.every": 3, "ema": 0.9 if ranks == 1 else "null"})


@pytest.fixture(scope="module")
def straight(shards: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Uninterrupted runs, by the number of ranks."""
    runs = {ranks: tmp_path_factory.mktemp("straight") / str(ranks) for ranks in (1, 2)}
    for ranks, run in runs.items():
        finish(start(_flags(shards, run, ranks), ranks))
        assert sorted(logged(run, "epoch")) == [4, 8, 12]
    return runs


def _assert_same(ours: Path, theirs: Path) -> None:
    left, right = weights_of(ours, STEPS), weights_of(theirs, STEPS)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    for kind in ("train", "validation", "epoch"):
        assert logged(ours, kind) == logged(theirs, kind)
        assert logged(ours, kind)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_resume_after_a_kill_equals_an_uninterrupted_run(
    shards: str, straight: dict[int, Path], tmp_path: Path, ranks: int
) -> None:
    broken = _flags(shards, tmp_path / "broken", ranks)
    run_killed_at(KILLED, tmp_path / "marker", broken, ranks)
    assert 5 < sorted(logged(tmp_path / "broken"))[-1] <= int(KILLED)
    printed = finish(start([*broken, "--resume=auto"], ranks))
    assert "resuming from" in printed
    assert "step-00000005.pt" in printed
    _assert_same(tmp_path / "broken", straight[ranks])


@pytest.mark.slow
def test_sigterm_saves_exits_with_status_75_and_the_run_resumes_exactly(
    shards: str, straight: dict[int, Path], tmp_path: Path
) -> None:
    stopped = _flags(shards, tmp_path / "stopped", 1)
    terminate = partial(kill_before, "4", str(tmp_path / "marker"), signal.SIGTERM)
    assert "signalled to stop" in finish(start(stopped, 1, terminate), 75)
    assert sorted(logged(tmp_path / "stopped"))[-1] < 8, "in the middle of an epoch"
    finish(start([*stopped, "--resume=auto"]))
    _assert_same(tmp_path / "stopped", straight[1])


@pytest.mark.slow
def test_sigterm_to_torchrun_lets_all_ranks_save_together(shards: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start_torchrun(flags(shards, run, 10_000, every=10_000), 2)  # it is stopped long before
    wait_for(lambda: (run / "log.jsonl").exists() and logged(run), "a first step")
    process.send_signal(signal.SIGTERM)  # which torchrun sends on to all processes of a rank, its loader's too
    printed = finish(process, None)
    assert "signalled to stop" in printed
    assert "killed by signal" not in printed
    steps = max(logged(run)) + 2
    finish(start([*flags(shards, run, steps, every=10_000), "--resume=auto"], 2))
    assert sorted(logged(run)) == list(range(1, steps + 1))


@pytest.mark.slow
def test_torchrun_restarts_after_a_rank_died_and_the_job_resumes(
    shards: str, straight: dict[int, Path], tmp_path: Path
) -> None:
    arguments = [*_flags(shards, tmp_path / "run", 2), "--resume=auto"]
    script = [KILLED_AT, f"{KILLED}@1", str(tmp_path / "marker")]
    printed = finish(start_torchrun(arguments, 2, script, ["--standalone", "--max-restarts", "1"]))
    assert "step-00000005.pt" in printed
    _assert_same(tmp_path / "run", straight[2])


@pytest.mark.slow
def test_two_nodes_joined_by_rendezvous_train_and_resume(
    shards: str, straight: dict[int, Path], tmp_path: Path
) -> None:
    """They join twice: at first, and after the only rank of one has died."""
    place = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", tmp_path.name]
    arguments = [*_flags(shards, tmp_path / "run", 2), "--resume=auto"]
    script = [KILLED_AT, f"{KILLED}@1", str(tmp_path / "marker")]
    launchers = [["--nnodes", "2", "--node-rank", str(node), "--max-restarts", "2", *place] for node in range(2)]
    nodes = [start_torchrun(arguments, 1, script, launcher) for launcher in launchers]
    printed = [finish(node) for node in nodes]
    assert any("step-00000005.pt" in each for each in printed)
    _assert_same(tmp_path / "run", straight[2])
