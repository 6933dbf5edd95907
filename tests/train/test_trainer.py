"""The training loop: steps, epochs and ranks, the files of a run, and input that is refused by name."""

from __future__ import annotations

import dataclasses
import itertools
import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.checkpoint import load_checkpoint
from model.lip_to_speech import LipToSpeech, LipToSpeechSettings
from pipeline.config import BuildSettings, config_file
from runtime.settings_file import read_section
from shards import Dataset, open_dataset
from tests.shards.datasets import noise, write_dataset
from tests.train.runs import (
    finish,
    flags,
    logged,
    run_killed_at,
    start,
    weights_of,
    write_tokenizer,
)
from tests.train.steady import keep_batch_norm_steady
from train import trainer
from train.__main__ import main, parse
from train.settings import TrainSettings
from train.step import OptimizerStep
from train.tasks import inputs, lip2speech


def _run(dataset: str, out: Path, *more: str, **settings: Any) -> int:
    return main([*flags(dataset, out, **{"steps": 6, "every": 3, "workers": 0, **settings}), *more])


def test_run_writes_checkpoints_log_and_settings(shards: str, tmp_path: Path) -> None:
    assert _run(shards, tmp_path / "run", steps=12) == 0
    steps = logged(tmp_path / "run")
    assert sorted(steps) == list(range(1, 13))
    assert {"l1", "ctc", "gradient_norm", "learning_rate"} <= set(steps[1])
    assert sorted(logged(tmp_path / "run", "validation")) == [10, 12]  # every 10, and at the end
    described = json.loads((tmp_path / "run/settings.json").read_text())
    assert described["settings"]["micro_batches_per_step"] == 2
    assert described["versions"]["torch"] == torch.__version__
    kept = [path.name for path in sorted((tmp_path / "run/checkpoints").iterdir())]
    assert kept == ["step-00000006.pt", "step-00000009.pt", "step-00000012.pt"]
    best = load_checkpoint(tmp_path / "run/best.pt")
    assert best.metrics["validation_l1"] == min(line["l1"] for line in logged(tmp_path / "run", "validation").values())
    assert best.tokenizer is not None
    assert list((tmp_path / "run/tensorboard").iterdir())


