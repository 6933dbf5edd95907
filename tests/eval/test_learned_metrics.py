"""Learned metrics: what the packages say of the waveforms they are given, and an error where there is no voice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eval.metrics import MetricError
from eval.metrics.learned import load_dnsmos, load_voice_encoder, mos, similarity
from eval.metrics.optional import PackageMissingError
from pipeline.demo.speech import Voice, synthesize
from tests.eval.sounds import Wave, noisy, sentence


@pytest.fixture(autouse=True)
def _loaded_anew() -> Iterator[None]:
    for load in (load_voice_encoder, load_dnsmos):
        load.cache_clear()
    yield
    for load in (load_voice_encoder, load_dnsmos):
        load.cache_clear()


class _VoiceEncoder:
    """Embeds a waveform as the direction of its mean and its deviation from 0."""

    made = 0

    def __init__(self, device: str, verbose: bool) -> None:
        assert (device, verbose) == ("cpu", False)
        type(self).made += 1

    def embed_utterance(self, wave: Wave) -> Wave:
        assert torch.get_num_threads() == 1
        embedding = np.array([wave.mean(), wave.std()], np.float32)
        return embedding / np.linalg.norm(embedding)


@pytest.fixture
def resemblyzer(monkeypatch: pytest.MonkeyPatch) -> type[_VoiceEncoder]:
    """In the place of Resemblyzer: drops samples of exactly 0 as pauses."""
    package: Any = ModuleType("resemblyzer")
    package.VoiceEncoder = _VoiceEncoder
    package.preprocess_wav = lambda wave: wave[wave != 0]
    monkeypatch.setitem(sys.modules, "resemblyzer", package)
    _VoiceEncoder.made = 0
    return _VoiceEncoder


@pytest.fixture
def dnsmos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """In the place of speechmos and onnxruntime: a model that likes loud sound. The list: sessions in use."""
    sessions: list[Any] = []

    class LoudnessMOS:
        def __init__(self, primary: str, p808: str) -> None:
            self.onnx_sess: Any = None
            self.p808_onnx_sess: Any = None

        def __call__(self, wave: Wave, rate: int, personalised: bool) -> dict[str, Any]:
            assert (rate, personalised, wave.dtype.name) == (16_000, False, "float32")
            sessions[:] = [self.onnx_sess, self.p808_onnx_sess]
            return {"ovrl_mos": np.float64(abs(wave).max()), "sig_mos": 4.0, "bak_mos": 4.0, "p808_mos": 4.0}

    def session(path: str, options: Any, providers: list[str]) -> Any:
        return SimpleNamespace(
            path=Path(path), threads=(options.intra_op_num_threads, options.inter_op_num_threads), providers=providers
        )

    module: Any = ModuleType("speechmos.dnsmos")
    module.DNSMOS, module.__file__ = LoudnessMOS, str(tmp_path / "dnsmos.py")
    runtime: Any = ModuleType("onnxruntime")
    runtime.SessionOptions, runtime.InferenceSession = SimpleNamespace, session
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", module)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    return sessions


def test_similarity_is_the_cosine_of_embeddings_without_pauses(resemblyzer: type[_VoiceEncoder]) -> None:
    wave = sentence() + np.float32(0.02)
    padded = np.pad(wave, (9000, 500))
    assert similarity(wave, padded) == pytest.approx(1.0, abs=1e-6)
    other = wave - 2 * wave.mean()
    mean, deviation = float(wave.mean()), float(wave.std())
    expected = (deviation**2 - mean**2) / (deviation**2 + mean**2)
    assert expected < 0.95  # or the tolerance would hide it
    assert similarity(wave, other) == pytest.approx(expected, abs=1e-4)  # float32 means of 20,000 samples
    assert resemblyzer.made == 1


def test_similarity_restores_the_threads_of_torch(resemblyzer: type[_VoiceEncoder]) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        similarity(sentence(), sentence())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_similarity_of_too_little_voice_is_an_error(resemblyzer: type[_VoiceEncoder]) -> None:
    voiced = np.pad(sentence()[5000:11_000], (0, 20_000))
    with pytest.raises(MetricError, match=r"0\.3\d s of voice in the generated: 0\.4 s are needed"):
        similarity(sentence(), voiced)
    with pytest.raises(MetricError, match=r"0\.3\d s of voice in the original"):
        similarity(voiced, sentence())


def test_mos_is_the_overall_quality_of_the_generated_alone_in_one_thread(dnsmos: list[Any], tmp_path: Path) -> None:
    assert mos(sentence()[:0], np.full(9000, 0.25, np.float32)) == 0.25
    assert mos(sentence(), np.full(9000, -0.5, np.float64)) == 0.5
    first = list(dnsmos)
    models = tmp_path / "dnsmos_models"
    assert [session.path for session in first] == [models / "sig_bak_ovr.onnx", models / "model_v8.onnx"]
    assert {(session.threads, *session.providers) for session in first} == {((1, 1), "CPUExecutionProvider")}
    mos(sentence(), sentence())
    assert [one is other for one, other in zip(first, dnsmos, strict=True)] == [True, True]  # loaded once


def test_mos_is_of_the_waveform_as_it_is_played(dnsmos: list[Any]) -> None:
    assert mos(sentence(), np.full(9000, 1.5, np.float32)) == 1.0


@pytest.mark.parametrize("metric", [similarity, mos])
def test_learned_metrics_name_a_wave_that_cannot_be_scored(
    metric: Any, resemblyzer: type[_VoiceEncoder], dnsmos: list[Any]
) -> None:
    broken = sentence().copy()
    broken[777] = np.nan
    for bad, expected in (
        (sentence()[:0], "the generated is empty"),
        (np.zeros(20_000, np.float32), "the generated is silent throughout"),
        (broken, "the generated holds values that are not finite"),
        (sentence()[:6000], r"0\.38 s of the generated: 0\.4 s are needed"),
    ):
        with pytest.raises(MetricError, match=expected):
            metric(sentence(), bad)
    with pytest.raises(ValueError, match=r"the generated is int16 \(3,\): expected float32"):
        metric(sentence(), np.zeros(3, np.int16))


@pytest.mark.parametrize(
    ("metric", "missing"),
    [(similarity, "resemblyzer"), (mos, "speechmos.dnsmos"), (mos, "onnxruntime")],
)
def test_learned_metrics_name_a_missing_package_and_its_extra(
    metric: Any, missing: str, resemblyzer: Any, dnsmos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(PackageMissingError, match=rf"package {missing}.*pip install -e '\.\[judges\]'"):
        metric(sentence(), sentence())


def test_learned_metrics_import_none_of_their_packages() -> None:
    program = (
        "import sys, eval.metrics.learned\n"
        "print(*{'torch', 'resemblyzer', 'librosa', 'speechmos', 'onnxruntime', 'whisper_normalizer'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"


def test_similarity_by_resemblyzer_itself_is_higher_for_the_same_voice() -> None:
    resemblyzer = pytest.importorskip("resemblyzer")
    encoder = resemblyzer.VoiceEncoder("cpu", verbose=False)
    noise = noisy(sentence())
    embedded = [encoder.embed_utterance(resemblyzer.preprocess_wav(wave)) for wave in (sentence(), noise)]
    assert similarity(sentence(), noise) == pytest.approx(float(embedded[0] @ embedded[1]), abs=1e-6)
    assert similarity(sentence(), sentence()) == pytest.approx(1.0, abs=1e-6)
    text = "place red by g nine again"
    again, higher = (synthesize(text, Voice("en-us", 170, pitch, 50)).samples for pitch in (50, 90))
    assert similarity(sentence(), again) > similarity(sentence(), higher) + 0.05
    with pytest.raises(MetricError, match=r"0\.00 s of voice in the generated"):
        similarity(sentence(), np.full(16_000, 1e-4, np.float32))


def test_mos_by_dnsmos_itself_is_higher_without_noise() -> None:
    pytest.importorskip("onnxruntime")
    dnsmos = pytest.importorskip("speechmos.dnsmos")
    clean, noise = mos(sentence(), sentence()), mos(sentence(), noisy(sentence()))
    assert noise == pytest.approx(dnsmos.run(noisy(sentence()), 16_000)["ovrl_mos"], abs=1e-6)
    assert 1 < noise < clean - 0.3 < 5
