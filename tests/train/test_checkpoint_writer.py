"""Checkpoints are written while training goes on: what is written is the run as it was, and failures are not lost."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Event

import pytest
import torch

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.vsr import VSRModel, VSRSettings
from tests.model.networks import VISUAL
from train.checkpoint_writer import CheckpointWriter


def _checkpoint(step: int = 0) -> Checkpoint:
    network = VSRModel(VSRSettings(visual=VISUAL, vocabulary=8))
    training = {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"betas": (0.9, 0.98)}]}}
    return Checkpoint(network.settings, network.state_dict(), step=step, training=training)


def test_checkpoint_writer_writes_what_was_submitted_and_not_what_became_of_it(tmp_path: Path) -> None:
    checkpoint, free = _checkpoint(), Event()
    name = next(name for name, x in checkpoint.weights.items() if x.is_floating_point())
    assert checkpoint.training is not None
    before, moment = checkpoint.weights[name].clone(), checkpoint.training["optimizer"]["state"][0]["exp_avg"]

    def write(copy: Checkpoint) -> None:
        free.wait(60)
        save_checkpoint(tmp_path / "x.pt", copy)

    with CheckpointWriter() as writer:
        writer.submit(checkpoint, write)
        checkpoint.weights[name].add_(1)  # the next step
        moment.add_(1)
        free.set()
    found = load_checkpoint(tmp_path / "x.pt")
    assert found.training is not None
    assert torch.equal(found.weights[name], before)
    assert torch.equal(found.training["optimizer"]["state"][0]["exp_avg"], torch.zeros(3))
    assert found.training["optimizer"]["param_groups"] == [{"betas": (0.9, 0.98)}]


def _full(checkpoint: Checkpoint) -> None:
    raise OSError(28, "No space left on device", f"step-{checkpoint.step}")


def test_checkpoint_writer_raises_what_failed_at_the_next_call_or_the_end() -> None:
    with CheckpointWriter() as writer:
        writer.submit(_checkpoint(1), _full)
        with pytest.raises(OSError, match="step-1"):
            writer.wait()
        writer.wait()
    with pytest.raises(OSError, match="step-2"), CheckpointWriter() as writer:
        writer.submit(_checkpoint(2), _full)


def test_checkpoint_writer_has_two_copies_at_most() -> None:
    with CheckpointWriter() as writer:
        for step in (1, 2):
            writer.submit(_checkpoint(step), _full if step == 1 else _nothing)
        with pytest.raises(OSError, match="step-1"):  # the first was written, or not, before a third is copied
            writer.submit(_checkpoint(3), _nothing)


def _nothing(checkpoint: Checkpoint) -> None:
    del checkpoint


def _train_into_an_error() -> None:
    with CheckpointWriter() as writer:
        writer.submit(_checkpoint(1), _full)
        raise KeyError("loss")


def test_checkpoint_writer_logs_what_failed_where_another_error_ends_training(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(KeyError, match="loss"):
        _train_into_an_error()
    assert "step-1" in caplog.text


def test_checkpoint_writer_writes_in_the_order_submitted() -> None:
    written: list[int] = []
    with CheckpointWriter() as writer:
        for step in range(6):
            writer.submit(_checkpoint(step), lambda checkpoint: written.append(checkpoint.step))
    assert written == list(range(6))
