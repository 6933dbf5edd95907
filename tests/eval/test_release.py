"""Networks packed into one file with a model card, and that file in the place of a checkpoint."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.__main__ import main
from eval.asr import load_asr
from eval.evaluation import evaluate
from eval.results import Evaluation
from model.__main__ import main as model_main
from model.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from model.mel import MelSettings
from model.synthesis import Synthesizer
from model.tokenizer import train_tokenizer
from model.vocoders.load_vocoder import load_vocoder
from model.vocoders.mel_to_wav import GriffinLimSettings
from model.vocoders.neural_vocoder import Vocoder
from shards import Dataset
from tests.eval.small import small_checkpoint, small_evaluation, spoken_clip
from tests.model.networks import small_asr, small_vocoder
from tests.shards.datasets import write_dataset

pytest.importorskip("pystoi")

CARD = ["--data", "drawn faces", "--license", "none"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "errors.jsonl").touch()
    return write_dataset(str(folder), {"test-000000.tar": [spoken_clip("main/a/1", "test", 30)]})


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with best.pt, asr.pt, whose ASR model has units, and vocoder.pt."""
    folder = tmp_path_factory.mktemp("runs")
    small_checkpoint(folder / "best.pt")
    tokenizer = train_tokenizer(["place blue at f two now", "set white by q nine please"], 25)
    torch.manual_seed(0)
    settings = dataclasses.replace(small_asr().settings, vocabulary=tokenizer.vocabulary_size, units=7)
    asr = type(small_asr())(settings)
    save_checkpoint(folder / "asr.pt", Checkpoint(settings, asr.state_dict(), tokenizer))
    vocoder = small_vocoder(MelSettings())
    save_checkpoint(folder / "vocoder.pt", Checkpoint(vocoder.settings, vocoder.state_dict()))
    return folder


def _release(parts: Path, out: Path, *more: str) -> int:
    named = [f"--{name}={parts / file}" for name, file in (("asr", "asr.pt"), ("vocoder", "vocoder.pt"))]
    return main(["release", "--checkpoint", str(parts / "best.pt"), *named, *CARD, "--out", str(out), *more])


