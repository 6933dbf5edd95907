"""Initialization from other checkpoints, bit for bit; what does not fit is named before anything is trained."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from model.asr import ASRModel, ASRSettings
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.conformer import ConformerSettings
from model.lip_to_speech import LipToSpeech
from model.published import LIP_TO_SPEECH_PARTS
from model.tokenizer import Tokenizer, train_tokenizer
from model.vsr import VSRModel, VSRSettings
from shards import open_dataset
from tests.model.networks import lively
from tests.model.published_files import published_state
from tests.shards.datasets import small_dataset
from tests.train.runs import flags, logged, start, weights_of
from train import __main__ as command
from train import step as step_file
from train.__main__ import main, parse
from train.build import TASKS
from train.distributed import DistributedContext
from train.frozen import load_frozen_asr
from train.init import init_network, load_tokenizer
from train.settings import TrainSettings

CPU = torch.device("cpu")


@pytest.fixture
def settings(shards: str, tmp_path: Path) -> TrainSettings:
    return parse(flags(shards, tmp_path / "run"))[0]


@pytest.fixture
def tokenizer(shards: str, settings: TrainSettings) -> Tokenizer:
    tokenizer = load_tokenizer(open_dataset(shards), settings)
    assert tokenizer is not None
    return tokenizer


def _run(dataset: str, out: Path, *more: str, **settings: Any) -> int:
    return main([*flags(dataset, out, **{"steps": 2, "every": 1, "workers": 0, **settings}), *more])


def _lip_to_speech(settings: TrainSettings, vocabulary: int) -> LipToSpeech:
    return lively(LipToSpeech(dataclasses.replace(settings.network, vocabulary=vocabulary)))


def _vsr(settings: TrainSettings, vocabulary: int) -> VSRModel:
    return lively(VSRModel(VSRSettings(settings.network.visual, vocabulary)))


def _asr(vocabulary: int, n_mels: int = 80) -> ASRModel:
    sizes = ASRSettings((2, 3), ConformerSettings(1, 16, 2, kernel=5), vocabulary, n_mels, "published")
    return lively(ASRModel(sizes))


def _saved(path: Path, network: LipToSpeech | VSRModel | ASRModel, tokenizer: Tokenizer | None = None) -> str:
    save_checkpoint(path, Checkpoint(network.settings, network.state_dict(), tokenizer))
    return str(path)


def _initialized(settings: TrainSettings, tokenizer: Tokenizer, **init: Any) -> tuple[LipToSpeech, str]:
    """The network that a run begins with, and what is logged."""
    messages = io.StringIO()
    handler, logger = logging.StreamHandler(messages), logging.getLogger("train.init")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    named = dataclasses.replace(settings, **init)
    network = init_network(named, TASKS[named.task](named, tokenizer, CPU))
    logger.removeHandler(handler)
    assert isinstance(network, LipToSpeech)
    return network, messages.getvalue().strip()


def _assert_same(ours: nn.Module, theirs: nn.Module) -> None:
    left, right = ours.state_dict(), theirs.state_dict()
    assert left.keys() == right.keys()
    assert [name for name, x in left.items() if not torch.equal(x, right[name])] == []


def test_init_loads_all_weights_bit_for_bit(settings: TrainSettings, tokenizer: Tokenizer, tmp_path: Path) -> None:
    theirs = _lip_to_speech(settings, tokenizer.vocabulary_size)
    ours, said = _initialized(settings, tokenizer, init=_saved(tmp_path / "x.pt", theirs, tokenizer))
    _assert_same(ours, theirs)
    assert said == f"all weights from {tmp_path / 'x.pt'}"


def test_init_vsr_loads_visual_encoder_and_head_and_the_seed_draws_the_rest(
    settings: TrainSettings, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    theirs = _vsr(settings, tokenizer.vocabulary_size)
    ours, said = _initialized(settings, tokenizer, init_vsr=_saved(tmp_path / "x.pt", theirs, tokenizer))
    _assert_same(ours.visual, theirs.visual)
    _assert_same(ours.get_submodule("head"), theirs.get_submodule("head"))
    fresh, _ = _initialized(settings, tokenizer)
    _assert_same(ours.speaker, fresh.speaker)
    _assert_same(ours.decoder, fresh.decoder)
    assert said == f"visual encoder and CTC head from {tmp_path / 'x.pt'}"


def test_init_vsr_takes_the_visual_encoder_out_of_a_whole_network(
    settings: TrainSettings, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    theirs = _lip_to_speech(settings, tokenizer.vocabulary_size)
    ours, _ = _initialized(settings, tokenizer, init_vsr=_saved(tmp_path / "x.pt", theirs, tokenizer))
    fresh, _ = _initialized(settings, tokenizer)
    for part, source in (("visual", theirs), ("head", theirs), ("speaker", fresh), ("decoder", fresh)):
        _assert_same(ours.get_submodule(part), source.get_submodule(part))


@pytest.mark.parametrize("vocabulary", [0, 31])
def test_init_vsr_without_a_head_of_this_vocabulary_logs_a_new_head(
    settings: TrainSettings, tokenizer: Tokenizer, tmp_path: Path, vocabulary: int
) -> None:
    """0: none at all, as published visual encoders come."""
    theirs = _vsr(settings, vocabulary)
    ours, said = _initialized(settings, tokenizer, init_vsr=_saved(tmp_path / "x.pt", theirs))
    _assert_same(ours.visual, theirs.visual)
    _assert_same(ours.get_submodule("head"), _initialized(settings, tokenizer)[0].get_submodule("head"))
    assert said == f"visual encoder from {tmp_path / 'x.pt'}, which has no CTC head of this tokenizer: a new one"


def test_init_vsr_overrides_the_visual_encoder_of_init(
    settings: TrainSettings, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    whole = _lip_to_speech(settings, tokenizer.vocabulary_size)
    reader = VSRModel(VSRSettings(settings.network.visual, 0))
    names: dict[str, str] = {
        "init": _saved(tmp_path / "whole.pt", whole),
        "init_vsr": _saved(tmp_path / "reader.pt", reader),
    }
    ours, _ = _initialized(settings, tokenizer, **names)
    _assert_same(ours.visual, reader.visual)
    _assert_same(ours.decoder, whole.decoder)


def test_init_asr_loads_a_frozen_model_with_the_padding_of_the_run(settings: TrainSettings, tmp_path: Path) -> None:
    theirs = _asr(vocabulary=31)
    named = dataclasses.replace(settings, init_asr=_saved(tmp_path / "x.pt", theirs))
    ours = load_frozen_asr(named, None, CPU)
    assert ours is not None
    _assert_same(ours, theirs)
    assert not any(x.requires_grad for x in ours.parameters())
    assert not any(module.training for module in ours.modules())
    assert (theirs.settings.padding, ours.settings.padding) == ("published", settings.network.padding)
    mel = torch.randn(2, 80, 40)
    lengths = torch.tensor([40, 20])
    alone = ours(mel[1:, :, :20], lengths[1:]).features
    beside = ours(mel, lengths).features[1:, :5]
    torch.testing.assert_close(beside, alone, rtol=0, atol=1e-5)  # masked: what float32 adds up in another order


def test_init_asr_may_have_another_tokenizer_and_the_run_keeps_its_own(
    shards: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Its features are compared, its head is not asked: its vocabulary may be any."""
    other = train_tokenizer(["place blue at f two now", "set white by q nine please"], 25)
    asr = _saved(tmp_path / "asr.pt", _asr(other.vocabulary_size), other)
    at_once = {"losses.content_after_epoch": 0, "losses.content_below": 1e9}
    assert _run(shards, tmp_path / "run", steps=8, every=8, init_asr=asr, **at_once) == 0
    lines = logged(tmp_path / "run")
    with_content = [step for step in sorted(lines) if "content" in lines[step]]
    (first_epoch_ends,) = [step for step in logged(tmp_path / "run", "epoch") if step < 8]
    assert with_content == list(range(first_epoch_ends + 1, 9))
    assert load_checkpoint(tmp_path / "run/checkpoints/step-00000008.pt").tokenizer == tokenizer


