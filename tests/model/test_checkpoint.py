"""Checkpoints of ours and published ones: what goes in comes out, and what does not fit is named."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.__main__ import main
from model.asr import ASRModel
from model.checkpoint import Checkpoint, CheckpointError, Network, build_network, load_checkpoint, save_checkpoint
from model.lip_to_speech import LipToSpeech
from model.mel import MelSettings
from model.published import is_published
from model.tokenizer import train_tokenizer
from model.vsr import VSRModel
from tests.model.networks import lively, small_asr, small_lip_to_speech, small_vocoder, small_vsr_settings
from tests.model.published_files import published_file, published_state

TEXTS = ["place blue at f two now", "set white by q nine please", "bin blue at a two please"]
TOKENIZER = train_tokenizer([*TEXTS, "set blue with a nine", "place white in two now"], 30)
OTHER_TOKENIZER = train_tokenizer(TEXTS, 25)


@pytest.fixture
def network() -> LipToSpeech:
    return small_lip_to_speech()


def _checkpoint(network: LipToSpeech) -> Checkpoint:
    return Checkpoint(
        network.settings,
        network.state_dict(),
        TOKENIZER,
        MelSettings(fmax=7000.0),
        step=17,
        metrics={"stoi": 0.5},
    )


def test_checkpoint_is_loaded_as_it_was_saved(network: LipToSpeech, tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.pt"
    save_checkpoint(path, _checkpoint(network))
    assert [x.name for x in path.parent.iterdir()] == ["last.pt"]
    loaded = load_checkpoint(path)
    assert (loaded.kind, loaded.settings, loaded.step, loaded.metrics) == (
        "lip2speech",
        network.settings,
        17,
        {"stoi": 0.5},
    )
    assert (loaded.mel.fmax, loaded.tokenizer) == (7000.0, TOKENIZER)
    assert hash(loaded.settings) == hash(network.settings)  # tuples are tuples again
    video, lengths, reference = torch.randn(1, 1, 6, 32, 32), torch.tensor([6]), torch.randn(1, 80, 50)
    again = build_network(loaded)
    assert not again.training
    torch.testing.assert_close(again(video, lengths, reference), network(video, lengths, reference))
    again.train()(video, lengths, reference).mel.sum().backward()
    assert all(x.grad is not None for name, x in again.named_parameters() if not name.startswith("head"))


@pytest.mark.parametrize("kind", ["vsr", "asr", "vocoder"])
def test_checkpoint_of_every_task_is_read(kind: str, tmp_path: Path) -> None:
    made: dict[str, Network] = {
        "vsr": lively(VSRModel(small_vsr_settings())),
        "asr": small_asr(),
        "vocoder": small_vocoder(),
    }
    network = made[kind]
    save_checkpoint(tmp_path / "x.pt", Checkpoint(network.settings, network.state_dict()))
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert loaded.kind == kind
    assert type(build_network(loaded)) is type(network)


def test_build_network_computes_in_float32_where_a_file_holds_halves(network: LipToSpeech) -> None:
    checkpoint = _checkpoint(network)
    halves = {name: x.half() if x.is_floating_point() else x for name, x in checkpoint.weights.items()}
    built = build_network(dataclasses.replace(checkpoint, weights=halves))
    assert {x.dtype for x in built.state_dict().values()} == {x.dtype for x in network.state_dict().values()}
    for name, x in built.state_dict().items():
        assert torch.equal(x, halves[name].to(x.dtype))
    assert all(parameter.requires_grad for parameter in built.parameters())


def test_build_network_imports_no_compiler(network: LipToSpeech, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pt", _checkpoint(network))
    program = (
        "import sys; from model.checkpoint import build_network, load_checkpoint; "
        "build_network(load_checkpoint(sys.argv[1])); print({'sympy', 'torch._dynamo'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "best.pt")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


def test_full_disk_leaves_the_old_checkpoint(
    network: LipToSpeech, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, _checkpoint(network))
    before = path.read_bytes()

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, dataclasses.replace(_checkpoint(network), step=18))
    assert [x.name for x in tmp_path.iterdir()] == ["last.pt"]
    assert path.read_bytes() == before


def test_tensors_that_do_not_fit_are_named(network: LipToSpeech) -> None:
    weights = dict(network.state_dict())
    del weights["head.bias"]
    weights["head.extra"] = torch.zeros(1)
    weights["speaker.project.weight"] = torch.zeros(2, 3)
    with pytest.raises(CheckpointError) as caught:
        build_network(Checkpoint(network.settings, weights), "runs/x/best.pt")
    for part in (
        "runs/x/best.pt",
        "LipToSpeech",
        "head.bias is missing",
        "head.extra is not known",
        "speaker.project.weight is (2, 3) and should be (12, 24)",
    ):
        assert part in str(caught.value)


class _Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("touch exploded",)


def test_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"v_front_state_dict": {"x": _Bomb()}}, "bomb.pt")
    with pytest.raises(CheckpointError, match=r"bomb\.pt: .*refused: it names (posix|nt)\.system.*could run code"):
        load_checkpoint("bomb.pt")
    Path("bomb.pkl").write_bytes(pickle.dumps(_Bomb(), protocol=2))
    with pytest.raises(CheckpointError, match=r"bomb\.pkl: .*no zip"):
        load_checkpoint("bomb.pkl")
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": {}}, "neither one of ours nor a published one: it holds weights"),
        ([1, 2], "neither one of ours nor a published one: it holds list"),
        ({"format": 99}, "format 99, and this version reads 1"),
        ({"format": 1, "kind": "tts"}, "kind 'tts'"),
        ({"format": 1, "kind": "asr"}, "tokenizer is missing"),
        ({"format": 1, "kind": ["asr"]}, ""),
        ({"v_front_state_dict": {}}, "ctc_layer_state_dict is missing; it holds v_front_state_dict"),
        ({"asr_model_state_dict": 3}, "asr_model_state_dict is no state dict but a int"),
        ({"asr_model_state_dict": {"classifier.weight": 3}}, "classifier.weight is no tensor but a int"),
        ({"asr_model_state_dict": {}}, "conformer.layers.0.feed_forward_in.expand.weight is missing"),
    ],
)
def test_files_that_are_no_checkpoint_are_named(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "x.pt")
    assert str(tmp_path / "x.pt") in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("kind", "visual", "visual is not a name of this version: use vsr"),
        ("mel.half", 40, "use crop_radius"),
        ("settings.visual.colour", 3, "unknown settings colour of VisualSettings"),
        ("settings.visual.conformer.layers", "2", "ConformerSettings.layers is '2', and int was expected"),
        ("settings.visual.conformer.layers", 10**9, "layers: 1,000,000,000, and at most 256 is"),
        ("settings.visual.conformer.heads", 0, ""),
        ("settings.visual.conformer.width", 2**62, ""),
        ("settings.visual.conformer.width", -32, ""),
        ("settings.visual.dropout", 7.0, ""),
        ("settings.speaker.channels", (3, "x"), "SpeakerSettings.channels"),
        ("settings.padding", "Masked", "LipToSpeechSettings.padding is 'Masked'"),
        ("settings", ["vocabulary"], "a list, and a dictionary was expected"),
        ("weights", None, "its weights are a NoneType"),
        ("weights.head.bias", 3, "head.bias is no plain tensor"),
        ("weights.head.bias", torch.zeros(3).to_sparse(), "names torch._utils._rebuild_sparse_tensor"),
        ("tokenizer", b"no model", "not a SentencePiece model"),
        ("tokenizer", OTHER_TOKENIZER.model_bytes, "the CTC head has 30 pieces, and the tokenizer"),
        ("mel.n_mels", "x", "MelSettings.n_mels"),
        ("step", float("inf"), ""),
        ("format", torch.zeros(2), ""),
    ],
)
def test_checkpoints_that_were_tampered_with_are_named(
    network: LipToSpeech, tmp_path: Path, where: str, value: Any, message: str
) -> None:
    path = tmp_path / "x.pt"
    save_checkpoint(path, _checkpoint(network))
    content = torch.load(path)
    place, names = content, where.split(".")
    if names[0] == "weights" and len(names) > 1:
        names = ["weights", ".".join(names[1:])]
    for name in names[:-1]:
        place = place[name]
    place[names[-1]] = value
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        build_network(load_checkpoint(path), path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_metrics_of_numpy_and_torch_come_back_as_plain_numbers(network: LipToSpeech, tmp_path: Path) -> None:
    figures: Any = {"stoi": np.float64(0.5), "l1": torch.tensor(0.25)}
    step: Any = np.int64(3)
    checkpoint = dataclasses.replace(_checkpoint(network), metrics=figures, step=step)
    save_checkpoint(tmp_path / "x.pt", checkpoint)
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert (loaded.step, loaded.metrics) == (3, {"stoi": 0.5, "l1": 0.25})


def test_training_state_travels_along(network: LipToSpeech, tmp_path: Path) -> None:
    training = {"epoch": 3, "optimizer": {"state": {0: {"step": torch.tensor(4.0)}}}}
    save_checkpoint(tmp_path / "x.pt", dataclasses.replace(_checkpoint(network), training=training))
    assert load_checkpoint(tmp_path / "x.pt").training == training


def test_layer_of_a_large_number_is_not_built(tmp_path: Path) -> None:
    content = {"asr_model_state_dict": {"encoder.layers.99999.layer_norm.weight": torch.zeros(3)}}
    content["asr_model_state_dict"]["encoder.layers.0.feed_forward1.module.sequential.1.linear.weight"] = torch.zeros(
        8, 2
    )
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"layers\.1 is missing, and there is conformer\.layers\.99999"):
        load_checkpoint(tmp_path / "x.pt")


def test_damaged_files_are_named(network: LipToSpeech, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    save_checkpoint(path, _checkpoint(network))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint", bytes(100)):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"x\.pt: not a checkpoint, or a damaged one: \w+"):
            load_checkpoint(path)
    with pytest.raises(CheckpointError, match="folder"):
        load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "nothing.pt")


@torch.no_grad()
def test_published_files_are_read_as_they_are(tmp_path: Path) -> None:
    network, _ = published_file(tmp_path / "published.pt")
    loaded = load_checkpoint(tmp_path / "published.pt")
    assert loaded.settings == network.settings  # sizes are read off the shapes
    assert loaded.settings.padding == "published"
    inputs = torch.randn(2, 1, 9, 32, 32), torch.tensor([9, 6]), torch.randn(2, 80, 50)
    torch.testing.assert_close(build_network(loaded)(*inputs), network(*inputs))
    asr_model, _ = published_file(tmp_path / "asr.pt", "asr")
    ours = build_network(load_checkpoint(tmp_path / "asr.pt"))
    mel, lengths = torch.randn(2, 80, 40), torch.tensor([40, 30])
    torch.testing.assert_close(ours(mel, lengths), asr_model(mel, lengths))


@torch.no_grad()
def test_published_visual_encoder_is_a_bare_state_dict(tmp_path: Path) -> None:
    network, content = published_file(tmp_path / "published.pt")
    assert isinstance(network, LipToSpeech)
    assert is_published(content["v_front_state_dict"])
    torch.save(content["v_front_state_dict"], tmp_path / "visual.pt")
    reader = build_network(load_checkpoint(tmp_path / "visual.pt"))
    assert isinstance(reader, VSRModel)
    assert reader.head is None
    video, lengths = torch.randn(2, 1, 9, 32, 32), torch.tensor([9, 6])
    torch.testing.assert_close(reader.visual(video, lengths), network.visual(video, lengths))


def test_published_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    _, content = published_file(tmp_path / "published.pt")
    visual = content["v_front_state_dict"]
    del visual["resnet.resnet.layer2.0.bn1.weight"]
    visual["resnet.resnet.layer9.0.bn1.weight"] = torch.zeros(3)
    visual["frontend.1.bias"] = torch.zeros(5)
    torch.save(content, tmp_path / "wrong.pt")
    with pytest.raises(CheckpointError) as caught:
        build_network(load_checkpoint(tmp_path / "wrong.pt"), tmp_path / "wrong.pt")
    for part in (
        "wrong.pt",
        "visual.resnet.stages.1.0.norm1.weight is missing",
        "(published as resnet.resnet.layer9.0.bn1.weight) is not known",
        "visual.front_norm.bias (published as frontend.1.bias) is (5,) and should be (8,)",
    ):
        assert part in str(caught.value)


@torch.no_grad()
def test_import_makes_a_checkpoint_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, _ = published_file(tmp_path / "published.pt")
    (tmp_path / "tokenizer.model").write_bytes(TOKENIZER.model_bytes)
    arguments = [str(tmp_path / "published.pt"), "--out", str(tmp_path / "ours.pt")]
    assert main(["import", *arguments, "--padding", "masked"]) == 0
    ours = load_checkpoint(tmp_path / "ours.pt")
    assert (ours.settings.padding, ours.tokenizer) == ("masked", None)
    assert main(["info", str(tmp_path / "ours.pt")]) == 0
    shown = capsys.readouterr().out
    assert "lip2speech" in shown
    assert "decoder" in shown
    assert OTHER_TOKENIZER.vocabulary_size != TOKENIZER.vocabulary_size == network.settings.vocabulary
    (tmp_path / "tokenizer.model").write_bytes(OTHER_TOKENIZER.model_bytes)
    assert main(["import", *arguments, "--tokenizer", str(tmp_path / "tokenizer.model")]) == 2
    assert "the CTC head has 30 pieces, and the tokenizer" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "ours.pt"), "--out", str(tmp_path / "again.pt")]) == 0
    assert load_checkpoint(tmp_path / "again.pt").settings.padding == "masked"  # its own is kept
    assert main(["import", str(tmp_path / "nothing.pt"), "--out", "x"]) == 2
    assert "nothing.pt" in capsys.readouterr().err


def test_info_says_that_there_is_no_ctc_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = LipToSpeech(dataclasses.replace(small_lip_to_speech().settings, vocabulary=0))
    save_checkpoint(tmp_path / "x.pt", Checkpoint(network.settings, network.state_dict()))
    assert main(["info", str(tmp_path / "x.pt")]) == 0
    shown = capsys.readouterr().out
    assert "step 0, no CTC head" in shown
    assert "head " not in shown


def test_import_keeps_the_tokenizer_that_the_head_was_trained_with(tmp_path: Path) -> None:
    settings = dataclasses.replace(small_asr("published").settings, vocabulary=TOKENIZER.vocabulary_size)
    content = {"asr_model_state_dict": published_state("asr", ASRModel(settings).state_dict())}
    torch.save(content, tmp_path / "asr.pt")
    (tmp_path / "tokenizer.model").write_bytes(TOKENIZER.model_bytes)
    arguments = ["import", str(tmp_path / "asr.pt"), "--out", str(tmp_path / "ours.pt")]
    assert main([*arguments, "--tokenizer", str(tmp_path / "tokenizer.model")]) == 0
    assert load_checkpoint(tmp_path / "ours.pt").tokenizer == TOKENIZER