@pytest.fixture(scope="module")
def released(parts: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    evaluate(small_evaluation(dataset, parts / "best.pt", folder / "report", metrics=["estoi"]))
    assert _release(parts, folder / "x.pt", "--reports", f"[{folder / 'report'}]") == 0
    return folder / "x.pt"


def test_release_holds_halves_of_all_networks_and_nothing_of_training(parts: Path, released: Path) -> None:
    whole, given = load_checkpoint(parts / "best.pt"), load_checkpoint(released)
    assert (sorted(given.parts), given.kind, given.training) == (["asr", "vocoder"], "lip2speech", None)
    assert not [name for name in given.parts["asr"].weights if name.startswith("unit_")]
    exact = 0
    for name, weight in given.weights.items():
        if weight.is_floating_point():
            kept = name.endswith(("running_mean", "running_var"))
            exact += kept
            assert weight.dtype == (torch.float32 if kept else torch.float16), name
            torch.testing.assert_close(weight.float(), whole.weights[name], rtol=1e-3, atol=1e-6)
    assert exact > 0


def test_release_has_a_card_with_scores_license_and_consent(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = released.with_name("x.pt.md").read_text()
    assert card == load_checkpoint(released).card
    for expected in ("Trained on: drawn faces.", "License of the data: none.", "Split `test`, 1 clips", "## Consent"):
        assert expected in card
    assert re.search(r"\| \| ESTOI \|\n\|---\|---:\|\n\| network \| -?\d\.\d{3} \|", card)
    assert "None were given" not in card


def test_release_stands_where_a_checkpoint_stands(released: Path, parts: Path) -> None:
    synthesizer = Synthesizer.from_checkpoint(released)
    assert isinstance(synthesizer.vocoder, Vocoder)
    assert isinstance(Synthesizer.from_checkpoint(parts / "best.pt").vocoder, GriffinLimSettings)
    assert isinstance(load_vocoder(released), Vocoder)
    assert load_asr(str(released), torch.device("cpu"))([]) == []


def test_evaluation_of_a_release_speaks_through_its_vocoder(
    released: Path, parts: Path, dataset: Dataset, tmp_path: Path
) -> None:
    def evaluated(out: str, **more: Any) -> Evaluation:
        chosen = {"metrics": ["estoi"], "systems": ["network", "ceiling"], **more}
        evaluate(small_evaluation(dataset, released, tmp_path / out, **chosen))
        return Evaluation.open(tmp_path / out)

    own = evaluated("own", asr=str(released))
    assert own.systems == ["network", "ceiling", "ceiling_griffin_lim"]
    assert "neural, of the checkpoint" in (own.folder / "report.html").read_text()
    assert {"wer", "cer"} <= set(own.measured)
    other = evaluated("other", vocoder="griffin_lim")
    assert other.systems == ["network", "ceiling"]
    assert other.about["identity"]["vocoder"] == "default", "as in evaluations before there was another"
    assert evaluated("asked", systems=["network", "ceiling_griffin_lim"]).systems == ["network", "ceiling_griffin_lim"]


def test_release_names_what_cannot_be_packed(
    parts: Path, dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocoder = small_vocoder(MelSettings(preemphasis=0.9))
    other = Checkpoint(vocoder.settings, vocoder.state_dict(), mel=MelSettings(preemphasis=0.9))
    save_checkpoint(tmp_path / "other.pt", other)
    whole = load_checkpoint(parts / "best.pt")
    for name, factor in (("large.pt", 1e6), ("changed.pt", 1.01)):
        weights = {key: factor * x if x.is_floating_point() else x for key, x in whole.weights.items()}
        save_checkpoint(tmp_path / name, dataclasses.replace(whole, weights=weights))
    evaluate(small_evaluation(dataset, tmp_path / "changed.pt", tmp_path / "report", metrics=["estoi"]))
    for arguments, message in (
        (["--vocoder", str(tmp_path / "other.pt")], "other.pt: its mel is"),
        (["--vocoder", str(parts / "asr.pt")], "asr.pt: a network of the task asr, and vocoder was expected"),
        (["--checkpoint", str(parts / "asr.pt")], "asr.pt: a network of the task asr, and lip2speech was expected"),
        (["--checkpoint", str(tmp_path / "large.pt")], "beyond what halves can hold"),
        (["--reports", f"[{tmp_path}]"], str(tmp_path)),
        (["--out", str(parts / "best.pt")], "best.pt is read, and would be overwritten"),
        (["--reports", f"[{tmp_path / 'report'}]"], "report: an evaluation of another checkpoint than"),
    ):
        given = ["--checkpoint", str(parts / "best.pt"), "--out", str(tmp_path / "x.pt"), *arguments]
        assert main(["release", *given, *CARD]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "x.pt").exists()


def test_release_takes_a_report_whose_identity_is_odd(parts: Path, dataset: Dataset, tmp_path: Path) -> None:
    evaluate(small_evaluation(dataset, parts / "best.pt", tmp_path / "report", metrics=["estoi"]))
    file = tmp_path / "report/evaluation.json"
    about = json.loads(file.read_text())
    about["identity"]["vocoder"] = 7
    file.write_text(json.dumps(about))
    assert _release(parts, tmp_path / "x.pt", "--reports", f"[{tmp_path / 'report'}]") == 0


def test_release_of_a_release_keeps_its_parts(released: Path, tmp_path: Path) -> None:
    assert main(["release", "--checkpoint", str(released), *CARD, "--out", str(tmp_path / "y.pt")]) == 0
    assert sorted(load_checkpoint(tmp_path / "y.pt").parts) == ["asr", "vocoder"]


def test_release_is_described_with_its_parts(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert model_main(["info", str(released)]) == 0
    said = capsys.readouterr().out
    assert "with asr, " in said
    assert "with vocoder, " in said
    assert "## Consent" in said


def _other_name(content: Any) -> None:
    content["parts"]["asr"] = content["parts"]["vocoder"]


def _nested(content: Any) -> None:
    content["parts"]["vocoder"]["parts"] = {"asr": content["parts"]["asr"]}


def _trained_part(content: Any) -> None:
    content["parts"]["asr"]["training"] = {"step": 1}


def _no_network(content: Any) -> None:
    content["parts"]["vocoder"] = [1]


def _other_mel(content: Any) -> None:
    content["mel"]["fmax"] = 7000.0


def _parts_of_an_asr_model(content: Any) -> None:
    content |= {name: content["parts"]["asr"][name] for name in ("kind", "settings", "weights", "tokenizer")}


def _card_of_bytes(content: Any) -> None:
    content["card"] = b"x"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_other_name, r"parts\.asr: one network each of vocoder, asr was expected"),
        (_no_network, r"parts\.vocoder: one network each"),
        (_nested, r"parts\.vocoder: a network alone was expected"),
        (_trained_part, r"parts\.asr: a network alone was expected"),
        (_other_mel, r"parts\.(asr|vocoder): its mel is"),
        (_parts_of_an_asr_model, "parts: in a checkpoint of the task asr, and only lip2speech has them"),
        (_card_of_bytes, "card is a bytes, and str was expected"),
    ],
)
def test_release_that_is_none_is_refused(
    released: Path, tmp_path: Path, spoil: Callable[[Any], None], named: str
) -> None:
    content = torch.load(released, weights_only=True)
    spoil(content)
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"x\.pt: .*{named}"):
        load_checkpoint(tmp_path / "x.pt")


def test_release_with_a_damaged_part_names_it(released: Path, tmp_path: Path) -> None:
    content = torch.load(released, weights_only=True)
    del content["parts"]["asr"]["settings"]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"parts\.asr: settings is missing"):
        load_checkpoint(tmp_path / "x.pt")
    content = torch.load(released, weights_only=True)
    weights = content["parts"]["vocoder"]["weights"]
    name = next(iter(weights))
    weights[name] = torch.full_like(weights[name], float("nan"))
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="not finite"):
        load_checkpoint(tmp_path / "x.pt")
