"""Distillation: CTC heads of lip readers learn, frame by frame, what a frozen ASR model reads in the ground truth."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from model.tokenizer import train_tokenizer
from tests.train.runs import logged, task_flags, trainer_of
from train.__main__ import main

LIPS = pytest.mark.parametrize("task", ["vsr", "lip2speech"])


@pytest.fixture(scope="module")
def asr(shards: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An ASR model that has learned a few clips. Not to be changed by a test."""
    run = tmp_path_factory.mktemp("asr") / "run"
    learn = ["--splits=[val]", "--micro_batches_per_step=1", "--optimizer.learning_rate=0.01"]
    assert main([*task_flags("asr", shards, run, steps=40, every=40), *learn]) == 0
    return str(run / "best.pt")


@LIPS
def test_distillation_teaches_the_heads_without_any_text(shards: str, asr: str, tmp_path: Path, task: str) -> None:
    """Texts have no weight here."""
    run = tmp_path / "run"
    more = ["--losses.distillation=20", f"--init_asr={asr}", "--losses.ctc=0", "--network.intermediate_ctc=[1]"]
    more += ["--network.visual.conformer.layers=2", "--splits=[val]", "--micro_batches_per_step=1"]
    more += ["--optimizer.learning_rate=0.01", "--validation.every=40"]
    assert main([*task_flags(task, shards, run, steps=40, every=40), *more]) == 0
    steps = list(logged(run).values())
    first, last = (sum(line["distillation"] for line in part) / 5 for part in (steps[:5], steps[-5:]))
    assert last < 0.7 * first


@LIPS
def test_distillation_loss_is_weighted_and_shared_with_intermediate_ctc(
    shards: str, asr: str, tmp_path: Path, task: str
) -> None:
    arguments = [*task_flags(task, shards, tmp_path / "run"), f"--init_asr={asr}", "--network.intermediate_ctc=[1]"]
    arguments.append("--network.visual.conformer.layers=2")
    totals, parts = [], []
    for weight, share in ((1e-9, 0), (20, 0), (20, 1), (20, 0.25)):
        losses = [f"--losses.distillation={weight}", f"--losses.intermediate_ctc={share}"]
        trainer = trainer_of([*arguments, *losses])  # the same weights: the seed is
        batch = next(iter(trainer.epochs.open(1, 0).batches))
        assert batch is not None
        found = trainer.task.loss(trainer.model.network.eval(), batch, 1, trainer.state)
        totals.append(float(found.total.detach()))
        parts.append(float(found.parts["distillation"]))
    assert totals[1] - totals[0] == pytest.approx(20 * parts[1], rel=1e-3)
    assert parts[3] == pytest.approx(0.75 * parts[1] + 0.25 * parts[2], rel=1e-4)
    assert parts[1] != pytest.approx(parts[2], rel=1e-4)


@LIPS
def test_distillation_needs_an_asr_model_of_the_same_tokenizer(
    shards: str, asr: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    (tmp_path / "other.model").write_bytes(
        train_tokenizer(["place blue at f two now", "set white by q"], 25).model_bytes
    )
    arguments = task_flags(task, shards, tmp_path / "run", steps=1)
    more = ["--losses.distillation=20", f"--init_asr={asr}", f"--tokenizer={tmp_path / 'other.model'}"]
    assert main([*arguments, *more]) == 2
    message = capsys.readouterr().err
    assert f"{asr}: trained with another tokenizer" in message
    assert "losses.distillation" in message
    assert not (tmp_path / "run").exists()


@LIPS
def test_distillation_without_an_asr_model_stays_off_and_says_so(
    shards: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, task: str
) -> None:
    with caplog.at_level(logging.INFO):
        assert main([*task_flags(task, shards, tmp_path / "run", steps=1), "--losses.distillation=20"]) == 0
    assert "losses.distillation stays off: no ASR model is named (--init-asr)" in caplog.text
    assert not any("distillation" in line for line in logged(tmp_path / "run").values())


def test_distillation_without_a_tokenizer_stays_off_and_says_so(
    shards: str, asr: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(shards, tmp_path / "dataset", ignore=shutil.ignore_patterns("tokenizer.model"))
    arguments = task_flags("lip2speech", str(tmp_path / "dataset"), tmp_path / "run", steps=1)
    with caplog.at_level(logging.INFO):
        assert main([*arguments, "--losses.ctc=0", f"--init_asr={asr}", "--losses.distillation=20"]) == 0
    assert "losses.distillation stays off: there is no CTC head, since no tokenizer" in caplog.text