def test_schedule_by_minutes_ends_by_the_clock_and_is_lengthened_on_resume(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes on by a second whenever the loop looks at it, once before the first step."""
    run = tmp_path / "run"
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=itertools.count(100).__next__))
    timed = {"steps": 1000, "every": 3, "schedule.rate": "cosine"}
    assert _run(shards, run, **timed, **{"schedule.minutes": 4 / 60}) == 0
    steps = logged(run)
    assert [line["seconds"] for line in steps.values()] == [1, 2, 3, 4]
    assert steps[4]["learning_rate"] == pytest.approx(0.01 * steps[1]["learning_rate"], rel=0.5), "down to `last`"
    assert list(logged(run, "validation")) == [4], "at the end"
    assert (run / "checkpoints/step-00000004.pt").exists()
    assert _run(shards, run, "--resume=auto", **timed, **{"schedule.minutes": 6 / 60}) == 0
    assert [line["seconds"] for line in logged(run).values()] == [1, 2, 3, 4, 5, 6]


def test_run_computes_with_as_many_threads_as_its_settings_say(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, found, take = torch.get_num_threads(), set(), OptimizerStep.take

    def counted(*given: Any, **more: Any) -> Any:
        found.add(torch.get_num_threads())
        return take(*given, **more)

    monkeypatch.setattr(OptimizerStep, "take", counted)
    try:
        assert _run(shards, tmp_path / "run", threads=before + 2) == 0
        assert _run(shards, tmp_path / "run", "--resume=auto", threads=before + 1, steps=9) == 0, "it may change"
    finally:
        torch.set_num_threads(before)
    assert found == {before + 1, before + 2}
    with pytest.raises(ValueError, match="threads: 1025, and 1 to 1,024 were expected"):
        dataclasses.replace(TrainSettings(), threads=1025)


def test_training_lowers_the_loss(shards: str, tmp_path: Path) -> None:
    assert _run(shards, tmp_path / "run", steps=60, every=60) == 0
    steps = logged(tmp_path / "run")
    assert sum(steps[n]["l1"] for n in range(51, 61)) < 0.8 * sum(steps[n]["l1"] for n in range(1, 11))


def test_epoch_trains_on_every_clip_once(shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    clips: list[int] = []
    take = OptimizerStep.take

    def noted(step: OptimizerStep, state: Any, batches: Any, *arguments: Any) -> Any:
        keys = [key for batch in batches if batch is not None for key in batch.keys]
        seen.extend(keys)
        clips.append(len(keys))
        return take(step, state, batches, *arguments)

    monkeypatch.setattr(OptimizerStep, "take", noted)
    assert _run(shards, tmp_path / "run", steps=20, every=20, **{"validation.split": "null"}) == 0
    steps = min(logged(tmp_path / "run", "epoch"))
    first_epoch = seen[: sum(clips[:steps])]
    assert len(first_epoch) == len(set(first_epoch)) == 20


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_resume_with_another_world_size_trains_on_the_rest_of_the_epoch(
    shards: str, tmp_path: Path, before: int, after: int
) -> None:
    """The plan is the same; batch norm's statistics, and so the weights, are not."""
    straight = flags(shards, tmp_path / "straight", steps=12, every=4)
    finish(start(straight, before))
    changed = flags(shards, tmp_path / "changed", steps=12, every=4)
    run_killed_at("6", tmp_path / "marker", changed, before)
    finish(start([*changed, "--resume=auto"], after))
    ours, theirs = logged(tmp_path / "changed"), logged(tmp_path / "straight")
    assert sorted(ours) == sorted(theirs) == list(range(1, 13))
    for step in range(1, 5):
        assert ours[step] == theirs[step]
    for step in range(5, 13):  # the same clips, windows and masks: nearly the same losses
        assert ours[step]["l1"] == pytest.approx(theirs[step]["l1"], rel=0.05)
        assert ours[step]["ctc_skipped"] == theirs[step]["ctc_skipped"]


@pytest.mark.slow
def test_gradient_of_a_global_batch_is_the_same_on_one_rank_and_on_two(shards: str, tmp_path: Path) -> None:
    """With batch norm in evaluation mode. After one step of AdamW its first moments are the gradient, scaled."""
    moments = []
    for ranks in (1, 2):
        out = tmp_path / f"ranks{ranks}"
        arguments = flags(shards, out, steps=1, every=1, micro_batches_per_step=4)
        finish(start([*arguments, "--validation.split=null"], ranks, keep_batch_norm_steady))
        content = torch.load(out / "checkpoints/step-00000001.pt")
        moments.append(content["training"]["optimizer"]["state"])
    whole = torch.cat([state["exp_avg"].flatten() for state in moments[0].values()])
    other = torch.cat([moments[1][number]["exp_avg"].flatten() for number in moments[0]])
    assert (whole - other).norm() < 1e-5 * whole.norm()


def _one_clip_batches(tmp_path: Path) -> Dataset:
    samples = [noise(f"main/s/{clip:02}", "train", 12) for clip in range(6)]
    dataset = write_dataset(str(tmp_path / "dataset"), {"train-000000.tar": samples})
    write_tokenizer(tmp_path / "dataset", dataset)
    return dataset


ONE_BY_ONE = {"validation.split": "null", "micro_batches_per_step": 1, "batch.max_clips": 1, "steps": 6}


def test_sample_with_nan_is_named_and_stops_the_run_or_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = _one_clip_batches(tmp_path)
    row = next(row for row in dataset.index.to_pylist() if row["key"] == "main/s/02")
    with Path(dataset.store.path(row["shard"])).open("r+b") as file:
        file.seek(row["mel_offset"] + row["mel_size"] - 4)
        file.write(struct.pack("<f", float("nan")))
    assert _run(dataset.store.url, tmp_path / "stopped", **ONE_BY_ONE) == 2
    assert "main/s/02.mel.npy: holds values that are not finite" in capsys.readouterr().err
    assert _run(dataset.store.url, tmp_path / "skipped", on_error="skip", **ONE_BY_ONE) == 0
    assert "skipped main/s/02" in capsys.readouterr().err
    assert logged(tmp_path / "skipped", "epoch")[6]["skipped"] == 1


def test_nonfinite_steps_are_skipped_and_counted_and_stop_the_run_in_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, poisoned = _one_clip_batches(tmp_path), ["main/s/02"]

    nan = float("nan")

    prepare = inputs.prepare

    def poison(batch: Any, *arguments: Any) -> Any:
        found = prepare(batch, *arguments)
        spoilt = dataclasses.replace(found, target=found.target * nan, reference=found.reference * nan)
        return spoilt if batch.keys == poisoned else found

    monkeypatch.setattr(lip2speech, "prepare", poison)
    assert _run(dataset.store.url, tmp_path / "run", **ONE_BY_ONE) == 0
    bad = [json.loads(line) for line in (tmp_path / "run/bad-batches.jsonl").read_text().splitlines()]
    assert [line["keys"] for line in bad] == [poisoned]
    assert logged(tmp_path / "run", "epoch")[6]["nonfinite_steps"] == 1
    assert all(x.isfinite().all() for x in weights_of(tmp_path / "run", 6).values())
    poisoned[:] = []
    monkeypatch.setattr(inputs, "target_mels", lambda batch, frames: batch.mel * float("nan"))
    assert _run(dataset.store.url, tmp_path / "stopped", max_nonfinite_steps=3, **ONE_BY_ONE) == 1
    assert "3 steps in a row without a finite loss and gradient" in capsys.readouterr().err


def test_splits_default_to_those_for_training(shards: str, tmp_path: Path) -> None:
    assert _run(shards, tmp_path / "run", splits="[]", steps=1) == 0
    described = json.loads((tmp_path / "run/settings.json").read_text())
    splits = open_dataset(shards).manifest.splits
    assert described["settings"]["splits"] == [split for split in ("train", "pretrain") if split in splits]
    assert described["settings"]["splits"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"splits": "[nosuch]"}, "split 'nosuch'"),
        ({"tokenizer": "nosuch.model"}, "nosuch.model"),
        ({"transforms.crop_radius": 11}, "transforms.crop_radius"),
        ({"batch.max_padded_frames": 30}, "do not fit into a micro-batch of 30"),
        ({"init": "nosuch.pt"}, "nosuch.pt"),
        ({"validation.split": "nosuch"}, "split 'nosuch'"),
        ({"shards": "nosuch"}, "nosuch"),
    ],
)
def test_input_that_cannot_be_trained_on_is_named(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], message: str
) -> None:
    assert _run(shards, tmp_path / "run", **settings) == 2
    assert message in capsys.readouterr().err


