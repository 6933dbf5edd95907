"""Controls: each does what its name says, so that a table shows what a score is worth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from eval.__main__ import main
from eval.bootstrap import bootstrap
from eval.controls import command, scores
from eval.controls.lips import lips_of, partners_of, with_partners
from eval.controls.scores import CONTROLS, ControlScores, TableSettings, mean_mel, score_fixed, score_network, set_scene
from eval.controls.table import table
from model.checkpoint import Checkpoint, save_checkpoint
from model.transforms import TransformSettings
from shards import Dataset, StorageError
from shards.loading.batch_plan import BatchSettings, plan_evaluation
from shards.loading.loader import LoaderSettings, load
from tests.eval.small import spoken_clip
from tests.model.networks import small_asr, small_lip_to_speech
from tests.shards.datasets import HALF, write_dataset

pytest.importorskip("pystoi")
pytest.importorskip("pesq")

HERE = LoaderSettings(workers=0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    named = {
        "train-000000.tar": [spoken_clip(f"main/a/{clip}", "train", 20 + clip) for clip in range(3)],
        "val-000000.tar": [
            *(spoken_clip(f"main/a/{clip}", "val", 50 + clip) for clip in range(10, 13)),
            *(spoken_clip(f"main/b/{clip}", "val", 49 + clip) for clip in range(2)),
            spoken_clip("main/alone/0", "val", 51),
        ],
    }
    return write_dataset(str(tmp_path_factory.mktemp("dataset")), named)


@pytest.fixture
def settings(dataset: Dataset) -> TableSettings:
    return TableSettings(dataset, "val", ["train"], None, "other", "default", 200, 0, 0, torch.device("cpu"))


def _checkpoint() -> Checkpoint:
    torch.manual_seed(1)
    network = small_lip_to_speech()
    return Checkpoint(network.settings, network.state_dict(), transforms=TransformSettings(crop_radius=HALF, size=32))


def _figures(settings: TableSettings) -> ControlScores:
    scene = set_scene(settings)
    return score_network(_checkpoint(), scene, "x.pt") | score_fixed(scene)


def test_true_mels_are_the_best_there_is_and_all_clips_are_scored_in_every_way(settings: TableSettings) -> None:
    figures = _figures(settings)
    assert tuple(figures) == CONTROLS
    for control in CONTROLS:
        assert len(figures[control]["l1"]) == 6
    assert max(figures["true mel"]["l1"].values()) == 0
    for control in set(CONTROLS) - {"true mel"}:
        assert min(figures[control]["l1"].values()) > 0.1
        assert np.mean(list(figures[control]["estoi"].values())) < 0.3
    assert np.mean(list(figures["true mel"]["estoi"].values())) > 0.6


@pytest.mark.slow
def test_the_same_clips_have_the_same_scores_again(settings: TableSettings) -> None:
    """Whatever the batches: a clip's score depends on itself alone, within float32's rounding."""
    once, again = _figures(settings), _figures(replace(settings, max_padded_frames=70))
    for control in CONTROLS:
        for key, value in once[control]["l1"].items():
            assert again[control]["l1"][key] == pytest.approx(value, abs=1e-4)


def _index(clips: list[tuple[str, int]]) -> pa.Table:
    rows = [{"key": f"main/{speaker}/{n}", "speaker": speaker, "frames": f} for n, (speaker, f) in enumerate(clips)]
    return pa.Table.from_pylist(rows)


def test_other_lips_are_another_clips_of_the_same_speaker_and_of_about_the_same_length() -> None:
    clips = [("a", 50), ("b", 90), ("a", 200), ("b", 91), ("a", 52), ("b", 30), ("a", 199), ("b", 33), ("b", 32)]
    partner = partners_of(_index(clips), range(9))
    assert sorted(partner) == sorted(partner.values()) == list(range(9)), "each clip lends its lips once"
    for row, other in partner.items():
        assert row != other
        assert clips[row][0] == clips[other][0]
        assert abs(clips[row][1] - clips[other][1]) <= 3 or clips[row][0] == "b"


def test_clips_that_are_alone_with_their_speaker_are_paired_among_themselves() -> None:
    clips = [("a", 50), ("a", 60), ("x", 100), ("y", 20), ("z", 98), ("u", 22)]
    assert partners_of(_index(clips), range(6)) == {0: 1, 1: 0, 2: 4, 4: 2, 3: 5, 5: 3}
    assert partners_of(_index([*clips[:2], ("x", 58)]), range(3)) == {0: 1, 1: 0, 2: 1}
    with pytest.raises(ValueError, match="a single clip"):
        partners_of(_index(clips[:1]), [0])


def test_lips_of_a_shorter_clip_hold_their_last_picture_and_those_of_a_longer_one_are_cut(dataset: Dataset) -> None:
    planned = plan_evaluation(dataset.index, ["val"], settings=BatchSettings(max_padded_frames=400))
    swapped = with_partners(dataset.index, planned)
    for batch, other in zip(load(dataset, planned, HERE), load(dataset, swapped, HERE), strict=True):
        assert batch is not None
        assert other is not None
        lips = lips_of(other, batch)
        assert lips.shape == batch.roi.shape
        for number, length in enumerate(batch.lengths.tolist()):
            theirs = int(other.lengths[number])
            assert batch.keys[number] != other.keys[number]
            assert torch.equal(lips[number, : min(length, theirs)], other.roi[number, : min(length, theirs)])
            assert (lips[number, theirs:length] == other.roi[number, theirs - 1]).all()
            assert not lips[number, length:].any()


def test_rows_are_over_the_clips_that_all_of_them_have_and_differences_are_clip_byspoken_clip() -> None:
    def figures(value: float, without: str = "") -> dict[str, dict[str, float]]:
        scores = {f"clip{n}": value + n for n in range(4) if f"clip{n}" != without}
        return {score: dict(scores) for score in ("l1", "stoi", "estoi", "pesq")}

    run = {"network": figures(1.0), "other lips": figures(3.0, "clip3"), "untrained": figures(5.0)}
    lines = list(table({"x.pt": run}, {"mean mel": figures(2.0), "true mel": figures(0.0)}))
    assert lines[2].startswith("| network | 2.000 [")  # 1, 2 and 3: clip3 is nowhere
    assert "| network - other lips | -2.000 [-2.000, -2.000]" in lines[7]
    assert lines[-1].endswith("left out, since a row has no figure: l1 1, stoi 1, estoi 1, pesq 1.")


def test_the_mean_mel_is_that_of_all_frames_that_were_trained_on(settings: TableSettings) -> None:
    mels = [spoken_clip(f"main/a/{clip}", "train", 20 + clip).mel for clip in range(3)]
    expected = np.concatenate(mels, axis=1).astype(np.float64).mean(axis=1)
    assert np.allclose(mean_mel(settings).numpy(), expected, atol=1e-6)


def test_intervals_hold_the_mean_of_most_samples() -> None:
    random = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        found = bootstrap(random.normal(5, 1, 40).tolist(), resamples=500)
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
    ours, theirs = (figures["checkpoints"][str(path)] for path in (first, second))
    assert ours["network"] == theirs["network"]
    assert ours["untrained"] != theirs["untrained"], "other new weights for each"
    mean = np.mean(list(ours["network"]["l1"].values()))
    assert f"| network | {mean:.3f} [" in printed


def test_a_voice_of_its_own_needs_no_other_clip_to_be_read(
    settings: TableSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(set_scene(settings).voices) == 5  # one is alone with its speaker
    monkeypatch.delattr(scores, "voices_of")
    assert set_scene(replace(settings, speaker_reference="self")).voices == {}


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Figures from nowhere, of two clips; what was asked for them."""
    asked: list[str] = []

    def figures(controls: tuple[str, ...]) -> ControlScores:
        asked.extend(controls)
        return {control: {score: {"x": 1.0, "y": 2.0} for score in scores.SCORES} for control in controls}

    monkeypatch.setattr(command, "score_network", lambda *_: figures(scores.OF_NETWORKS))
    monkeypatch.setattr(command, "score_fixed", lambda *_: figures(scores.FIXED))
    return asked


