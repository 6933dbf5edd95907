"""A dataset without a transcript: lip2speech trains without a CTC head; vsr and asr refuse, and say what is missing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model.asr import ASRModel, ASRSettings
from model.checkpoint import Checkpoint, build_network, load_checkpoint, save_checkpoint
from model.conformer import ConformerSettings
from model.lip_to_speech import LipToSpeech
from model.segment_sampling import WINDOW_FRAMES
from model.synthesis import Synthesizer
from shards import Sample
from tests.model.networks import lively
from tests.shards.datasets import noise, small_dataset, write_dataset
from tests.train.runs import (
    finish,
    logged,
    run_killed_at,
    start,
    task_flags,
    trainer_of,
    weights_of,
    write_small_dataset,
)
from train.__main__ import main


def _silent(key: str, split: str, frames: int) -> Sample:
    """A clip without a transcript, as `pipeline build --transcripts optional` writes it."""
    sample = noise(key, split, frames)
    return dataclasses.replace(sample, text="", meta=dataclasses.replace(sample.meta, words=[]))


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a dataset without transcripts and without a tokenizer."""
    folder = tmp_path_factory.mktemp("silent")
    train = [_silent(f"main/{speaker}/9{clip}", "train", 12 + clip) for speaker in "ab" for clip in range(4)]
    val = [_silent(f"main/{speaker}/0{clip}", "val", 14 + clip) for speaker in "ab" for clip in range(2)]
    write_dataset(str(folder), {"train-000000.tar": train, "val-000000.tar": val})
    return str(folder)


def _flags(dataset: str, out: Path, task: Any = "lip2speech", **settings: Any) -> list[str]:
    given = {"steps": 4, "every": 2, "validation.every": 2, "validation.processes": 0, **settings}
    return task_flags(task, dataset, out, **given)


def _saved(path: Path, network: Any, **more: Any) -> str:
    save_checkpoint(path, Checkpoint(network.settings, network.state_dict(), **more))
    return str(path)


