"""Going on with a run: nothing is lost of what is newer, nothing is left of what was not finished, all ranks agree."""

from __future__ import annotations

import json
import shutil
import socket
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
    task_flags,
    weights_of,
    write_tokenizer,
)
from train.__main__ import main


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


def test_going_on_from_an_older_checkpoint_does_not_overwrite_the_later_ones(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _run(shards, out) == 0
    before, older = _files(out), out / "checkpoints/step-00000002.pt"
    assert _run(shards, out, f"--resume={older}") == 2
    told = capsys.readouterr().err
    assert f"{older}: there are later checkpoints, step-00000003.pt, step-00000004.pt: move them away" in told
    assert _files(out) == before
    later = [weights_of(out, step) for step in (3, 4)]
    for step in (3, 4):
        (out / f"checkpoints/step-0000000{step}.pt").unlink()
    assert _run(shards, out, f"--resume={older}") == 0
    assert sorted(logged(out)) == [1, 2, 3, 4]
    for step, weights in zip((3, 4), later, strict=True):
        _assert_same(weights_of(out, step), weights)


def test_nor_does_it_where_the_older_one_is_named_in_another_way(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(shards, tmp_path / "run") == 0
    before = _files(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert _run(shards, tmp_path / "run", "--resume=run/checkpoints/step-00000002.pt") == 2
    assert _files(tmp_path / "run") == before


def test_nor_does_it_where_the_older_one_lies_elsewhere(shards: str, tmp_path: Path) -> None:
    """A copy that was kept, or the checkpoint of another run with the same settings."""
    assert _run(shards, tmp_path / "run") == 0
    shutil.copy(tmp_path / "run/checkpoints/step-00000002.pt", tmp_path / "kept.pt")
    before = _files(tmp_path / "run")
    assert _run(shards, tmp_path / "run", f"--resume={tmp_path / 'kept.pt'}") == 2
    assert _files(tmp_path / "run") == before


def test_a_run_goes_on_in_another_folder_from_a_checkpoint_of_the_first(shards: str, tmp_path: Path) -> None:
    assert _run(shards, tmp_path / "first") == 0
    older = tmp_path / "first/checkpoints/step-00000002.pt"
    assert _run(shards, tmp_path / "second", f"--resume={older}") == 0
    _assert_same(weights_of(tmp_path / "second", 4), weights_of(tmp_path / "first", 4))
    assert sorted(logged(tmp_path / "second")) == [3, 4]


def test_a_checkpoint_without_what_a_run_needs_is_refused_with_what_can_be_done(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(shards, tmp_path / "run", **{"validation.split": "val", "validation.every": 2}) == 0
    best = tmp_path / "run/best.pt"
    assert _run(shards, tmp_path / "other", f"--resume={best}") == 2
    assert f"{best}: it has weights, but not what a run needs to go on; start from it with --init" in (
        capsys.readouterr().err
    )
    assert _run(shards, tmp_path / "other", f"--resume={tmp_path / 'nosuch.pt'}") == 2
    assert "nosuch.pt" in capsys.readouterr().err


def test_a_run_goes_on_with_the_recogniser_that_it_began_with(
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
    assert "goes on with its own" not in capsys.readouterr().out
    write(2)
    assert run("--resume=auto", steps=3) == 0
    assert f"{asr} is gone or has changed since this run began: it goes on with its own" in capsys.readouterr().out
    asr.unlink()
    assert run("--resume=auto", steps=4) == 0
    assert "goes on with its own" in capsys.readouterr().out
    assert (tmp_path / "run/asr.pt").read_bytes() == first
    assert run("--resume=auto", steps=5, init_asr="null") == 2
    assert "of another run: another recogniser" in capsys.readouterr().err


def test_what_a_save_that_was_killed_left_is_swept_away_and_nothing_else_is(shards: str, tmp_path: Path) -> None:
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


def test_steps_that_will_be_done_again_are_taken_out_of_the_list_of_bad_ones(shards: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert _run(shards, out, steps=3) == 0
    lines = [json.dumps({"step": step, "epoch": 1, "keys": [f"main/a/{step}"]}) + "\n" for step in (1, 3, 4, 7)]
    (out / "bad-batches.jsonl").write_text("".join(lines) + lines[0][:20])
    assert _run(shards, out, "--resume=auto", steps=5) == 0
    assert (out / "bad-batches.jsonl").read_text() == "".join(lines[:2])


def test_bad_steps_are_counted_once_however_often_a_run_goes_on(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.tasks import asr

    hear = asr._hear

    def deaf(run: Any, network: Any, batch: Any, seed: int | None) -> Any:
        heard = hear(run, network, batch, seed)
        return heard._replace(logits=heard.logits * float("nan")) if run.place.step == 2 else heard

    monkeypatch.setattr(asr, "_hear", deaf)
    out = tmp_path / "run"
    assert _run(shards, out) == 0
    for step in (3, 4):
        (out / f"checkpoints/step-0000000{step}.pt").unlink()
    assert _run(shards, out, "--resume=auto") == 0
    bad = [json.loads(line) for line in (out / "bad-batches.jsonl").read_text().splitlines()]
    assert [line["step"] for line in bad] == [3]
    assert load_checkpoint(out / "checkpoints/step-00000004.pt").training["place"]["max_nonfinite_steps"] == 1  # type: ignore[index]


@pytest.mark.parametrize("steps", [4, 3])
def test_a_run_that_is_finished_ends_well_when_it_is_started_again(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    """Or one that has gone further than it is now told to."""
    out, validated = tmp_path / "run", {"validation.split": "val", "validation.every": 2}
    assert _run(shards, out, **validated) == 0
    before = _files(out)
    assert "best.pt" in before
    assert _run(shards, out, "--resume=auto", steps=steps, **validated) == 0
    assert "step 4: done" in capsys.readouterr().out
    assert _files(out) == before


def test_a_step_none_of_whose_clips_could_be_read_moves_nothing(tmp_path: Path) -> None:
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
@pytest.mark.parametrize("wrong", ["there is a run", "out is a file", "there are later checkpoints"])
def test_an_error_of_the_first_rank_ends_both_with_the_same_words(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Started by hand: torchrun would end the second one when the first has failed, and print what either said."""
    out, more, said = tmp_path / "run", [], f"error: {tmp_path / 'run'}: there is a run with checkpoints"
    if wrong == "out is a file":
        out.write_text("not a folder")
        said = f"error: [Errno 17] File exists: '{out}'"
    else:
        assert _run(shards, out, steps=2) == 0
    if wrong == "there are later checkpoints":
        older = out / "checkpoints/step-00000001.pt"
        more, said = [f"--resume={older}"], f"error: {older}: there are later checkpoints, step-00000002.pt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": 0}.items():
        monkeypatch.setenv(name, str(value))
    processes = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        processes.append(start([*_flags(shards, out), *more]))
    for printed in [finish(process, 2) for process in processes]:
        assert said in printed
        assert "Traceback" not in printed


@pytest.mark.slow
def test_under_torchrun_an_error_of_the_first_rank_ends_the_job(shards: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.write_text("not a folder")
    printed = finish(start(_flags(shards, out), 2), None)
    assert f"error: [Errno 17] File exists: '{out}'" in printed