@pytest.fixture
def where(dataset: Dataset, tmp_path: Path) -> list[str]:
    save_checkpoint(tmp_path / "x.pt", _checkpoint())
    where = ["table", "--shards", dataset.store.url, "--split", "val", "--workers", "0", "--processes", "0"]
    return [*where, "--checkpoints", str(tmp_path / "x.pt")]


def test_figures_are_written_into_a_folder_that_is_made_and_the_table_is_the_usual_one(
    where: list[str], scored: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*where, "--out", str(tmp_path / "a" / "b" / "figures.json")]) == 0
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["figures.json"]
    assert json.loads((tmp_path / "a" / "b" / "figures.json").read_text())["fixed"]["true mel"]["l1"] == {
        "x": 1,
        "y": 2,
    }
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["| | Mel L1 | STOI | ESTOI | PESQ |", "|---|---:|---:|---:|---:|"]
    interval = "1.500 [1.000, 2.000]"
    assert lines[3] == f"| network | {interval} | {interval} | {interval} | 1.50 [1.00, 2.00] |"


def test_a_place_that_cannot_be_written_is_said_before_anything_is_scored(
    where: list[str], scored: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([*where, "--out", str(tmp_path / "file" / "figures.json")]) == 2
    assert "cannot be written to" in capsys.readouterr().err
    assert main([*where, "--out", str(tmp_path)]) == 2
    assert f"--out {tmp_path}: is a folder" in capsys.readouterr().err
    assert not scored


def test_a_disk_that_fails_in_the_end_does_not_cost_the_table(
    where: list[str],
    scored: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise StorageError(28, "writing failed: no space left", "figures.json")

    monkeypatch.setattr(command, "write_json", full)
    assert main([*where, "--out", str(tmp_path / "figures.json")]) == 2
    printed = capsys.readouterr()
    assert "| true mel | 1.500 [" in printed.out
    assert "no space left" in printed.err


@pytest.mark.parametrize(
    ("clips", "said"),
    [("0", "0 is too small, at least 1 was expected"), ("many", "'many': a whole number was expected")],
)
def test_a_number_of_clips_that_is_none_is_said(
    where: list[str], clips: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*where, "--clips", clips])
    assert f"argument --clips: {said}" in capsys.readouterr().err


def test_what_cannot_be_scored_is_named(dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recogniser = small_asr()
    path = tmp_path / "asr.pt"
    save_checkpoint(path, Checkpoint(recogniser.settings, recogniser.state_dict()))
    where = ["table", "--shards", dataset.store.url, "--workers", "0", "--processes", "0"]
    assert main([*where, "--split", "val", "--checkpoints", str(path)]) == 2
    assert "task asr, and lip2speech was expected" in capsys.readouterr().err
    save_checkpoint(path, _checkpoint())
    assert main([*where, "--split", "nosuch", "--checkpoints", str(path)]) == 2
    assert "split 'nosuch'" in capsys.readouterr().err