def test_lip2speech_without_transcripts_trains_without_a_ctc_head(
    silent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech = {"validation.speech": "[stoi]", "checkpoint.best": "stoi", "ema": 0.9}
    assert main(_flags(silent, tmp_path / "run", **speech)) == 0
    assert "without a CTC head and its loss: no clip of train has a transcript" in capsys.readouterr().err
    steps, validations = logged(tmp_path / "run"), logged(tmp_path / "run", "validation")
    assert sorted(steps) == [1, 2, 3, 4]
    assert all("l1" in line and not {"ctc", "ctc_skipped"} & set(line) for line in steps.values())
    assert not {"ctc", "ctc_skipped"} & {name for line in logged(tmp_path / "run", "epoch").values() for name in line}
    assert sorted(validations) == [2, 4]
    assert all(set(line) == {"step", "l1", "stoi"} for line in validations.values())
    checkpoint = load_checkpoint(tmp_path / "run/best.pt")
    assert (checkpoint.kind, checkpoint.settings.vocabulary, checkpoint.tokenizer) == ("lip2speech", 0, None)
    assert set(checkpoint.metrics) == {"validation_l1", "validation_stoi"}
    assert not [name for name in checkpoint.weights if name.startswith("head.")]
    described = json.loads((tmp_path / "run/settings.json").read_text())
    assert described["fingerprint"]["tokenizer"] is None


def test_checkpoint_without_a_ctc_head_synthesizes(silent: str, tmp_path: Path) -> None:
    assert main(_flags(silent, tmp_path / "run", steps=1, every=1)) == 0
    synthesizer = Synthesizer.from_checkpoint(tmp_path / "run/checkpoints/step-00000001.pt")
    crops, reference = torch.zeros(2, 7, 32, 32, dtype=torch.uint8), torch.zeros(2, 80, WINDOW_FRAMES)
    output = synthesizer.mels(crops, torch.tensor([7, 5]), reference)
    assert (output.mel.shape, output.logits) == ((2, 80, 28), None)
    assert synthesizer.hypotheses(output.logits, torch.tensor([7, 5])) is None
    mel, waveform = synthesizer.clip(crops[0], reference[0])
    assert (mel.shape, waveform.shape) == ((80, 28), (640 * 7 - 160,))


def test_content_loss_works_without_transcripts(silent: str, tmp_path: Path) -> None:
    sizes = ASRSettings((2, 3), ConformerSettings(1, 16, 2, kernel=5), 31, 80)
    asr = _saved(tmp_path / "asr.pt", lively(ASRModel(sizes)))
    losses = {"init_asr": asr, "losses.content_after_epoch": 0, "losses.content_below": 100, "steps": 6}
    assert main(_flags(silent, tmp_path / "run", **losses)) == 0
    assert "content" in logged(tmp_path / "run")[6]
    assert "ctc" not in logged(tmp_path / "run")[6]


@pytest.mark.parametrize("task", ["vsr", "asr"])
def test_ctc_tasks_without_transcripts_are_refused_with_a_tokenizer_too(
    silent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    tokenizer = f"--tokenizer={write_small_dataset(tmp_path / 'other')}/tokenizer.model"
    for more in ([], [tokenizer]):
        assert main([*_flags(silent, tmp_path / "run", task), *more]) == 2
        message = capsys.readouterr().err
        assert f"{silent}: no clip of train has a transcript" in message
        assert task in message
        assert ".txt" in message
        assert "--task lip2speech" in message
    assert not (tmp_path / "run").exists()


def test_best_by_a_score_of_text_is_refused_without_transcripts(
    silent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_flags(silent, tmp_path / "run", **{"checkpoint.best": "wer"})) == 2
    assert "checkpoint.best: wer is not measured by this task; it measures l1" in capsys.readouterr().err


def test_ctc_weight_of_0_does_without_a_tokenizer_where_there_are_transcripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = small_dataset(str(tmp_path / "dataset")).store.url
    assert main(_flags(dataset, tmp_path / "run")) == 2
    assert f"run `pipeline tokenizer {dataset}`" in capsys.readouterr().err
    assert main(_flags(dataset, tmp_path / "run", **{"losses.ctc": 0})) == 0
    assert "without a CTC head and its loss: losses.ctc is 0" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "run/best.pt").settings.vocabulary == 0


def test_tokenizer_that_came_after_the_run_began_is_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = small_dataset(str(tmp_path / "dataset")).store.url
    settings = {"losses.ctc": 0, "validation.split": "null", "resume": "auto"}
    arguments = _flags(dataset, tmp_path / "run", **settings)
    assert main(arguments) == 0
    write_small_dataset(tmp_path / "other")
    (tmp_path / "other/tokenizer.model").rename(tmp_path / "dataset/tokenizer.model")
    assert main(arguments) == 2
    assert "another tokenizer" in capsys.readouterr().err


def test_init_leaves_out_the_ctc_head_of_a_checkpoint(
    silent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = trainer_of(_flags(silent, tmp_path / "sizes")).settings.network
    theirs = lively(LipToSpeech(dataclasses.replace(sizes, vocabulary=31)))
    path = _saved(tmp_path / "theirs.pt", theirs)
    ours = trainer_of(_flags(silent, tmp_path / "all", init=path)).model.network.state_dict()
    assert ours.keys() == {name for name in theirs.state_dict() if not name.startswith("head.")}
    assert all(torch.equal(x, theirs.state_dict()[name]) for name, x in ours.items())
    visual = trainer_of(_flags(silent, tmp_path / "visual", init_vsr=path)).model.network.state_dict()
    assert ours.keys() == visual.keys()
    assert all(torch.equal(x, ours[name]) for name, x in visual.items() if name.startswith("visual."))
    capsys.readouterr()
    assert main(_flags(silent, tmp_path / "run", init=path, steps=1, every=1)) == 0
    assert f"all weights from {path}, without its CTC head" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_resume_without_transcripts_equals_an_uninterrupted_run(silent: str, tmp_path: Path, ranks: int) -> None:
    """On two ranks one has no micro-batch in the last step of an epoch."""
    settings = {"steps": 9, "every": 3, "validation.every": 3, "workers": 1, "batch.max_clips": 3}
    finish(start(_flags(silent, tmp_path / "straight", **settings), ranks))
    broken = _flags(silent, tmp_path / "broken", **settings)
    run_killed_at("5", tmp_path / "marker", broken, ranks)
    assert "step-00000003.pt" in finish(start([*broken, "--resume=auto"], ranks))
    ours, theirs = weights_of(tmp_path / "broken", 9), weights_of(tmp_path / "straight", 9)
    assert ours.keys() == theirs.keys()
    assert [name for name, x in theirs.items() if not torch.equal(ours[name], x)] == []
    assert build_network(load_checkpoint(tmp_path / "broken/best.pt")).settings.vocabulary == 0
