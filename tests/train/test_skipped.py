"""Runs that skip what they cannot read: a few clips cost themselves, too many end the run, on all ranks together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shards import Dataset
from tests.shards.datasets import noise, write_dataset
from tests.train.runs import logged, start, task_flags, write_tokenizer
from train.__main__ import main

CLIPS = [f"main/s/{number:02}" for number in range(10)]


def _dataset(folder: Path, damaged: Sequence[str]) -> Dataset:
    """Ten clips to train on and two to validate on, some of which hold no mel."""
    train = [noise(key, "train", 12) for key in CLIPS]
    val = [noise(f"main/v/{number:02}", "val", 12) for number in range(2)]
    dataset = write_dataset(str(folder), {"train-000000.tar": train, "val-000000.tar": val})
    write_tokenizer(folder, dataset)
    for row in dataset.index.to_pylist():
        if row["key"] in damaged:
            with Path(dataset.store.path(row["shard"])).open("r+b") as file:
                file.seek(row["mel_offset"])
                file.write(b"????")
    return dataset


def _flags(dataset: Dataset, out: Path, *more: str, **settings: Any) -> list[str]:
    one_by_one = {"micro_batches_per_step": 1, "batch.max_clips": 1, "on_error": "skip", "validation.split": "null"}
    return [*task_flags("asr", dataset.store.url, out, **{"steps": 30, "every": 1, **one_by_one, **settings}), *more]


def test_step_of_which_nothing_could_be_read_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, out = _dataset(tmp_path / "dataset", CLIPS), tmp_path / "run"
    assert main(_flags(dataset, out, **{"batch.max_clips": 4})) == 1
    message = " ".join(capsys.readouterr().err.split()).partition("error: ")[2]
    assert "step 1: none of its 4 clips could be read" in message
    assert all(
        part in message for part in ("train-000000.tar", "main/s/", "pipeline verify", str(out / "skipped.jsonl"))
    )
    assert len((out / "skipped.jsonl").read_text().splitlines()) == 4
    assert not (out / "checkpoints").exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3])
def test_epoch_of_which_too_much_could_not_be_read_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    """Though no step has more than one clip, of which one alone is never too much."""
    dataset, out = _dataset(tmp_path / "dataset", CLIPS[:3]), tmp_path / "run"
    status = main(_flags(dataset, out, max_skipped_share=share, steps=20))
    message = capsys.readouterr().err
    if share == 0.3:
        assert status == 0
        assert [line["skipped"] for line in logged(out, "epoch").values()] == [3, 6], "counted anew in each epoch"
        return
    assert status == 1
    count = 3 if share == 0.2 else 2
    assert f"epoch 1: {count} of 10 clips until here could not be read, and max_skipped_share allows" in message
    assert len((out / "skipped.jsonl").read_text().splitlines()) == count


def test_resumed_epoch_ends_where_one_that_was_not_interrupted_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = _dataset(tmp_path / "dataset", CLIPS[:3])
    found = []
    for interrupted in (False, True):
        out = tmp_path / f"run-{interrupted}"
        steps = 0
        if interrupted:  # after the first that was skipped
            steps = json.loads((tmp_path / "run-False/skipped.jsonl").read_text().splitlines()[0])["step"]
            assert main(_flags(dataset, out, steps=steps)) == 0
        assert main(_flags(dataset, out, *["--resume=auto"] * interrupted)) == 1
        found.append((max(logged(out)), (out / "skipped.jsonl").read_text()))
        assert "epoch 1: 2 of 10 clips" in capsys.readouterr().err
    assert found[0] == found[1]


def test_validation_of_which_nothing_could_be_read_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = _dataset(tmp_path / "dataset", ["main/v/00", "main/v/01"])
    assert main(_flags(dataset, tmp_path / "run", **{"validation.split": "val", "validation.every": 2})) == 1
    assert "validation: none of the 2 clips of val could be read: " in capsys.readouterr().err


@pytest.mark.slow
def test_ranks_that_skip_too_much_stop_together(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "dataset", CLIPS)
    both = {"micro_batches_per_step": 2, "validation.split": "val"}
    for printed in start(_flags(dataset, tmp_path / "run", **both), 2).finish(1):
        assert "step 1: none of its 2 clips could be read" in printed
        assert "Traceback" not in printed
