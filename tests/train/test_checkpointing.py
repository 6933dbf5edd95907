"""What a run keeps, so that nothing is lost: saved before it is validated, milestones, an older best, its folder to
itself; and what it says when a step fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from model.checkpoint import load_checkpoint
from shards.loading.collate import Batch, ReadFailure
from tests.train.runs import ROOT, begun, flags, logged
from train import trainer as loop
from train.__main__ import main
from train.logger import Logger
from train.run_dir import RunDir
from train.step import take_step
from train.tasks import inputs, lip2speech
from train.throughput import Throughput


def _run(dataset: str, out: Path, *more: str, **settings: Any) -> int:
    given = {"steps": 4, "every": 2, "workers": 0, "validation.every": 2, "checkpoint.last": 9, **settings}
    return main([*flags(dataset, out, **given), *more])


def _steps_of(run: Path) -> list[int]:
    return [int(path.stem[5:]) for path in RunDir(run).checkpoints()]


def test_told_to_stop_where_a_validation_is_due_it_saves_at_once_and_validates_when_it_goes_on(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(shards, tmp_path / "straight") == 0

    def told(run: Any, *arguments: Any) -> bool:
        take_step(run, *arguments)
        return run.place.step in (2, 4)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", told)
        assert _run(shards, tmp_path / "broken") == loop.EXIT_STOPPED
        assert logged(tmp_path / "broken", "validation") == {}, "there may be no time for it"
        assert _run(shards, tmp_path / "broken", "--resume=auto") == loop.EXIT_STOPPED
        assert sorted(logged(tmp_path / "broken", "validation")) == [2]
    assert _run(shards, tmp_path / "broken", "--resume=auto") == 0
    for kind in ("train", "validation", "epoch"):
        assert logged(tmp_path / "broken", kind) == logged(tmp_path / "straight", kind)
    for name in ("checkpoints/step-00000002.pt", "checkpoints/step-00000004.pt", "best.pt"):
        ours, theirs = (load_checkpoint(tmp_path / run / name) for run in ("broken", "straight"))
        assert ours.metrics == theirs.metrics
        assert all(torch.equal(x, theirs.weights[part]) for part, x in ours.weights.items())


def test_a_validation_that_fails_costs_no_steps(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: Any) -> None:
        raise MemoryError("no room to validate in")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", failing)
        assert _run(shards, tmp_path / "run") == 1
    assert "no room to validate in" in capsys.readouterr().err
    assert _steps_of(tmp_path / "run") == [2]
    assert _run(shards, tmp_path / "run", "--resume=auto") == 0
    assert sorted(logged(tmp_path / "run", "validation")) == [2, 4]


def test_milestones_are_kept_beyond_the_last_few(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"steps": 9, "every": 1, "checkpoint.last": 2, "validation.split": "null"}
    assert _run(shards, tmp_path / "run", **settings, **{"checkpoint.milestones": 3}) == 0
    assert _steps_of(tmp_path / "run") == [3, 6, 8, 9]
    assert _run(shards, tmp_path / "other", **settings | {"every": 2, "checkpoint.milestones": 3}) == 2
    assert "checkpoint.milestones: 3, a multiple of checkpoint.every (2) was expected" in capsys.readouterr().err


def test_a_run_that_begins_where_another_was_moves_what_that_one_left_aside(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _run(shards, out) == 0
    log, best = (out / "log.jsonl").read_text(), (out / "best.pt").read_bytes()
    for file in (out / "checkpoints").iterdir():
        file.unlink()
    capsys.readouterr()
    assert _run(shards, out, "--resume=auto", steps=2) == 0
    assert f"no checkpoint to go on from: the run begins; what was there is in {out / 'earlier-1'}" in (
        capsys.readouterr().out
    )
    assert (out / "earlier-1/log.jsonl").read_text() == log
    assert (out / "earlier-1/best.pt").read_bytes() == best
    assert sorted(logged(out)) == [1, 2]


def test_a_best_that_was_measured_otherwise_is_kept_apart(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _run(shards, out, steps=2) == 0
    best = (out / "best.pt").read_bytes()
    assert _run(shards, out, "--resume=auto", **{"validation.clips": 1}) == 0
    assert (out / "best-until-00000002.pt").read_bytes() == best
    assert f"it is {out / 'best-until-00000002.pt'}; from here it is by l1 of 1 clips of val" in capsys.readouterr().out


@pytest.fixture
def another(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the folder `run` until it is told to end."""
    held = (
        "import pathlib, sys\n"
        "from train.run_dir import RunDir\n"
        f"with RunDir(pathlib.Path({str(tmp_path / 'run')!r})).held():\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_two_processes_do_not_train_into_one_folder(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], another: subprocess.Popen[str]
) -> None:
    assert _run(shards, tmp_path / "run") == 2
    assert f"{tmp_path / 'run'}: process {another.pid} on " in capsys.readouterr().err
    another.kill()
    another.wait()
    assert _run(shards, tmp_path / "run", steps=1) == 0


def test_an_error_in_a_step_says_where_and_on_what(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def failing(*arguments: Any) -> Any:
        calls.append(arguments[0].keys)
        if len(calls) == 5:  # of two micro-batches a step
            raise RuntimeError("no more memory")
        return inputs.prepare(*arguments)

    monkeypatch.setattr(lip2speech, "prepare", failing)
    assert _run(shards, tmp_path / "run") == 1
    told = capsys.readouterr().err
    assert f"error: rank 0, step 3: {len(calls[-1])} clips of up to " in told
    assert calls[-1][0] in told
    assert "Traceback" in told, "where in the code, too"


def test_the_gradient_is_the_mean_over_what_could_be_read_and_the_rest_is_listed(shards: str, tmp_path: Path) -> None:
    """Two micro-batches, one of which could not be read: the gradient of the other."""
    gradients = []
    unread = cast(Batch, SimpleNamespace(keys=[], skipped=[ReadFailure("main/s/01", "broken")]))
    for more in ([], [unread]):
        run = begun(flags(shards, tmp_path / f"run-{len(more)}", on_error="skip", clip_norm="null"))
        run.folder.path.mkdir()
        (batch,) = run.batches(loop._epoch(run)[:1])
        book = Logger(run.folder, 0, 0, 1, quiet=True)
        take_step(run, run.network, nullcontext, 1 + len(more), [batch, *more], Throughput(run.ranks), book)
        gradients.append([x.grad for x in run.network.parameters() if x.grad is not None])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-8)
    lines = [json.loads(line) for line in (tmp_path / "run-1/skipped.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "key": "main/s/01", "reason": "broken"}]
    assert not (tmp_path / "run-0/skipped.jsonl").exists()
