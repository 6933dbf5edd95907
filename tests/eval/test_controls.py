"""Controls: each does what its name says, so that a table shows what a score is worth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.__main__ import main
from eval.controls import CONTROLS, Work, mean_mel, other_lips, score_controls
from eval.intervals import bootstrap
from model.checkpoint import Checkpoint, save_checkpoint
from model.transforms import TransformSettings
from shards import Dataset, Sample
from shards.reading.plan import plan_evaluation
from tests.eval.sounds import sentence
from tests.model.networks import small_lip_to_speech, small_recogniser
from tests.shards.datasets import HALF, noise, write_dataset

pytest.importorskip("pystoi")
pytest.importorskip("pesq")


def _clip(key: str, split: str, frames: int) -> Sample:
    """Noise for lips, and a stretch of a spoken sentence, so that there is something to understand."""
    spoken = np.resize(np.roll(sentence(), 97 * len(key)), 640 * frames)
    return replace(noise(key, split, frames), wav=(20_000 * spoken).astype(np.int16))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    named = {
        "train-000000.tar": [_clip(f"main/a/{clip}", "train", 20 + clip) for clip in range(3)],
        "val-000000.tar": [
            *(_clip(f"main/a/{clip}", "val", 50 + clip) for clip in range(10, 13)),
            *(_clip(f"main/b/{clip}", "val", 49 + clip) for clip in range(2)),
            _clip("main/alone/0", "val", 51),
        ],
    }
    return write_dataset(str(tmp_path_factory.mktemp("dataset")), named)


@pytest.fixture
def work(dataset: Dataset) -> Work:
    return Work(dataset, "val", ["train"], None, 200, 0, 0, torch.device("cpu"))


def _checkpoint() -> Checkpoint:
    torch.manual_seed(1)
    network = small_lip_to_speech()
    return Checkpoint(network.settings, network.state_dict(), transforms=TransformSettings(half=HALF, size=32))


def test_true_mels_are_the_best_there_is_and_all_clips_are_scored_in_every_way(work: Work) -> None:
    figures = score_controls(_checkpoint(), work, "x.pt")
    assert tuple(figures) == CONTROLS
    for control in CONTROLS:
        assert len(figures[control]["l1"]) == 6
    assert max(figures["true mel"]["l1"].values()) == 0
    for control in set(CONTROLS) - {"true mel"}:
        assert min(figures[control]["l1"].values()) > 0.1
        assert np.mean(list(figures[control]["estoi"].values())) < 0.3
    assert np.mean(list(figures["true mel"]["estoi"].values())) > 0.6


@pytest.mark.slow
def test_the_same_clips_have_the_same_scores_again(work: Work) -> None:
    """Whatever the batches: a clip's score depends on itself alone, within float32's rounding."""
    once = score_controls(_checkpoint(), work, "x.pt")
    again = score_controls(_checkpoint(), replace(work, max_frames=70), "x.pt")
    for control in CONTROLS:
        for key, value in once[control]["l1"].items():
            assert again[control]["l1"][key] == pytest.approx(value, abs=1e-4)


def test_other_lips_are_another_clips_of_the_same_speaker_where_there_is_one(work: Work) -> None:
    planned = plan_evaluation(work.dataset.index, ["val"])
    keys = work.dataset.index["key"].to_pylist()
    pairs = {}
    for ours, theirs in zip(planned, other_lips(work, planned), strict=True):
        for mine, other in zip(ours.visits, theirs.visits, strict=True):
            pairs[keys[mine.row]] = keys[other.row]
    assert all(key != other for key, other in pairs.items())
    assert {key.split("/")[1] == other.split("/")[1] for key, other in pairs.items() if "alone" not in key} == {True}
    assert len(pairs) == 6


def test_the_mean_mel_is_that_of_all_frames_that_were_trained_on(work: Work) -> None:
    mels = [_clip(f"main/a/{clip}", "train", 20 + clip).mel for clip in range(3)]
    expected = np.concatenate(mels, axis=1).astype(np.float64).mean(axis=1)
    assert np.allclose(mean_mel(work).numpy(), expected, atol=1e-6)


def test_intervals_hold_the_mean_of_most_samples() -> None:
    random = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        found = bootstrap(random.normal(5, 1, 40).tolist(), draws=500)
        held += found.low <= 5 <= found.high
    assert 0.88 <= held / 200 <= 0.99  # 0.95 nominal; the percentile interval of 40 values holds a little less


def test_intervals_leave_out_what_was_not_measured() -> None:
    assert bootstrap([1.0, float("nan"), 3.0]).mean == 2.0
    assert np.isnan(bootstrap([float("nan")]).mean)


def test_the_command_prints_a_table_and_writes_every_figure(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    save_checkpoint(first, _checkpoint())
    save_checkpoint(second, _checkpoint())
    where = ["--shards", dataset.store.url, "--split", "val", "--clips", "2", "--workers", "0", "--processes", "0"]
    out = tmp_path / "figures.json"
    assert main(["table", *where, "--checkpoints", str(first), str(second), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for control in CONTROLS:
        assert f"| {control} | " in printed
    assert f"| network, {first} | " in printed
    figures = json.loads(out.read_text())
    assert figures[str(first)] == figures[str(second)]
    mean = np.mean(list(figures[str(first)]["network"]["l1"].values()))
    assert f"| network | {mean:.3f} [" in printed


def test_what_cannot_be_scored_is_named(dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recogniser = small_recogniser()
    path = tmp_path / "asr.pt"
    save_checkpoint(path, Checkpoint(recogniser.settings, recogniser.state_dict()))
    where = ["table", "--shards", dataset.store.url, "--workers", "0", "--processes", "0"]
    assert main([*where, "--split", "val", "--checkpoints", str(path)]) == 2
    assert "recipe asr, and lip2speech was expected" in capsys.readouterr().err
    save_checkpoint(path, _checkpoint())
    assert main([*where, "--split", "nosuch", "--checkpoints", str(path)]) == 2
    assert "split 'nosuch'" in capsys.readouterr().err
