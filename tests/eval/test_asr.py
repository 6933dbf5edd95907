"""Hypotheses are those of each waveform alone; any ASR model is held to one text a waveform."""

from __future__ import annotations

import dataclasses
import lzma
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from eval import asr
from eval.asr import check_asr, load_asr
from eval.metrics.optional import PackageMissingError
from model.asr import ASRModel as Network
from model.checkpoint import Checkpoint, build_network, save_checkpoint
from model.ctc import BeamSettings, beam_search, greedy
from model.mel import MelSettings, log_mel
from model.published import published_weights
from model.tokenizer import Tokenizer, train_tokenizer
from tests.eval.small_whisper import small_whisper
from tests.eval.sounds import Wave, noisy, sentence
from tests.model.networks import small_asr, small_lip_to_speech

CPU = torch.device("cpu")
TEXTS = ["place blue at f two now", "set white by q nine please", "bin blue at a two please", "set red with a nine"]
TOKENIZER = train_tokenizer(TEXTS, 30)

Save = Callable[..., str]


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return _with_a_wild_head(small_asr())


@torch.no_grad()
def _with_a_wild_head(network: Network) -> Network:
    """A head that is drawn at random says something else of every sound, once it is centred on what sounds have in
    common."""
    mel = log_mel(torch.from_numpy(sentence()))[None]
    features = network(mel, torch.tensor([mel.shape[2]])).features[0]
    head = network.head
    head.weight.normal_(generator=torch.Generator().manual_seed(0))
    head.bias.copy_(-head.weight @ features.mean(dim=0))
    return network


@pytest.fixture
def save(network: Network, tmp_path: Path) -> Save:
    """Writes the network's checkpoint, with changes; returns its path."""

    def save(**changes: Any) -> str:
        checkpoint = Checkpoint(network.settings, network.state_dict(), TOKENIZER)
        save_checkpoint(tmp_path / "asr.pt", dataclasses.replace(checkpoint, **changes))
        return str(tmp_path / "asr.pt")

    return save


def _waves() -> list[Wave]:
    return [sentence(), sentence()[:7999], noisy(sentence()), sentence("set red with a nine"), sentence()[9000:9900]]


def _expected(network: Network, wave: Wave, tokenizer: Tokenizer = TOKENIZER, beam: int = 1) -> str:
    """What the network hears of a waveform alone."""
    frames = len(wave) // 160
    with torch.no_grad():
        output = network(log_mel(torch.from_numpy(wave))[None, :, :frames], torch.tensor([frames]))
    if beam == 1:
        return tokenizer.decode(greedy(output.logits, output.lengths)[0])
    found = beam_search(output.logits.log_softmax(dim=-1), output.lengths, BeamSettings(beam=beam))
    return tokenizer.decode(found[0][0].tokens)


def test_checkpoint_recognizes_in_a_batch_what_it_recognizes_alone(save: Save, network: Network) -> None:
    expected = [_expected(network, wave) for wave in _waves()]
    assert len({*expected}) == len(expected)  # or the test could not fail
    recognize = load_asr(save(), CPU)
    assert recognize(_waves()) == expected
    assert recognize(_waves()[::-1]) == expected[::-1]
    assert recognize([]) == []


def test_hypotheses_do_not_depend_on_the_batch(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    recognize = load_asr(save(), CPU)
    together = recognize(_waves())
    for seconds in (0.1, 3.0):  # each alone, then two at a time
        monkeypatch.setattr(asr, "_PADDED_SECONDS", seconds)
        assert recognize(_waves()) == together


def test_batches_are_bounded_and_hold_each_waveform_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr, "_PADDED_SECONDS", 3.0)
    lengths = [16_000, 70_000, 8000, 24_000, 24_001, 900, 15_999]
    batches = list(asr._batches(lengths))
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    assert batches[0] == [1]  # longer than there is room for: alone
    for batch in batches[1:]:
        assert len(batch) * max(lengths[row] for row in batch) <= 48_000


def test_beam_search_may_read_the_network(save: Save, network: Network) -> None:
    expected = [_expected(network, wave, beam=8) for wave in _waves()]
    assert expected != [_expected(network, wave) for wave in _waves()]
    assert load_asr(save(), CPU, beam=8)(_waves()) == expected


