"""Checkpoints and run dir: saved before validation, milestones, an older best, the lock; errors in a step."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from model.checkpoint import load_checkpoint
from shards import open_dataset
from shards.loading.collate import Batch, BatchReader, ReadFailure
from shards.loading.loader import load
from tests.train.runs import ROOT, flags, logged, trainer_of
from train.__main__ import EXIT_STOPPED, main
from train.checkpointing import Checkpointer
from train.run_dir import RunDir
from train.settings import CheckpointSettings
from train.state import TrainState
from train.step import OptimizerStep, StepResult
from train.tasks import inputs, lip2speech
from train.trainer import Trainer


def _run(dataset: str, out: Path, *more: str, **settings: Any) -> int:
    given = {"steps": 4, "every": 2, "workers": 0, "validation.every": 2, "checkpoint.last": 9, **settings}
    return main([*flags(dataset, out, **given), *more])


def _steps_of(run: Path) -> list[int]:
    return [int(path.stem[5:]) for path in Checkpointer(RunDir(run), CheckpointSettings()).list()]


def test_stop_where_validation_is_due_saves_at_once_and_validates_on_resume(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(shards, tmp_path / "straight") == 0

    take = OptimizerStep.take

    def signalled(step: OptimizerStep, state: TrainState, *arguments: Any) -> StepResult:
        return dataclasses.replace(take(step, state, *arguments), stop=state.step in (2, 4))

    with monkeypatch.context() as patch:
        patch.setattr(OptimizerStep, "take", signalled)
        assert _run(shards, tmp_path / "broken") == EXIT_STOPPED
        assert logged(tmp_path / "broken", "validation") == {}, "there may be no time for it"
        assert _run(shards, tmp_path / "broken", "--resume=auto") == EXIT_STOPPED
        assert sorted(logged(tmp_path / "broken", "validation")) == [2]
    assert _run(shards, tmp_path / "broken", "--resume=auto") == 0
    for kind in ("train", "validation", "epoch"):
        assert logged(tmp_path / "broken", kind) == logged(tmp_path / "straight", kind)
    for name in ("checkpoints/step-00000002.pt", "checkpoints/step-00000004.pt", "best.pt"):
        ours, theirs = (load_checkpoint(tmp_path / run / name) for run in ("broken", "straight"))
        assert ours.metrics == theirs.metrics
        assert all(torch.equal(x, theirs.weights[part]) for part, x in ours.weights.items())


def test_validation_that_fails_costs_no_steps(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: Any) -> None:
        raise MemoryError("no room to validate in")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validate", failing)
        assert _run(shards, tmp_path / "run") == 1
    assert "no room to validate in" in capsys.readouterr().err
    assert _steps_of(tmp_path / "run") == [2]
    assert _run(shards, tmp_path / "run", "--resume=auto") == 0
    assert sorted(logged(tmp_path / "run", "validation")) == [2, 4]


def test_milestones_are_kept_beyond_the_last_checkpoints(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"steps": 9, "every": 1, "checkpoint.last": 2, "validation.split": "null"}
    assert _run(shards, tmp_path / "run", **settings, **{"checkpoint.milestones": 3}) == 0
    assert _steps_of(tmp_path / "run") == [3, 6, 8, 9]
    assert _run(shards, tmp_path / "other", **settings | {"every": 2, "checkpoint.milestones": 3}) == 2
    assert "checkpoint.milestones: 3" in capsys.readouterr().err


def test_run_without_checkpoints_is_set_aside_when_another_begins(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _run(shards, out) == 0
    log, best = (out / "log.jsonl").read_text(), (out / "best.pt").read_bytes()
    for file in (out / "checkpoints").iterdir():
        file.unlink()
    capsys.readouterr()
    assert _run(shards, out, "--resume=auto", steps=2) == 0
    assert str(out / "earlier-1") in capsys.readouterr().err
    assert (out / "earlier-1/log.jsonl").read_text() == log
    assert (out / "earlier-1/best.pt").read_bytes() == best
    assert sorted(logged(out)) == [1, 2]


def test_best_that_was_measured_otherwise_is_set_aside(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _run(shards, out, steps=2) == 0
    best = (out / "best.pt").read_bytes()
    assert _run(shards, out, "--resume=auto", **{"validation.clips": 1}) == 0
    assert (out / "best-until-00000002.pt").read_bytes() == best
    message = capsys.readouterr().err
    assert str(out / "best-until-00000002.pt") in message
    assert "l1 of 1 clips of val" in message


@pytest.fixture
def another(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of the run dir `run` until its standard input is closed."""
    held = (
        "import pathlib, sys\n"
        "from train.run_dir import RunDir\n"
        f"with RunDir(pathlib.Path({str(tmp_path / 'run')!r})).lock():\n"
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


def test_run_dir_is_locked_against_a_second_process(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], another: subprocess.Popen[str]
) -> None:
    assert _run(shards, tmp_path / "run") == 2
    assert f"{tmp_path / 'run'}: process {another.pid} on " in capsys.readouterr().err
    another.kill()
    another.wait()
    assert _run(shards, tmp_path / "run", steps=1) == 0


