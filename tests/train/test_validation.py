"""Validation: the same clips and scores every time, nothing changed by it, the best weights saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch import Tensor

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.mel import log_mel
from model.segment_sampling import Windows, loudest_windows, take_window
from model.vocoders.mel_to_wav import mel_to_wav
from model.vocoders.neural_vocoder import Vocoder
from shards import Dataset
from shards.loading.collate import Batch
from shards.loading.loader import load
from tests.model.networks import small_vocoder
from tests.shards.datasets import noise, write_dataset
from tests.train.runs import finish, logged, start, task_flags, trainer_of, write_tokenizer
from tests.train.steady import keep_batch_norm_steady
from train.__main__ import main
from train.logger import Logger
from train.optim import ScheduleSettings
from train.state import TrainState
from train.tasks.inputs import prepare
from train.trainer import Trainer
from train.validation import Validator
from train.validation_metrics import Example, ValidationMetrics

VAL = {"main/a/00": 30, "main/a/01": 25, "main/b/00": 20, "main/a/02": 9}
"""Frames of the clips that are validated on: of `b` there is one; the last is too short for STOI."""
HOP = 160
"""Samples by which a sound made from a mel falls short: there is one less between frames than there are frames."""
TASKS = ["vsr", "asr", "lip2speech", "vocoder"]


def _dataset(folder: Path) -> Dataset:
    train = [noise(f"main/{speaker}/9{clip}", "train", 10 + clip) for speaker in "ab" for clip in range(4)]
    val = [noise(key, "val", frames) for key, frames in VAL.items()]
    dataset = write_dataset(str(folder), {"train-000000.tar": train, "val-000000.tar": val})
    write_tokenizer(folder, dataset)
    return dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Not to be changed by a test."""
    return _dataset(tmp_path_factory.mktemp("dataset"))


def _flags(dataset: Dataset, out: Path, task: Any = "lip2speech", **more: Any) -> list[str]:
    settings = {"steps": 4, "every": 2, "validation.every": 2, "validation.processes": 0, **more}
    return task_flags(task, dataset.store.url, out, **settings)


def _validated(trainer: Trainer, step: int = 1) -> dict[str, float]:
    """What one validation logs; its examples go to TensorBoard."""
    state = TrainState(step=step - 1, validated_step=step - 1)
    with closing(Logger(trainer.run_dir, state, ScheduleSettings(steps=10), enabled=True)) as logger:
        trainer.state.step = step
        trainer.plan_validation()
        trainer.validate(logger)
        trainer.writer.wait()
    return logged(trainer.run_dir.path, "validation")[step]


def _validator(trainer: Trainer) -> Validator:
    trainer.plan_validation()
    assert trainer.validator is not None
    return trainer.validator


def _board(run: Path) -> EventAccumulator:
    found = EventAccumulator(str(run / "tensorboard"), {"images": 0, "audio": 0, "tensors": 0, "scalars": 0})
    found.Reload()
    return found


@pytest.mark.parametrize("task", TASKS)
def test_validation_is_deterministic_and_changes_no_weights_or_statistics(
    dataset: Dataset, tmp_path: Path, task: str
) -> None:
    synthesizes = task in ("lip2speech", "vocoder")
    speech = {"validation.speech": "[stoi,pesq]"} if synthesizes else {}
    trainer = trainer_of(_flags(dataset, tmp_path / "run", task, ema=0.5, **speech))
    network, ema = trainer.model.network, trainer.model.ema
    before = {name: x.clone() for name, x in network.state_dict().items()}
    torch.manual_seed(1)
    first = _validated(trainer, 1)
    torch.manual_seed(2)
    network.train()
    again = _validated(trainer, 2)
    assert {**first, "step": 0} == {**again, "step": 0}, "to the last bit, as JSON writes them"
    assert set(trainer.task.scores) <= set(first)
    assert ({"stoi", "pesq"} <= set(first)) == synthesizes
    after = network.state_dict()
    assert [name for name, x in before.items() if not torch.equal(after[name], x)] == []
    assert ema is not None
    assert [name for name, x in before.items() if not torch.equal(ema.weights[name], x)] == []


