"""The next epoch is begun before this one ends: what is trained on stays the same, and nothing is left running."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch

from shards.loading.workers import LoaderError
from tests.train.runs import logged, task_flags, trainer_of, weights_of
from train import epochs
from train.__main__ import main
from train.epochs import Epochs


def _flags(shards: str, out: Path, workers: int, **more: object) -> list[str]:
    given = {"steps": 10, "every": 10, "workers": workers, "validation.split": "null", **more}
    return task_flags("asr", shards, out, **given)


def test_epochs_begun_ahead_give_the_weights_of_those_that_were_not(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[int, int]] = []
    prepare = Epochs.prepare

    def noted(self: Epochs, epoch: int, steps_before: int) -> None:
        prepare(self, epoch, steps_before)
        if self._next is not None:
            opened.append((epoch, steps_before))

    monkeypatch.setattr(Epochs, "prepare", noted)
    monkeypatch.setattr(epochs, "_STEPS_AHEAD", 1)
    assert main(_flags(shards, tmp_path / "ahead", workers=1)) == 0
    assert {steps_before for _, steps_before in opened} == {1}
    ends = logged(tmp_path / "ahead", "epoch")
    assert len(opened) == len(ends) > 1
    assert multiprocessing.active_children() == []
    opened.clear()
    assert main(_flags(shards, tmp_path / "here", workers=0)) == 0
    assert opened == []
    ours, theirs = (weights_of(tmp_path / name, 10) for name in ("ahead", "here"))
    assert [name for name, x in theirs.items() if not torch.equal(ours[name], x)] == []


def test_epochs_leave_no_process_where_training_stops_before_the_next(shards: str, tmp_path: Path) -> None:
    trainer = trainer_of(_flags(shards, tmp_path / "run", workers=1))
    epoch = trainer.epochs.open(1, 0)
    trainer.epochs.prepare(2, epoch.steps)
    assert len(multiprocessing.active_children()) == 2
    epoch.batches.close()
    trainer.epochs.close()
    assert multiprocessing.active_children() == []


def test_epochs_that_cannot_be_begun_ahead_fail_where_they_begin(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(_flags(shards, tmp_path / "run", workers=1))

    def refused(*_: object, **__: object) -> None:
        raise LoaderError("loader worker 1 of 1 cannot be started")

    monkeypatch.setattr(epochs, "load", refused)
    trainer.epochs.prepare(2, 1)
    with pytest.raises(LoaderError, match="worker 1 of 1"):
        trainer.epochs.open(2, 0)