def test_settings_of_unknown_name_or_type_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content, message in (
        ("train: {colour: 3}", "colour"),
        ("train: {micro_batches_per_step: many}", "micro_batches_per_step"),
        ("train: {network: {visual: {channels: x}}}", "channels"),
    ):
        (tmp_path / "settings.yaml").write_text(content)
        with pytest.raises(SystemExit):
            parse(["--config", str(tmp_path / "settings.yaml")])
        assert message in capsys.readouterr().err
    (tmp_path / "settings.yaml").write_text("dataset: demo")
    assert main(["--config", str(tmp_path / "settings.yaml")]) == 2
    assert "has no section `train`" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["demo", "lrs2", "lrs3"])
def test_configs_are_read_by_training_and_by_the_pipeline(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = config_file(name)
    settings = parse(["--config", str(file), "--schedule.steps", "7"])[0]
    assert settings.schedule.steps == 7
    assert settings.network == LipToSpeechSettings() or name == "demo"
    section = read_section(file, "data")
    del section["out"]
    built = BuildSettings(**section)
    assert built.dataset == name


def test_run_is_neither_overwritten_nor_mixed_with_another(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _run(shards, out) == 0
    assert _run(shards, out) == 2
    assert "--resume auto" in capsys.readouterr().err
    assert _run(shards, out, "--resume=auto", "--micro_batches_per_step=3", steps=8) == 2
    assert "micro_batches_per_step was 2 and is 3" in capsys.readouterr().err
    assert _run(shards, out, "--resume=auto", steps=8) == 0
    assert sorted(logged(out)) == list(range(1, 9))


def test_resume_takes_the_checkpoint_before_a_damaged_one(shards: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert _run(shards, out) == 0
    straight = weights_of(out, 6)
    newest = out / "checkpoints/step-00000006.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert _run(shards, out, "--resume=auto") == 0
    again = weights_of(out, 6)
    assert all(torch.equal(again[name], x) for name, x in straight.items())


def test_full_disk_leaves_the_last_good_checkpoint(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    out = tmp_path / "run"
    assert _run(shards, out, steps=3) == 0

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert _run(shards, out, "--resume=auto", steps=6) == 2
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000003.pt"]


def test_init_starts_a_run_from_weights_of_another(shards: str, tmp_path: Path) -> None:
    assert _run(shards, tmp_path / "first", steps=3) == 0
    first = tmp_path / "first/checkpoints/step-00000003.pt"
    assert _run(shards, tmp_path / "second", steps=1, every=1, init=first, **{"optimizer.learning_rate": 0}) == 0
    ours, theirs = weights_of(tmp_path / "second", 1), weights_of(tmp_path / "first", 3)
    assert all(torch.equal(ours[name], x) for name, x in theirs.items() if "running" not in name and "num_" not in name)
    assert isinstance(LipToSpeech(load_checkpoint(first).settings), LipToSpeech)  # type: ignore[arg-type]
