"""Resume: newer checkpoints are never lost, unfinished files never left, and all ranks agree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.asr import ASRModel, ASRSettings
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.conformer import ConformerSettings
from tests.shards.datasets import noise, write_dataset
from tests.train.runs import (
    finish,
    flags,
    logged,
    start,
    start_torchrun,
    task_flags,
    weights_of,
    write_tokenizer,
)
from train.__main__ import main
from train.state import TrainState
from train.tasks.asr import ASRTask
from train.tasks.task import Losses


def _flags(shards: str, out: Path, **more: Any) -> list[str]:
    settings = {"steps": 4, "every": 1, "checkpoint.last": 9, "validation.split": "null", **more}
    return task_flags("asr", shards, out, **settings)


def _run(shards: str, out: Path, *more: str, **settings: Any) -> int:
    return main([*_flags(shards, out, **settings), *more])


def _files(run: Path) -> dict[str, bytes]:
    """What a run has come to: its checkpoints and its log."""
    kept = [*run.glob("checkpoints/*"), *run.glob("*.pt"), *run.glob("*.jsonl")]
    return {path.name: path.read_bytes() for path in kept}


def _assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name, x in theirs.items() if not torch.equal(ours[name], x)] == []


def test_resume_refuses_when_later_checkpoints_exist(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _run(shards, out) == 0
    before, older = _files(out), out / "checkpoints/step-00000002.pt"
    assert _run(shards, out, f"--resume={older}") == 2
    message = capsys.readouterr().err
    assert all(name in message for name in (str(older), "step-00000003.pt", "step-00000004.pt"))
    assert _files(out) == before
    later = [weights_of(out, step) for step in (3, 4)]
    for step in (3, 4):
        (out / f"checkpoints/step-0000000{step}.pt").unlink()
    assert _run(shards, out, f"--resume={older}") == 0
    assert sorted(logged(out)) == [1, 2, 3, 4]
    for step, weights in zip((3, 4), later, strict=True):
        _assert_same(weights_of(out, step), weights)


def test_resume_refuses_when_later_checkpoints_exist_by_relative_path(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(shards, tmp_path / "run") == 0
    before = _files(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert _run(shards, tmp_path / "run", "--resume=run/checkpoints/step-00000002.pt") == 2
    assert _files(tmp_path / "run") == before


def test_resume_refuses_when_later_checkpoints_exist_and_the_older_lies_elsewhere(shards: str, tmp_path: Path) -> None:
    """A copy that was kept, or the checkpoint of another run with the same settings."""
    assert _run(shards, tmp_path / "run") == 0
    shutil.copy(tmp_path / "run/checkpoints/step-00000002.pt", tmp_path / "kept.pt")
    before = _files(tmp_path / "run")
    assert _run(shards, tmp_path / "run", f"--resume={tmp_path / 'kept.pt'}") == 2
    assert _files(tmp_path / "run") == before


def test_resume_in_another_run_dir_continues_the_first_run(shards: str, tmp_path: Path) -> None:
    assert _run(shards, tmp_path / "first") == 0
    older = tmp_path / "first/checkpoints/step-00000002.pt"
    assert _run(shards, tmp_path / "second", f"--resume={older}") == 0
    _assert_same(weights_of(tmp_path / "second", 4), weights_of(tmp_path / "first", 4))
    assert sorted(logged(tmp_path / "second")) == [3, 4]


def test_resume_refuses_a_checkpoint_without_training_state(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(shards, tmp_path / "run", **{"validation.split": "val", "validation.every": 2}) == 0
    best = tmp_path / "run/best.pt"
    assert _run(shards, tmp_path / "other", f"--resume={best}") == 2
    message = capsys.readouterr().err
    assert str(best) in message
    assert "--init" in message
    assert _run(shards, tmp_path / "other", f"--resume={tmp_path / 'nosuch.pt'}") == 2
    assert "nosuch.pt" in capsys.readouterr().err


def test_resume_refuses_fields_of_older_checkpoints_by_their_new_names(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(shards, tmp_path / "run", steps=1) == 0
    path = tmp_path / "run/checkpoints/step-00000001.pt"
    content = torch.load(path)
    names = {"fingerprint": "identity", "state": "place", "optimizer": "optimiser"}
    content["training"] = {names.get(name, name): value for name, value in content["training"].items()}
    torch.save(content, path)
    assert _run(shards, tmp_path / "run", "--resume=auto", steps=2) == 2
    message = capsys.readouterr().err
    assert all(f"{old} (now {new})" in message for new, old in names.items())


def test_resume_keeps_the_asr_model_that_the_run_began_with(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever has become of its file; without any it is another run."""
    asr = tmp_path / "asr.pt"

    def write(seed: int) -> None:
        torch.manual_seed(seed)
        sizes = ASRSettings((2, 3), ConformerSettings(1, 16, 2, kernel=5), 31)
        save_checkpoint(asr, Checkpoint(sizes, ASRModel(sizes).state_dict()))

    def run(*more: str, **settings: Any) -> int:
        given = {"steps": 1, "every": 1, "workers": 0, "init_asr": asr, "validation.split": "null", **settings}
        return main([*flags(shards, tmp_path / "run", **given), *more])

    write(1)
    assert run() == 0
    first = asr.read_bytes()
    assert run("--resume=auto", steps=2) == 0
    assert str(asr) not in capsys.readouterr().err
    write(2)
    assert run("--resume=auto", steps=3) == 0
    message = capsys.readouterr().err
    assert str(asr) in message
    assert str(tmp_path / "run/asr.pt") in message
    asr.unlink()
    assert run("--resume=auto", steps=4) == 0
    assert str(tmp_path / "run/asr.pt") in capsys.readouterr().err
    assert (tmp_path / "run/asr.pt").read_bytes() == first
    assert run("--resume=auto", steps=5, init_asr="null") == 2
    assert "another asr" in capsys.readouterr().err


