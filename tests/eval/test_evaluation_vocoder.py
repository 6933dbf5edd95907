"""Evaluations with a neural vocoder: what it speaks, what stays Griffin-Lim's, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eval.evaluation import evaluate
from eval.results import Evaluation
from eval.systems import vocoder_of
from model.checkpoint import Checkpoint, save_checkpoint
from model.mel import MelSettings
from model.vocoders.mel_to_wav import GriffinLimSettings
from model.vocoders.neural_vocoder import Vocoder
from shards import Dataset
from shards.format.wav import decode_wav
from tests.eval.small import small_checkpoint, small_evaluation, spoken_clip
from tests.model.networks import small_vocoder
from tests.shards.datasets import write_dataset

pytest.importorskip("pystoi")

SYSTEMS = ["network", "ceiling", "ceiling_griffin_lim"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "errors.jsonl").touch()
    return write_dataset(str(folder), {"test-000000.tar": [spoken_clip(f"main/a/{n}", "test", 20 + n) for n in (1, 2)]})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("run") / "best.pt")


def _written(path: Path, mel: MelSettings = MelSettings()) -> Path:
    torch.manual_seed(0)
    vocoder = small_vocoder(mel)
    save_checkpoint(path, Checkpoint(vocoder.settings, vocoder.state_dict(), mel=mel))
    return path


def _evaluated(dataset: Dataset, checkpoint: Path, out: Path, **more: Any) -> Evaluation:
    systems = ["network", "ceiling"]
    evaluate(small_evaluation(dataset, checkpoint, out, **{"metrics": ["estoi"], "systems": systems, **more}))
    return Evaluation.open(out)


def test_evaluation_with_a_vocoder_shows_the_ceiling_with_both_and_says_which_spoke(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    vocoder = _written(tmp_path / "voice/best.pt")
    neural = _evaluated(dataset, checkpoint, tmp_path / "neural", vocoder=str(vocoder))
    default = _evaluated(dataset, checkpoint, tmp_path / "default")
    assert neural.systems == SYSTEMS
    assert default.systems == ["network", "ceiling"]

    def wave(evaluation: Evaluation, system: str) -> np.ndarray[Any, Any]:
        return decode_wav((evaluation.folder / f"wav/{system}/main/a/1.wav").read_bytes(), system)

    assert np.array_equal(wave(neural, "ceiling_griffin_lim"), wave(default, "ceiling"))
    for system in ("network", "ceiling"):
        assert wave(neural, system).shape == wave(default, system).shape
        assert not np.array_equal(wave(neural, system), wave(default, system))
    assert not len(neural.figures("ceiling_griffin_lim", "l1")[1])
    identity = json.loads((neural.folder / "evaluation.json").read_text())["identity"]
    assert len(identity["vocoder"]) == 64, "its bytes count, wherever it lies"
    page = (neural.folder / "report.html").read_text()
    assert "Vocoder: neural, voice/best.pt" in page
    assert "Ceiling, Griffin-Lim" in page
    assert "Vocoder: Griffin-Lim." in (default.folder / "report.html").read_text()
    _written(vocoder, MelSettings())
    assert _evaluated(dataset, checkpoint, tmp_path / "neural", vocoder=str(vocoder)).systems == SYSTEMS


def test_evaluation_with_a_vocoder_of_another_mel_is_refused_before_it_begins(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    vocoder = _written(tmp_path / "v.pt", MelSettings(preemphasis=0.9))
    with pytest.raises(ValueError, match=r"v\.pt: a vocoder of another mel: preemphasis 0\.9 \(expected 0\.97\)"):
        _evaluated(dataset, checkpoint, tmp_path / "x", vocoder=str(vocoder))
    with pytest.raises(ValueError, match=r"a network of the task lip2speech, and vocoder was expected"):
        _evaluated(dataset, checkpoint, tmp_path / "x", vocoder=str(checkpoint))
    with pytest.raises(ValueError, match=r"vocoder: nothing\.pt: there is no such file; expected default, griffin"):
        _evaluated(dataset, checkpoint, tmp_path / "x", vocoder="nothing.pt")
    assert not (tmp_path / "x").exists()


def test_systems_refuse_the_ceiling_of_griffin_lim_without_another_vocoder(
    dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="ceiling_griffin_lim is the ceiling itself"):
        small_evaluation(dataset, checkpoint, tmp_path, systems=SYSTEMS, vocoder="griffin_lim")
    with pytest.raises(ValueError, match="ceiling_griffin_lim is the ceiling itself"):
        evaluate(small_evaluation(dataset, checkpoint, tmp_path, systems=SYSTEMS))
    with pytest.raises(ValueError, match=r"vocoder: own, and .*best\.pt holds none"):
        evaluate(small_evaluation(dataset, checkpoint, tmp_path, vocoder="own"))
    with pytest.raises(ValueError, match="the published protocol has published"):
        small_evaluation(dataset, checkpoint, tmp_path, vocoder="v.pt", protocol="published")


def test_vocoder_of_a_name_is_griffin_lim_of_the_mel_and_of_a_file_the_network(tmp_path: Path) -> None:
    mel = MelSettings(fmax=7000.0)
    griffin_lim = vocoder_of("published", mel)
    assert isinstance(griffin_lim, GriffinLimSettings)
    assert (griffin_lim.mel, griffin_lim.inversion) == (mel, "published")
    assert isinstance(vocoder_of(str(_written(tmp_path / "v.pt", mel)), mel), Vocoder)
    assert vocoder_of("default", mel) is None, "the network's file says"