def test_waveforms_without_sound_have_no_text_and_cost_the_others_nothing(save: Save, network: Network) -> None:
    broken = sentence().copy()
    broken[777] = np.nan
    nothing = [sentence()[:0], np.zeros(16_000, np.float32), sentence()[5000:5512], broken]
    shortest = sentence()[5000:5513]
    output = load_asr(save(), CPU)([nothing[0], sentence(), *nothing[1:], shortest])
    assert output == ["", _expected(network, sentence()), "", "", "", _expected(network, shortest)]
    assert load_asr(save(), CPU)(nothing) == [""] * 4


def test_padding_does_not_leak_whatever_a_checkpoint_was_trained_with(save: Save, network: Network) -> None:
    settings = dataclasses.replace(network.settings, padding="published")
    expected = [_expected(network, wave) for wave in _waves()]
    assert load_asr(save(settings=settings), CPU)(_waves()) == expected


def test_checkpoint_without_a_tokenizer_takes_the_one_given_if_it_fits(save: Save, network: Network) -> None:
    expected = [_expected(network, sentence())]
    other = train_tokenizer(TEXTS, 25)
    assert load_asr(save(tokenizer=None), CPU, TOKENIZER)([sentence()]) == expected
    assert load_asr(save(), CPU, other)([sentence()]) == expected  # its own goes before
    path = save(tokenizer=None)
    with pytest.raises(ValueError, match=rf"{path}: holds no tokenizer, .* give the one of its 30 pieces"):
        load_asr(path, CPU)
    with pytest.raises(ValueError, match=rf"{path}: has 30 pieces, and the tokenizer 25: give the one"):
        load_asr(path, CPU, other)


def test_published_asr_recognizes_in_a_batch_what_it_recognizes_alone(reference: Path, tmp_path: Path) -> None:
    with lzma.open(reference / "c_seed0_asr.pt.xz") as file:
        content = torch.load(file, weights_only=True)
    published = build_network(Checkpoint(*published_weights(content)[:2]))
    assert isinstance(published, Network)
    assert published.settings.padding == "published"
    head = _with_a_wild_head(published).head
    content["asr_model_state_dict"] |= {
        "classifier.weight": head.weight.detach(),
        "classifier.bias": head.bias.detach(),
    }
    torch.save(content, tmp_path / "published.pt")
    more = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs"]
    more += ["the five boxing wizards jump quickly", "set the table with the brown boxes please"]
    tokenizer = train_tokenizer([*TEXTS, *more], 50)
    waves = _waves()[:2]
    expected = [_expected(published, wave, tokenizer) for wave in waves]
    assert all(expected)
    assert expected[0] != expected[1]
    assert load_asr(str(tmp_path / "published.pt"), CPU, tokenizer)(waves) == expected


def test_checkpoints_that_take_no_waveforms_are_refused(save: Save) -> None:
    path = save(mel=MelSettings(sample_rate=8000))
    with pytest.raises(ValueError, match=rf"{path}: trained on 80 bands at 8000 Hz: .* at 16000 Hz"):
        load_asr(path, CPU)
    speaking = small_lip_to_speech()
    path = save(settings=speaking.settings, weights=speaking.state_dict(), tokenizer=None)
    with pytest.raises(ValueError, match=rf"{path}: a network of the task lip2speech, and asr was expected"):
        load_asr(path, CPU)


def test_name_that_is_none_is_refused_with_the_names_there_are() -> None:
    expected = r"runs/x\.pt: there is no such file; expected a checkpoint, whisper:NAME or package\.module:factory"
    with pytest.raises(FileNotFoundError, match=expected):
        load_asr("runs/x.pt", CPU)


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that anybody may have written."""
    source = """
def lengths(device):
    return lambda waves: [f"{len(wave)} {wave.dtype} {device}" for wave in waves]
def last_only(device):
    return lambda waves: ["one"]
def one_text(device):
    return lambda waves: "one"
def numbers(device):
    return lambda waves: [1] * len(waves)
def nothing(device):
    pass