def test_resume_deletes_temporary_files_of_a_killed_save_and_no_others(shards: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert _run(shards, out, steps=2) == 0
    left = [out / ".best.pt.abc123", out / "checkpoints/.step-00000003.pt.abc123"]
    mine = [out / "notes.txt", out / "checkpoints/kept-step-00000001.pt.bak", out / ".hidden"]
    for path in (*left, *mine):
        path.write_bytes(b"half of it")
    assert _run(shards, out, "--resume=auto", steps=3) == 0
    assert [path.name for path in left if path.exists()] == []
    assert all(path.exists() for path in mine)
    assert sorted(path.name for path in (out / "checkpoints").glob("step-*.pt")) == [
        f"step-0000000{step}.pt" for step in (1, 2, 3)
    ]


def test_resume_truncates_the_list_of_bad_batches(shards: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert _run(shards, out, steps=3) == 0
    lines = [json.dumps({"step": step, "epoch": 1, "keys": [f"main/a/{step}"]}) + "\n" for step in (1, 3, 4, 7)]
    (out / "bad-batches.jsonl").write_text("".join(lines) + lines[0][:20])
    assert _run(shards, out, "--resume=auto", steps=5) == 0
    assert (out / "bad-batches.jsonl").read_text() == "".join(lines[:2])


def test_nonfinite_steps_are_counted_once_however_often_a_run_resumes(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = ASRTask.loss

    def nonfinite(task: ASRTask, network: Any, batch: Any, seed: int, state: TrainState) -> Losses:
        losses = loss(task, network, batch, seed, state)
        return Losses(losses.total * float("nan"), losses.parts) if state.step == 2 else losses

    monkeypatch.setattr(ASRTask, "loss", nonfinite)
    out = tmp_path / "run"
    assert _run(shards, out) == 0
    for step in (3, 4):
        (out / f"checkpoints/step-0000000{step}.pt").unlink()
    assert _run(shards, out, "--resume=auto") == 0
    bad = [json.loads(line) for line in (out / "bad-batches.jsonl").read_text().splitlines()]
    assert [line["step"] for line in bad] == [3]
    assert load_checkpoint(out / "checkpoints/step-00000004.pt").training["state"]["nonfinite_steps"] == 1  # type: ignore[index]


@pytest.mark.parametrize("steps", [4, 3])
def test_resume_of_a_finished_run_changes_nothing(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    """Or of one that has gone further than it is now to go."""
    out, validated = tmp_path / "run", {"validation.split": "val", "validation.every": 2}
    assert _run(shards, out, **validated) == 0
    before = _files(out)
    assert "best.pt" in before
    assert _run(shards, out, "--resume=auto", steps=steps, **validated) == 0
    assert "step 4: done" in capsys.readouterr().err
    assert _files(out) == before


def test_step_without_readable_clips_changes_no_weights(tmp_path: Path) -> None:
    """Momentum and decay alone would move weights."""
    samples = [noise(f"main/s/{clip:02}", "train", 12) for clip in range(4)]
    dataset = write_dataset(str(tmp_path / "dataset"), {"train-000000.tar": samples})
    write_tokenizer(tmp_path / "dataset", dataset)
    row = next(row for row in dataset.index.to_pylist() if row["key"] == "main/s/02")
    with Path(dataset.store.path(row["shard"])).open("r+b") as file:
        file.seek(row["mel_offset"])
        file.write(b"????")
    one_by_one = {"micro_batches_per_step": 1, "batch.max_clips": 1, "on_error": "skip", "ema": 0.5}
    assert _run(dataset.store.url, tmp_path / "run", steps=8, **one_by_one) == 0
    weights = [weights_of(tmp_path / "run", step) for step in range(1, 9)]
    still = [
        step
        for step in range(2, 9)
        if all(torch.equal(x, weights[step - 2][name]) for name, x in weights[step - 1].items())
    ]
    assert len(still) == 2, "one in each of two epochs, neither the first step of all"
    assert set(logged(tmp_path / "run")) == set(range(1, 9)) - set(still), "nothing was measured in them"
    assert [line["skipped"] for line in logged(tmp_path / "run", "epoch").values()] == [1, 2], "so far"


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["holds checkpoints", "out is a file", "later checkpoints"])
def test_rank0_error_ends_both_ranks_with_the_same_message(shards: str, tmp_path: Path, wrong: str) -> None:
    """Without torchrun, which would end rank 1 when rank 0 has failed, and print both messages."""
    out, more, said = tmp_path / "run", [], f"error: {tmp_path / 'run'}: holds checkpoints"
    if wrong == "out is a file":
        out.write_text("not a folder")
        said = f"error: [Errno 17] File exists: '{out}'"
    else:
        assert _run(shards, out, steps=2) == 0
    if wrong == "later checkpoints":
        older = out / "checkpoints/step-00000001.pt"
        more, said = [f"--resume={older}"], f"error: {older}: there are later checkpoints, step-00000002.pt"
    for printed in start([*_flags(shards, out), *more], 2).finish(2):
        assert said in printed
        assert "Traceback" not in printed


@pytest.mark.slow
def test_rank0_error_ends_the_job_under_torchrun(shards: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.write_text("not a folder")
    printed = finish(start_torchrun(_flags(shards, out), 2), None)
    assert f"error: [Errno 17] File exists: '{out}'" in printed