def test_run_whose_loader_worker_is_killed_ends_with_a_sentence(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchReader, "read", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert _run(shards, tmp_path / "run", workers=1) == 1
    said = capsys.readouterr().err
    assert "error: loader worker (pid " in said
    assert "--resume auto" in said
    assert "Traceback" not in said


def test_step_error_names_rank_step_and_clips(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def failing(*arguments: Any) -> Any:
        if arguments[-1] is not None:  # not in validation
            calls.append(arguments[0].keys)
        if len(calls) == 5:  # of two micro-batches a step
            raise RuntimeError("no more memory")
        return inputs.prepare(*arguments)

    monkeypatch.setattr(lip2speech, "prepare", failing)
    assert _run(shards, tmp_path / "run") == 1
    message = capsys.readouterr().err
    assert f"error: rank 0, step 3: {len(calls[-1])} clips of up to " in message
    assert calls[-1][0] in message
    assert "Traceback" in message, "where in the code, too"


def test_gradient_is_the_mean_over_readable_micro_batches(shards: str, tmp_path: Path) -> None:
    """Two micro-batches, one of which could not be read: the gradient of the other."""
    gradients = []
    unread = cast(Batch, SimpleNamespace(keys=[], skipped=[ReadFailure("main/s/01", "broken")]))
    for more in ([], [unread]):
        trainer = trainer_of(flags(shards, tmp_path / f"run-{len(more)}", on_error="skip", clip_norm="null"))
        (batch,) = load(
            trainer.dataset,
            trainer.epochs.plan(trainer.state.epoch)[:1],
            trainer.settings.loader(trainer.task.contents),
        )
        step = OptimizerStep(trainer.task, trainer.model, trainer.settings, trainer.context)
        result = step.take(trainer.state, [batch, *more], 1 + len(more))
        assert result.skipped == [{"key": clip.key, "reason": clip.reason} for each in more for clip in each.skipped]
        gradients.append([x.grad for x in trainer.model.network.parameters() if x.grad is not None])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-8)


def test_skipped_clips_are_listed_with_step_and_reason(shards: str, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(shards, dataset)
    row = next(row for row in open_dataset(str(dataset)).index.to_pylist() if row["split"] == "train")
    with (dataset / row["shard"]).open("r+b") as file:
        file.seek(row["mel_offset"])
        file.write(b"????")
    assert _run(str(dataset), tmp_path / "run", steps=20, every=20, on_error="skip") == 0
    lines = [json.loads(line) for line in (tmp_path / "run/skipped.jsonl").read_text().splitlines()]
    assert {line["key"] for line in lines} == {row["key"]}
    assert all(line["reason"] and 1 <= line["step"] <= 20 for line in lines)