@pytest.mark.parametrize("flag", ["init", "init_vsr", "init_asr"])
def test_init_refuses_a_checkpoint_of_another_task(
    shards: str,
    settings: TrainSettings,
    tokenizer: Tokenizer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flag: str,
) -> None:
    pieces = tokenizer.vocabulary_size
    other = _lip_to_speech(settings, pieces) if flag == "init_asr" else _asr(pieces)
    kind = "lip2speech" if flag == "init_asr" else "asr"
    wanted = {"init": "lip2speech", "init_vsr": "vsr or lip2speech", "init_asr": "asr"}[flag]
    path = _saved(tmp_path / "theirs.pt", other)
    assert _run(shards, tmp_path / "run", **{flag: path}) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in (path, f"task {kind}", wanted))
    assert not (tmp_path / "run").exists(), "nothing was written"


@pytest.mark.parametrize("flag", ["init", "init_vsr", "init_asr"])
def test_init_names_a_file_that_is_missing_or_damaged(
    shards: str,
    settings: TrainSettings,
    tokenizer: Tokenizer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flag: str,
) -> None:
    pieces = tokenizer.vocabulary_size
    path = tmp_path / "theirs.pt"
    _saved(path, _asr(pieces) if flag == "init_asr" else _lip_to_speech(settings, pieces))
    whole = path.read_bytes()
    for size in (0, 1000, 20_000, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert _run(shards, tmp_path / "run", **{flag: path}) == 2
        assert f"error: {path}: not a checkpoint, or a damaged one" in capsys.readouterr().err
    path.unlink()
    assert _run(shards, tmp_path / "run", **{flag: path}) == 2
    message = capsys.readouterr().err
    assert "No such file" in message
    assert str(path) in message
    assert not (tmp_path / "run").exists(), "nothing was written"


def _same_size_other_pieces(tokenizer: Tokenizer, shards: str) -> Tokenizer:
    texts = [text for text in open_dataset(shards).index["text"].to_pylist() if text]
    other = train_tokenizer([text.replace("word", "vale") for text in texts], 40)
    assert other.vocabulary_size == tokenizer.vocabulary_size
    assert other != tokenizer
    return other


def test_init_refuses_a_head_of_another_tokenizer(
    shards: str, settings: TrainSettings, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many of them, so that every tensor fits: only the tokenizer in the file tells."""
    theirs = _lip_to_speech(settings, tokenizer.vocabulary_size)
    path = _saved(tmp_path / "theirs.pt", theirs, _same_size_other_pieces(tokenizer, shards))
    assert _run(shards, tmp_path / "run", init=path) == 2
    message = capsys.readouterr().err
    assert path in message
    assert "tokenizer" in message


def test_init_vsr_does_not_take_a_head_of_another_tokenizer(
    shards: str, settings: TrainSettings, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    theirs = _vsr(settings, tokenizer.vocabulary_size)
    path = _saved(tmp_path / "theirs.pt", theirs, _same_size_other_pieces(tokenizer, shards))
    ours, said = _initialized(settings, tokenizer, init_vsr=path)
    _assert_same(ours.visual, theirs.visual)
    _assert_same(ours.get_submodule("head"), _initialized(settings, tokenizer)[0].get_submodule("head"))
    assert "a new one" in said


def test_init_asr_of_another_number_of_bands_is_refused(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _saved(tmp_path / "asr.pt", _asr(31, n_mels=40))
    assert _run(shards, tmp_path / "run", init_asr=path) == 2
    message = capsys.readouterr().err
    assert path in message
    assert "40" in message


def test_init_names_each_weight_that_does_not_fit(
    shards: str, settings: TrainSettings, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = tokenizer.vocabulary_size
    theirs = _saved(tmp_path / "theirs.pt", _lip_to_speech(settings, pieces + 1))
    assert _run(shards, tmp_path / "run", init=theirs) == 2
    message = capsys.readouterr().err
    width = settings.network.visual.conformer.width
    assert f"{theirs}: does not fit LipToSpeech" in message
    assert f"head.weight is ({pieces + 1}, {width}) and should be ({pieces}, {width})" in message
    assert f"head.bias is ({pieces + 1},) and should be ({pieces},)" in message
    visual = dataclasses.replace(settings.network.visual, channels=4)
    theirs = _saved(tmp_path / "visual.pt", VSRModel(VSRSettings(visual, 0)))
    assert _run(shards, tmp_path / "run", init_vsr=theirs) == 2
    message = capsys.readouterr().err
    assert f"{theirs}: does not fit VisualEncoder" in message
    assert "front.weight is (4, 1, 5, 7, 7) and should be (2, 1, 5, 7, 7)" in message


def test_init_takes_published_files(shards: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    # as many convolutions as the published networks have: their sizes are read off the shapes
    deep = ["--network.speaker={channels: [8, 8, 8], width: 8}", "--network.decoder={width: 16, channels: [8, 8]}"]
    settings = parse([*flags(shards, tmp_path / "run"), *deep])[0]
    theirs = _lip_to_speech(settings, tokenizer.vocabulary_size).half().float()  # half floats in the file
    parts = {
        name: published_state(part, theirs.get_submodule(part).state_dict())
        for name, part in LIP_TO_SPEECH_PARTS.items()
    }
    torch.save(parts, tmp_path / "published.pt")
    ours, _ = _initialized(settings, tokenizer, init=str(tmp_path / "published.pt"))
    _assert_same(ours, theirs)
    torch.save(parts["v_front_state_dict"], tmp_path / "visual.pt")
    ours, said = _initialized(settings, tokenizer, init_vsr=str(tmp_path / "visual.pt"))
    _assert_same(ours.visual, theirs.visual)
    assert "no CTC head of this tokenizer" in said
    theirs_asr = _asr(31).half().float()
    torch.save({"asr_model_state_dict": published_state("asr", theirs_asr.state_dict())}, tmp_path / "asr.pt")
    ours_asr = load_frozen_asr(dataclasses.replace(settings, init_asr=str(tmp_path / "asr.pt")), None, CPU)
    assert ours_asr is not None
    _assert_same(ours_asr, theirs_asr)


def test_resume_does_not_need_the_checkpoint_of_init(
    shards: str, settings: TrainSettings, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """It resumes with its own weights; were those of --init loaded again, the runs would differ."""
    path = tmp_path / "theirs.pt"
    _saved(path, _lip_to_speech(settings, tokenizer.vocabulary_size))
    assert _run(shards, tmp_path / "straight", init=path, steps=4) == 0
    assert _run(shards, tmp_path / "broken", init=path, steps=2) == 0
    path.unlink()
    assert _run(shards, tmp_path / "broken", "--resume=auto", init=path, steps=4) == 0
    ours, theirs = weights_of(tmp_path / "broken", 4), weights_of(tmp_path / "straight", 4)
    assert [name for name, x in theirs.items() if not torch.equal(ours[name], x)] == []


def test_dataset_without_a_tokenizer_names_the_command_that_makes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_dataset(str(tmp_path / "dataset"))
    assert _run(str(tmp_path / "dataset"), tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert "there is no tokenizer.model" in message
    assert f"run `pipeline tokenizer {tmp_path / 'dataset'}`" in message
    assert "--tokenizer" in message


def test_tokenizer_that_is_none_is_named(shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    assert _run(shards, tmp_path / "run", tokenizer=tmp_path / "notes.txt") == 2
    assert f"{tmp_path / 'notes.txt'}: not a SentencePiece model" in capsys.readouterr().err


def _with_features(shards: str, copy: Path, **features: Any) -> str:
    """A copy of a dataset whose manifest says that it was built with other settings."""
    shutil.copytree(shards, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    for name, changed in features.items():
        manifest["features"][name] |= changed
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return str(copy)


@pytest.mark.parametrize(("name", "value"), [("fmax", 7000.0), ("n_mels", 40), ("preemphasis", 0.5)])
def test_shards_of_another_mel_are_refused_by_setting(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: float
) -> None:
    other = _with_features(shards, tmp_path / "dataset", mel={name: value})
    assert _run(other, tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert other in message
    assert "another mel" in message
    assert f"{name} {value} (expected " in message


def test_shards_without_settings_of_their_mels_are_refused(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(shards, tmp_path / "dataset")
    manifest = json.loads((tmp_path / "dataset/manifest.json").read_text())
    del manifest["features"]["mel"]
    (tmp_path / "dataset/manifest.json").write_text(json.dumps(manifest))
    assert _run(str(tmp_path / "dataset"), tmp_path / "run") == 2
    assert "manifest.json: features.mel: " in capsys.readouterr().err


class _OneOf(DistributedContext):
    """A rank whose others agree with it."""

    def on_rank0(self, work: Any) -> Any:
        return work()

    def all_reduce_sum(self, values: Any) -> list[float]:
        return [float(value) * self.world_size for value in values]

    def all_gather(self, values: Any) -> Any:
        return values

    def barrier(self) -> None:
        pass


class _Parallel(nn.Module):
    """In the place of DistributedDataParallel, which wants the other ranks."""

    def __init__(self, network: nn.Module, **settings: bool) -> None:
        super().__init__()
        self.network = network

    no_sync = None


@pytest.mark.parametrize("rank", [0, 1, 31])
def test_epoch_of_fewer_micro_batches_than_ranks_fails_on_each_rank(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    @contextmanager
    def group(device: str | None, timeout: timedelta) -> Iterator[DistributedContext]:
        yield _OneOf(rank, 32, CPU)

    monkeypatch.setattr(command, "process_group", group)
    monkeypatch.setattr(step_file, "DistributedDataParallel", _Parallel)
    assert _run(shards, tmp_path / "run", micro_batches_per_step=32) == 1
    message = capsys.readouterr().err
    assert "micro-batches in epoch 1 for 32 ranks: lower batch.max_padded_frames, use fewer ranks" in message
    assert _run(shards, tmp_path / "other", micro_batches_per_step=33) == 2
    assert "micro_batches_per_step: 33 cannot be dealt to 32 ranks evenly" in capsys.readouterr().err


@pytest.mark.slow
def test_epoch_of_one_micro_batch_ends_both_of_two_ranks(shards: str, tmp_path: Path) -> None:
    """Without torchrun, which would end the second one when the first has failed."""
    arguments = [*flags(shards, tmp_path / "run"), "--batch={max_padded_frames: 2400, window_shards: 4}"]
    said = "error: 1 micro-batches in epoch 1 for 2 ranks: lower batch.max_padded_frames, use fewer ranks"
    for printed in start(arguments, 2).finish(1):
        assert said in printed


@pytest.mark.slow
def test_compiled_network_takes_the_same_steps(shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, but run as it is: to generate code for the CPU would take minutes."""
    settings: dict[str, Any] = {"steps": 2, "every": 2}
    assert _run(shards, tmp_path / "plain", **settings) == 0
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch.compiler.reset()
    assert _run(shards, tmp_path / "compiled", **settings, compile=True) == 0
    plain, compiled = logged(tmp_path / "plain"), logged(tmp_path / "compiled")
    for step in (1, 2):
        assert compiled[step] == pytest.approx(plain[step], rel=1e-3)
    ours, theirs = weights_of(tmp_path / "compiled", 2), weights_of(tmp_path / "plain", 2)
    assert ours.keys() == theirs.keys(), "names as without compiling"