"""
    (tmp_path / "plugged_in.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "plugged_in", raising=False)
    return "plugged_in"


def test_custom_asr_is_given_only_waveforms_with_sound(plug: str) -> None:
    recognize = load_asr(f"{plug}:lengths", CPU)
    waves: list[Any] = [
        sentence()[:0],
        sentence()[:9000],
        np.zeros(9000, np.float32),
        sentence()[:8000].astype(np.float64),
    ]
    assert recognize(waves) == ["", "9000 float32 cpu", "", "8000 float32 cpu"]
    assert load_asr(f"{plug}:last_only", CPU)([waves[0]]) == [""]


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("last_only", "1 texts of 2 waveforms: expected one each"),
        ("one_text", "returned str: expected a list of str"),
        ("numbers", "returned list: expected a list of str"),
    ],
)
def test_custom_asr_that_does_not_give_one_text_a_waveform_is_named(plug: str, factory: str, expected: str) -> None:
    recognize = load_asr(f"{plug}:{factory}", CPU)
    with pytest.raises(ValueError, match=f"asr: {plug}:{factory}: {expected}"):
        recognize([sentence(), sentence()])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("not_there:factory", "cannot be imported: No module named 'not_there'"),
        ("plugged_in:factory", "cannot be imported: .* has no attribute 'factory'"),
        ("plugged_in:nothing", "made NoneType: expected a function"),
    ],
)
def test_import_path_that_leads_to_no_asr_is_named(plug: str, name: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"asr: {name}: {expected}"):
        load_asr(name, CPU)


def test_beam_and_waveforms_that_make_no_sense_are_refused(plug: str, save: Save) -> None:
    for refuses in (partial(load_asr, f"{plug}:lengths", CPU), partial(check_asr, f"{plug}:lengths")):
        with pytest.raises(ValueError, match=f"asr: {plug}:lengths: beam 8, which is for checkpoints and Whisper"):
            refuses(None, 8)
    with pytest.raises(ValueError, match="beam: 0 is too small, at least 1 was expected"):
        load_asr(save(), CPU, None, 0)
    recognize = load_asr(save(), CPU)
    with pytest.raises(ValueError, match=r"waveform 1 is int16 \(9000,\): expected float32 \(samples,\)"):
        recognize([sentence(), np.zeros(9000, np.int16)])
    with pytest.raises(ValueError, match=r"waveform 0 is float32 \(1, 9000\): expected float32"):
        recognize([sentence()[None, :9000]])


class _WhisperModel:
    """Takes what faster-whisper's takes, and remembers it."""

    made: ClassVar[list[tuple[str, dict[str, Any]]]]
    asked: ClassVar[list[dict[str, Any]]]

    def __init__(self, model: str, **settings: Any) -> None:
        if model == "none":
            raise ValueError("Invalid model size 'none'")
        self.made.append((model, settings))

    def transcribe(self, wave: Wave, **settings: Any) -> tuple[Any, Any]:
        self.asked.append(settings)
        assert wave.dtype == np.float32
        return iter([SimpleNamespace(text=f" {len(wave)}"), SimpleNamespace(text=" samples. ")]), None


def test_whisper_is_asked_on_one_thread_waveform_by_waveform_greedily_unless_a_beam_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = ModuleType("faster_whisper")
    package.WhisperModel = _WhisperModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faster_whisper", package)
    made = _WhisperModel.made = []
    asked = _WhisperModel.asked = []
    recognize = load_asr("whisper:small.en", CPU)
    assert recognize([sentence()[:9000], sentence()[:0], sentence()[:8000]]) == ["9000 samples.", "", "8000 samples."]
    assert made == [("small.en", {"device": "cpu", "device_index": 0, "compute_type": "float32", "cpu_threads": 1})]
    greedily = {"beam_size": 1, "temperature": 0.0, "without_timestamps": True, "condition_on_previous_text": False}
    assert asked == [{"language": "en", **greedily}] * 2
    load_asr("whisper:small", torch.device("cuda", 1), beam=5)([sentence()])
    on_gpu = {"device": "cuda", "device_index": 1, "compute_type": "float16", "cpu_threads": 1}
    assert made[1:] == [("small", on_gpu)]
    assert asked[2:] == [{"language": "en", **greedily, "beam_size": 5}]
    with pytest.raises(ValueError, match="asr: whisper:none: cannot be loaded: Invalid model size 'none'"):
        load_asr("whisper:none", CPU)


def test_whisper_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(PackageMissingError, match=r"package faster_whisper.*pip install -e '\.\[whisper\]'"):
        load_asr("whisper:tiny", CPU)


def test_faster_whisper_itself_recognizes(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    recognize = load_asr(f"whisper:{small_whisper(tmp_path / 'model', 'two', times=3)}", CPU)
    assert recognize([sentence(), sentence()[:0], sentence()[:5000]]) == ["two two two", "", "two two two"]
    with pytest.raises(ValueError, match=rf"asr: whisper:{tmp_path}: cannot be loaded: .*model\.bin"):
        load_asr(f"whisper:{tmp_path}", CPU)