@pytest.mark.parametrize("task", TASKS)
def test_validation_scores_and_saves_the_average_and_training_keeps_its_own_weights(
    dataset: Dataset, tmp_path: Path, task: str
) -> None:
    plain = trainer_of(_flags(dataset, tmp_path / "plain", task))
    trainer = trainer_of(_flags(dataset, tmp_path / "run", task, ema=0.5))
    network, ema = trainer.model.network, trainer.model.ema
    own = {name: x.clone() for name, x in network.state_dict().items()}
    assert ema is not None
    for name, x in ema.weights.items():
        if x.is_floating_point() and "running_var" not in name:
            x.add_(torch.rand(x.shape, generator=torch.Generator().manual_seed(len(name))), alpha=0.1)
    average = {name: x.clone() for name, x in ema.weights.items()}
    of_own = _validated(plain)
    plain.model.network.load_state_dict(average)
    of_average = _validated(plain, 2)
    score = trainer.task.scores[-1]
    assert of_average[score] != of_own[score]
    assert _validated(trainer, 2) == of_average
    after = network.state_dict()
    assert [name for name, x in own.items() if not torch.equal(after[name], x)] == []
    kept = load_checkpoint(tmp_path / "run/best.pt").weights
    assert [name for name, x in average.items() if not torch.equal(kept[name], x)] == []


@pytest.mark.slow
@pytest.mark.parametrize("clips_a_batch", [1, 4])
def test_validation_on_two_ranks_comes_to_the_means_of_one(
    dataset: Dataset, tmp_path: Path, clips_a_batch: int
) -> None:
    """After a step that moves nothing; with 4 there is one micro-batch, and the second rank has none."""
    still = {"steps": 1, "optimizer.learning_rate": 0, "batch.max_clips": clips_a_batch, "batch.max_padded_frames": 400}
    found = []
    for ranks in (1, 2):
        out = tmp_path / f"ranks{ranks}"
        finish(start(_flags(dataset, out, **{"validation.speech": "[stoi]"}, **still), ranks, keep_batch_norm_steady))
        found.append(logged(out, "validation")[1])
    assert found[0] == pytest.approx(found[1], rel=1e-9)  # float64 sums in another order
    assert {"l1", "ctc", "wer", "cer", "stoi", "stoi_failed"} <= set(found[0])


@pytest.mark.slow
@pytest.mark.parametrize("ema", ["null", 0.5])
def test_validation_on_two_ranks_scores_the_weights_and_statistics_that_are_saved(
    dataset: Dataset, tmp_path: Path, ema: Any
) -> None:
    """Each has batch-norm statistics of its own: the first one's are what is kept."""
    alone = {"batch.max_clips": 1, "ema": ema}
    finish(start(_flags(dataset, tmp_path / "two", **alone), 2))
    best = load_checkpoint(tmp_path / "two/best.pt")
    trainer = trainer_of(_flags(dataset, tmp_path / "one", **{**alone, "ema": "null"}))
    trainer.model.network.load_state_dict(dict(best.weights))
    assert _validated(trainer)["l1"] == pytest.approx(best.metrics["validation_l1"], rel=1e-6)


