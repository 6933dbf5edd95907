"""Systems: each does what its name says, so that an evaluation shows what a score is worth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.evaluation import evaluate
from eval.result_schema import SYSTEMS
from eval.results import Evaluation
from eval.systems import CEILINGS, MEL_SYSTEMS, device_of, mean_mel_of
from shards import Dataset
from tests.eval.small import small_checkpoint, small_evaluation, spoken_clip
from tests.shards.datasets import write_dataset

pytest.importorskip("pystoi")

COMPARED = [system for system in SYSTEMS if system != "ceiling_griffin_lim"]
"""Systems of an evaluation without a neural vocoder."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "errors.jsonl").touch()
    named = {
        "train-000000.tar": [spoken_clip(f"main/a/{clip}", "train", 20 + clip) for clip in range(3)],
        "test-000000.tar": [
            *(spoken_clip(f"main/a/{clip}", "test", 50 + clip) for clip in range(10, 13)),
            *(spoken_clip(f"main/b/{clip}", "test", 49 + clip) for clip in range(2)),
            spoken_clip("main/alone/0", "test", 51),
        ],
    }
    return write_dataset(str(folder), named)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("run") / "best.pt")


@pytest.fixture(scope="module")
def evaluation(dataset: Dataset, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    out = tmp_path_factory.mktemp("all") / "x"
    evaluate(
        small_evaluation(dataset, checkpoint, out, systems=list(reversed(COMPARED)), asr="tests.eval.plugs:listener")
    )
    return Evaluation.open(out)


def test_systems_have_a_row_a_clip_each_in_the_order_of_their_names(evaluation: Evaluation) -> None:
    assert [*MEL_SYSTEMS, "original"] == list(SYSTEMS)
    assert evaluation.systems == COMPARED
    keys = sorted(set(evaluation.clips["key"].to_pylist()))
    assert len(keys) == 6
    found = [(row["key"], row["system"]) for row in evaluation.clips.to_pylist()]
    assert found == [(key, system) for key in keys for system in COMPARED]
    for row in evaluation.clips.to_pylist():
        assert (evaluation.folder / row["wav"]).is_file()
        assert row["hypothesis"]


def test_ceiling_is_the_best_there_is_and_no_other_system_comes_near(evaluation: Evaluation) -> None:
    assert np.mean(evaluation.figures("ceiling", "estoi")[1]) > 0.6
    assert not len(evaluation.figures("ceiling", "l1")[1])
    for system in set(MEL_SYSTEMS) - set(CEILINGS):
        assert min(evaluation.figures(system, "l1")[1]) > 0.1
        assert np.mean(evaluation.figures(system, "estoi")[1]) < 0.3
    means = {system: evaluation.figures(system, "l1")[1].tolist() for system in set(MEL_SYSTEMS) - set(CEILINGS)}
    assert len({str(values) for values in means.values()}) == 4, "each is another one"


def test_systems_that_are_not_asked_for_have_no_rows_and_change_no_figure(
    dataset: Dataset, checkpoint: Path, evaluation: Evaluation, tmp_path: Path
) -> None:
    evaluate(small_evaluation(dataset, checkpoint, tmp_path / "x", systems=["network"]))
    alone = Evaluation.open(tmp_path / "x")
    assert alone.systems == ["network"]
    for metric in ("l1", "stoi"):
        assert alone.figures("network", metric)[1].tolist() == evaluation.figures("network", metric)[1].tolist()


@pytest.mark.slow
def test_systems_have_the_same_figures_in_any_batches(
    dataset: Dataset, checkpoint: Path, evaluation: Evaluation, tmp_path: Path
) -> None:
    """A clip's figure depends on itself alone, within float32's rounding."""
    settings = small_evaluation(dataset, checkpoint, tmp_path / "x", systems=COMPARED, metrics=[])
    evaluate(replace(settings, max_padded_frames=70))
    again = Evaluation.open(tmp_path / "x")
    for system in set(MEL_SYSTEMS) - set(CEILINGS):
        np.testing.assert_allclose(again.figures(system, "l1")[1], evaluation.figures(system, "l1")[1], atol=1e-4)


def test_mean_mel_is_that_of_all_frames_of_the_training_splits(dataset: Dataset) -> None:
    mels = [spoken_clip(f"main/a/{clip}", "train", 20 + clip).mel for clip in range(3)]
    expected = np.concatenate(mels, axis=1).astype(np.float64).mean(axis=1)
    assert np.allclose(mean_mel_of(dataset, dataset.training_splits(), 2000, 0).numpy(), expected, atol=1e-6)


def test_shuffled_lips_that_cannot_be_read_cost_that_figure_only(
    checkpoint: Path, dataset: Dataset, tmp_path: Path
) -> None:
    clips = [spoken_clip(f"main/a/{clip}", "test", 50 + clip) for clip in range(2)]
    (tmp_path / "errors.jsonl").touch()
    damaged = write_dataset(str(tmp_path), {"test-000000.tar": clips})
    row = damaged.index.to_pylist()[1]
    with (tmp_path / row["shard"]).open("r+b") as file:
        file.seek(row["roi_offset"])
        file.write(b"not an array")
    evaluate(small_evaluation(damaged, checkpoint, tmp_path / "x", systems=["network", "shuffled_lips"]))
    rows = {row["system"]: row for row in Evaluation.open(tmp_path / "x").clips.to_pylist()}
    assert rows["network"]["stoi"] is not None
    assert (rows["shuffled_lips"]["stoi"], rows["shuffled_lips"]["l1"], rows["shuffled_lips"]["wav"]) == (None,) * 3
    assert set(json.loads(rows["shuffled_lips"]["failed"])) == {"l1", "stoi", "estoi"}


@pytest.mark.parametrize("systems", [["untrained"], ["network", "true mel"], []])
def test_systems_are_named_where_they_cannot_be_evaluated(
    systems: list[str], dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="systems: "):
        small_evaluation(dataset, checkpoint, tmp_path / "x", systems=systems)


def test_shuffled_lips_of_a_single_clip_and_mean_mel_without_training_splits_are_refused_before_anything_is_written(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    settings = small_evaluation(dataset, checkpoint, tmp_path / "x", systems=["network", "shuffled_lips"], clips=1)
    with pytest.raises(ValueError, match="shuffled_lips"):
        evaluate(settings)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "errors.jsonl").touch()
    held_out = write_dataset(str(tmp_path / "data"), {"test-000000.tar": [spoken_clip("main/a/1", "test", 50)]})
    with pytest.raises(ValueError, match="no split to train on"):
        evaluate(small_evaluation(held_out, checkpoint, tmp_path / "x", systems=["network", "mean_mel"]))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("wanted", "gpus", "found"), [(None, 0, "cpu"), (None, 2, "cuda"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda")]
)
def test_device_is_a_gpu_where_there_is_one_unless_the_cpu_is_wanted(wanted: str | None, gpus: int, found: str) -> None:
    assert device_of(wanted, gpus) == torch.device(found)


def test_device_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(None) == torch.device("cpu")
    for gpus in (None, 0):
        with pytest.raises(ValueError, match="device: cuda"):
            device_of("cuda", gpus)