def test_validation_takes_every_clip_whole_or_as_many_as_the_settings_say(dataset: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(_flags(dataset, tmp_path / "run", **{"validation.clips": 2}))
    assert _keys_of(trainer) == _keys_of(
        trainer_of(_flags(dataset, tmp_path / "other", seed=5, **{"validation.clips": 2}))
    )
    assert len(_keys_of(trainer)) == 2
    everything = trainer_of(_flags(dataset, tmp_path / "all", **{"validation.clips": "null"}))
    assert _keys_of(everything) == sorted(VAL)
    assert all(clip.whole for micro_batch in _validator(everything).planned for clip in micro_batch.clips)
    nothing = trainer_of(_flags(dataset, tmp_path / "none", **{"validation.split": "null"}))
    nothing.plan_validation()
    assert nothing.validator is None


def _keys_of(trainer: Trainer) -> list[str]:
    planned, keys = _validator(trainer).planned, trainer.dataset.index["key"].to_pylist()
    return sorted(keys[clip.row] for micro_batch in planned for clip in micro_batch.clips)


def test_tensorboard_shows_the_same_clips_at_every_validation(dataset: Dataset, tmp_path: Path) -> None:
    assert main(_flags(dataset, tmp_path / "run", **{"validation.examples": 2})) == 0
    board = _board(tmp_path / "run")
    shown = sorted(VAL, key=lambda key: Random(f"shown {key}").random())[:2]  # from anywhere in the split
    shown.sort()
    assert sorted(board.Tags()["images"]) == [f"{key}/synthesized above ground truth" for key in shown]
    assert sorted(board.Tags()["audio"]) == [
        f"{key}/{name}" for key in shown for name in ("ceiling", "original", "synthesized")
    ]
    for key in shown:
        frames = VAL[key]
        pictures = board.Images(f"{key}/synthesized above ground truth")
        assert [event.step for event in pictures] == [2, 4]
        assert {(event.width, event.height) for event in pictures} == {(2 * 4 * frames, 2 * 2 * 80 + 4)}
        for name, steps in (("synthesized", [2, 4]), ("original", [2]), ("ceiling", [2])):
            sounds = board.Audio(f"{key}/{name}")
            assert [event.step for event in sounds] == steps, "what does not change is there once"
            assert {event.sample_rate for event in sounds} == {16000}
            missing = {640 * frames - event.length_frames for event in sounds}
            assert missing <= ({0} if name == "original" else {0, HOP})
        generated = [event.encoded_audio_string for event in board.Audio(f"{key}/synthesized")]
        assert generated[0] != generated[1], "two steps later it sounds otherwise"
        texts = board.Tensors(f"{key}/text_summary")
        assert [event.step for event in texts] == [2, 4]
        (text,) = {each.split("\n")[0] for each in (event.tensor_proto.string_val[0].decode() for event in texts)}
        assert text == "text: " + " ".join(f"word{number}" for number in range(frames // 5))
        assert all(b"\n\nhypothesis: " in event.tensor_proto.string_val[0] for event in texts)
    assert [event.step for event in board.Scalars("validation/l1")] == [2, 4]


def test_examples_hold_the_clips_own_waveform_as_original(dataset: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(_flags(dataset, tmp_path / "run", **{"validation.examples": 2}))
    examples: list[Example] = []
    with _spied(Logger, "log_examples", lambda logger, step, shown, *_, **__: examples.extend(shown)):
        _validated(trainer)
    stored = {sample.key: sample for sample in dataset.samples("val")}
    for example in examples:
        wav = stored[example.key].wav
        np.testing.assert_allclose(example.waveforms["original"], wav / 32768, atol=1e-6)
        assert [mel.shape for mel in example.mels] == [(80, 4 * VAL[example.key])] * 2
        assert {len(wav) - len(waveform) for waveform in example.waveforms.values()} <= {0, HOP}
    assert len(examples) == 2


def test_vocoder_is_validated_by_the_speech_of_ground_truth_mels(dataset: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(_flags(dataset, tmp_path / "run", "vocoder", **{"validation.examples": 1}))
    examples: list[Example] = []
    with _spied(Logger, "log_examples", lambda logger, step, shown, *_, **__: examples.extend(shown)):
        assert {"stft", "l1"} <= set(_validated(trainer))
    (example,) = examples
    sample = next(one for one in dataset.samples("val") if one.key == example.key)
    generated, true = example.mels
    expected = log_mel(torch.from_numpy(sample.wav / np.float32(32768)))[:, : true.shape[1]]
    np.testing.assert_allclose(true, expected.numpy(), atol=1e-4)
    assert generated.shape == true.shape
    assert set(example.waveforms) == {"synthesized", "original"}
    vocoder = trainer.model.network
    assert isinstance(vocoder, Vocoder)
    wav = mel_to_wav(torch.from_numpy(true)[None], vocoder=vocoder)[0].numpy()
    np.testing.assert_allclose(example.waveforms["synthesized"], wav, atol=1e-4)


def test_lip2speech_is_heard_through_the_vocoder_of_the_settings(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "v.pt"
    vocoder = small_vocoder()
    save_checkpoint(path, Checkpoint(vocoder.settings, vocoder.state_dict()))
    sounds: list[dict[str, Any]] = []
    criteria: list[str] = []
    for settings in ({}, {"validation.vocoder": path}):
        trainer = trainer_of(_flags(dataset, tmp_path / f"run{len(sounds)}", **{"validation.examples": 1}, **settings))
        examples: list[Example] = []
        with _spied(Logger, "log_examples", lambda logger, step, shown, *_, kept=examples, **__: kept.extend(shown)):
            _validated(trainer)
        sounds.append(examples[0].waveforms)
        criteria.append(trainer.state.best_criterion)
    for name in ("synthesized", "ceiling"):
        assert not np.array_equal(sounds[0][name], sounds[1][name])
    assert "vocoder" not in criteria[0]
    assert criteria[1].startswith(f"{criteria[0]}, vocoder "), "older bests do not count"
    for wrong, named in (("nothing.pt", "validation.vocoder: nothing.pt: no such file"), (path.parent, "a folder")):
        assert main(_flags(dataset, tmp_path / "refused", **{"validation.vocoder": wrong})) == 2
        assert named in capsys.readouterr().err


@contextmanager
def _spied(owner: Any, name: str, instead: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, instead)
        yield


@pytest.mark.parametrize("task", ["vsr", "asr"])
def test_tensorboard_shows_transcripts_of_vsr_and_asr(dataset: Dataset, tmp_path: Path, task: str) -> None:
    assert main(_flags(dataset, tmp_path / "run", task, steps=2, **{"validation.examples": 1})) == 0
    tags = _board(tmp_path / "run").Tags()
    shown = min(VAL, key=lambda key: Random(f"shown {key}").random())
    assert (tags["tensors"], tags["images"], tags["audio"]) == ([f"{shown}/text_summary"], [], [])


@pytest.mark.parametrize("processes", [0, 1])
def test_metric_that_fails_on_a_clip_is_counted_and_the_others_are_kept(
    dataset: Dataset, tmp_path: Path, processes: int
) -> None:
    """STOI wants 0.4 s of sound; PESQ has a figure of the shortest clip too."""
    settings = {"validation.speech": "[stoi,pesq]", "validation.processes": processes}
    trainer = trainer_of(_flags(dataset, tmp_path / "run", **settings))
    sums: dict[str, list[float]] = {}
    means = ValidationMetrics.means
    noted = lambda metrics, context: sums.update(metrics.sums) or means(metrics, context)  # noqa: E731
    with _spied(ValidationMetrics, "means", noted):
        found = _validated(trainer)
    assert found["stoi_failed"] == 1
    assert sums["stoi"][1] == len(VAL) - 1
    assert sums["pesq"][1] == sums["l1"][1] == len(VAL)
    assert found["stoi"] == pytest.approx(sums["stoi"][0] / (len(VAL) - 1))
    assert "pesq_failed" not in found


def test_best_is_not_saved_where_its_score_is_measured_on_no_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = {
        "train-000000.tar": [noise(f"main/a/9{clip}", "train", 12) for clip in range(4)],
        "val-000000.tar": [noise("main/a/00", "val", 9)],
    }
    dataset = write_dataset(str(tmp_path / "dataset"), samples)
    write_tokenizer(tmp_path / "dataset", dataset)
    settings = {"steps": 2, "validation.speech": "[stoi]", "checkpoint.best": "stoi"}
    assert main(_flags(dataset, tmp_path / "run", **settings)) == 0
    assert "stoi could be measured on no clip" in capsys.readouterr().err
    assert not (tmp_path / "run/best.pt").exists()
    assert logged(tmp_path / "run", "validation")[2]["stoi_failed"] == 1


def _damage(dataset: Dataset, key: str, *members: str) -> None:
    row = next(row for row in dataset.index.to_pylist() if row["key"] == key)
    with Path(dataset.store.path(row["shard"])).open("r+b") as file:
        for member in members:
            file.seek(row[f"{member}_offset"])
            file.write(b"????")


@pytest.mark.parametrize("task", TASKS)
def test_damaged_clip_is_named_and_counted_or_stops_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    dataset = _dataset(tmp_path / "dataset")
    _damage(dataset, "main/a/01", "wav", "mel", "roi")
    assert main(_flags(dataset, tmp_path / "run", task, on_error="skip")) == 0
    assert "validation: skipped main/a/01: " in capsys.readouterr().err
    assert [line["skipped"] for line in logged(tmp_path / "run", "validation").values()] == [1, 1]
    assert main(_flags(dataset, tmp_path / "stopped", task)) == 2
    assert "main/a/01" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "settings", "score"),
    [
        ("vsr", {"checkpoint.best": "l1"}, "l1"),
        ("asr", {"checkpoint.best": "stoi", "validation.speech": "[stoi]"}, "stoi"),
        ("lip2speech", {"checkpoint.best": "null"}, "stoi"),
        ("vocoder", {"checkpoint.best": "null"}, "pesq"),
        ("lip2speech", {"checkpoint.best": "pesq", "validation.speech": "[stoi]"}, "pesq"),
    ],
)
def test_best_score_that_is_not_measured_is_refused_before_the_first_step(
    dataset: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    task: str,
    settings: dict[str, Any],
    score: str,
) -> None:
    assert main(_flags(dataset, tmp_path / "run", task, **settings)) == 2
    message = rf"checkpoint\.best: {score} is not measured by this task; it measures [cl]"
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run/log.jsonl").exists()


@pytest.mark.parametrize(("score", "sign"), [("stoi", 1), ("l1", -1)])
def test_best_is_the_highest_speech_score_or_the_lowest_error(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score: str, sign: int
) -> None:
    found = iter([0.5, 0.5 + sign * 0.2, 0.5 + sign * 0.1, 0.5 + sign * 0.2])
    monkeypatch.setattr(ValidationMetrics, "means", lambda metrics, context: {score: next(found)})
    settings = {"every": 4, "validation.every": 1, "validation.speech": "[stoi]", "checkpoint.best": score}
    assert main(_flags(dataset, tmp_path / "run", **settings)) == 0
    best = load_checkpoint(tmp_path / "run/best.pt")
    assert (best.step, best.metrics) == (2, {f"validation_{score}": 0.5 + sign * 0.2})


@pytest.mark.parametrize(
    "changed", [{"validation.clips": 2}, {"checkpoint.best": "cer"}, {"validation.speaker_reference": "self"}]
)
def test_resume_remembers_the_best_unless_it_is_measured_otherwise(
    dataset: Dataset, tmp_path: Path, changed: dict[str, Any]
) -> None:
    out = tmp_path / "run"
    assert main(_flags(dataset, out, "asr", steps=2)) == 0
    _exaggerate(out / "checkpoints/step-00000002.pt")
    before = (out / "best.pt").read_bytes()
    assert main([*_flags(dataset, out, "asr", steps=4), "--resume=auto"]) == 0
    assert (out / "best.pt").read_bytes() == before
    (out / "checkpoints/step-00000004.pt").unlink()
    assert main([*_flags(dataset, out, "asr", steps=4, **changed), "--resume=auto"]) == 0
    best = load_checkpoint(out / "best.pt")
    assert best.step == 4
    score = changed.get("checkpoint.best", "ctc")
    assert best.metrics[f"validation_{score}"] == logged(out, "validation")[4][score]


def _exaggerate(path: Path) -> None:
    """Give a checkpoint a best score that will not be reached."""
    content = torch.load(path)
    content["training"]["state"]["best"] = 0.0
    torch.save(content, path)


def _references(trainer: Trainer) -> dict[str, Tensor]:
    """The speaker reference that the network takes for each clip of the validation."""
    found: dict[str, Tensor] = {}
    validator, network = _validator(trainer), trainer.model.network.eval()
    for batch in _batches(trainer):
        taken: list[Tensor] = []
        hook = network.register_forward_pre_hook(lambda _, inputs, taken=taken: taken.append(inputs[2]))
        with torch.no_grad():
            trainer.task.validate(network, batch, validator.references, ValidationMetrics(None, frozenset()))
        hook.remove()
        found |= dict(zip(batch.keys, taken[0], strict=True))
    return found


def _batches(trainer: Trainer) -> Iterator[Batch]:
    loader = trainer.settings.loader(trainer.task.validation_contents)
    for batch in load(trainer.dataset, _validator(trainer).planned, loader):
        assert batch is not None
        yield batch


def test_speaker_reference_is_the_loudest_part_of_another_clip_of_the_speaker(dataset: Dataset, tmp_path: Path) -> None:
    trainer = trainer_of(_flags(dataset, tmp_path / "run", **{"segments.reference_frames": 20}))
    references = _references(trainer)
    loudest = {
        sample.key: _cut(torch.tensor(sample.mel), 20) for sample in dataset.samples("val") if "/a/" in sample.key
    }
    for key in loudest:
        matching = [other for other, mel in loudest.items() if torch.equal(mel, references[key])]
        assert len(matching) == 1
        assert matching != [key]
    again = _references(trainer_of(_flags(dataset, tmp_path / "again", seed=9, **{"segments.reference_frames": 20})))
    assert all(torch.equal(again[key], reference) for key, reference in references.items())


def _cut(mel: Tensor, frames: int) -> Tensor:
    windows: Windows = loudest_windows(mel[None], torch.tensor([mel.shape[1]]), frames)
    return take_window(mel[None], *windows, length=frames, dim=2)[0]


def test_speaker_reference_self_or_of_a_speaker_of_one_clip_is_its_own_first_frames(
    dataset: Dataset, tmp_path: Path
) -> None:
    frames = {"segments.reference_frames": 20}
    other = _references(trainer_of(_flags(dataset, tmp_path / "other", **frames)))
    own = _references(
        trainer_of(_flags(dataset, tmp_path / "self", **{"validation.speaker_reference": "self"}, **frames))
    )
    assert torch.equal(other["main/b/00"], own["main/b/00"])
    assert not any(torch.equal(other[key], own[key]) for key in VAL if key != "main/b/00")
    trainer = trainer_of(_flags(dataset, tmp_path / "run", **frames))
    batch = next(_batches(trainer))
    mel = prepare(batch, trainer.settings, torch.device("cpu"), None).target
    for row, key in enumerate(batch.keys):
        torch.testing.assert_close(own[key], mel[row, :, :20], rtol=0, atol=1e-5)


def test_speaker_reference_is_not_taken_from_a_damaged_clip(tmp_path: Path) -> None:
    """Its clips take their own first frames instead. No stored mel is read of the clips that are scored."""
    dataset = _dataset(tmp_path / "dataset")
    whole = _references(trainer_of(_flags(dataset, tmp_path / "whole")))
    own = _references(trainer_of(_flags(dataset, tmp_path / "self", **{"validation.speaker_reference": "self"})))
    for key in ("main/a/00", "main/a/01"):
        _damage(dataset, key, "mel")
    matching = _references(trainer_of(_flags(dataset, tmp_path / "run")))
    for key in VAL:
        assert torch.equal(matching[key], whole[key]) or torch.equal(matching[key], own[key])
    assert not torch.equal(matching["main/a/02"], whole["main/a/02"]), "both others of its speaker are damaged"


def test_scored_length_of_a_clip_does_not_depend_on_its_batch(dataset: Dataset, tmp_path: Path) -> None:
    """Metrics compare over the common length."""
    compared: list[dict[str, int]] = []
    for clips in (1, 8):
        lengths: dict[str, int] = {}
        settings = {"validation.speech": "[stoi]", "batch.max_clips": clips, "batch.max_padded_frames": 400}
        with _spied(ValidationMetrics, "score_speech", _noted_lengths(lengths)):
            _validated(trainer_of(_flags(dataset, tmp_path / f"{clips}", **settings)))
        compared.append(lengths)
    assert sorted(compared[0]) == sorted(VAL)
    assert compared[0] == compared[1]


def _noted_lengths(lengths: dict[str, int]) -> Any:
    def score_speech(metrics: Any, key: str, original: Any, synthesized: Any) -> None:
        lengths[key] = min(len(original), len(synthesized))

    return score_speech
