"""Scores are those of pystoi and pesq over the common length, and a pair without a score says why."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from eval.metrics import SPEECH_METRICS, MetricError, PackageMissingError, estoi, pesq_narrow, pesq_wide, stoi
from eval.metrics.speech import _at_8_khz
from tests.eval.sounds import noisy, sentence

pystoi = pytest.importorskip("pystoi")
pesq = pytest.importorskip("pesq")
librosa = pytest.importorskip("librosa")

# those of a judge's opinion need packages that bring their weights
MEASURED = {name: metric.function for name, metric in SPEECH_METRICS.items() if name not in ("similarity", "mos")}
EVERY = pytest.mark.parametrize("metric", MEASURED.values(), ids=MEASURED)


@pytest.mark.parametrize("level", [0.003, 0.1])
def test_scores_are_those_of_the_packages(level: float) -> None:
    original = sentence()
    generated = noisy(original, level)
    # ESTOI's own noise of 1e-16 leaves figures alike to 1e-6
    assert stoi(original, generated) == pytest.approx(pystoi.stoi(original, generated, 16_000), abs=1e-6)
    assert estoi(original, generated) == pytest.approx(pystoi.stoi(original, generated, 16_000, True), abs=1e-6)
    assert pesq_wide(original, generated) == pytest.approx(pesq.pesq(16_000, original, generated, "wb"), abs=1e-6)
    halved = [librosa.resample(wave, orig_sr=16_000, target_sr=8000) for wave in (original, generated)]
    assert pesq_narrow(original, generated) == pytest.approx(pesq.pesq(8000, *halved, "nb"), abs=1e-6)


@pytest.mark.parametrize("samples", [16_000, 16_001, 16_002, 16_003, 641])
def test_resampling_is_librosas_default(samples: int) -> None:
    wave = sentence()[4000 : 4000 + samples]
    expected = librosa.resample(wave, orig_sr=16_000, target_sr=8000)
    np.testing.assert_array_equal(_at_8_khz(wave), expected)


@EVERY
def test_what_is_beyond_the_common_length_counts_for_nothing(metric: Any) -> None:
    original, generated = sentence(), noisy(sentence())[:-1601]
    expected = metric(original[:-1601], generated)
    assert metric(original, generated) == expected
    assert metric(original[:-1601], np.append(generated, np.float32(np.nan))) == expected


@pytest.mark.parametrize("name", MEASURED)
def test_more_noise_scores_worse(name: str) -> None:
    original = sentence()
    little, much = (MEASURED[name](original, noisy(original, level)) for level in (0.003, 0.05))
    assert (little > much + 0.05) if SPEECH_METRICS[name].display.higher_is_better else (little < much - 0.05)


@EVERY
@pytest.mark.parametrize("wrong", ["empty", "silent", "not finite"])
@pytest.mark.parametrize("side", ["original", "generated"])
def test_a_wave_that_cannot_be_scored_is_named(metric: Any, wrong: str, side: str) -> None:
    bad = {"empty": sentence()[:0], "silent": np.zeros(20_000, np.float32), "not finite": sentence().copy()}[wrong]
    if wrong == "not finite":
        bad[777] = np.inf
    pair = (bad, sentence()) if side == "original" else (sentence(), bad)
    with pytest.raises(MetricError, match=f"the {side} (is|holds values that are) {wrong}"):
        metric(*pair)


@pytest.mark.parametrize("metric", [stoi, estoi])
def test_too_little_sound_for_stoi_is_no_score(metric: Any) -> None:
    short = sentence()[4000:8000]
    with pytest.raises(MetricError, match=r"less than 0\.4 s of sound"):
        metric(short, noisy(short))
    long = np.pad(short, (0, 30_000)) + np.float32(1e-6)  # of 2 s, but most of it is a pause
    with pytest.raises(MetricError, match=r"less than 0\.4 s of sound, pauses left out"):
        metric(long, noisy(long))


@pytest.mark.parametrize(("metric", "unheard"), [(pesq_narrow, 7000), (pesq_wide, 20)], ids=["narrow", "wide"])
def test_no_utterance_and_too_little_sound_for_pesq_are_no_scores(metric: Any, unheard: float) -> None:
    tone = np.sin(2 * np.pi * unheard / 16_000 * np.arange(16_000)).astype(np.float32)
    with pytest.raises(MetricError, match="PESQ: No utterances"):
        metric(tone, tone)
    with pytest.raises(MetricError, match=r"PESQ: .*1/4"):
        metric(sentence()[:3000], noisy(sentence()[:3000]))


@pytest.mark.parametrize("metric", [pesq_narrow, pesq_wide])
def test_what_is_too_long_for_pesq_is_no_score_and_as_many_utterances_as_fit_are_scored(metric: Any) -> None:
    random = np.random.default_rng(0)
    utterance = np.append(random.normal(0, 0.1, 3400), np.zeros(3400)).astype(np.float32)
    many = np.tile(utterance, 60)  # 25.5 s; scored, they end the process
    with pytest.raises(MetricError, match=r"25\.5 s: more than the 20 s"):
        metric(many, noisy(many, 1e-4))
    assert metric(many[:320_000], noisy(many, 1e-4)) > 1


@EVERY
def test_whatever_the_length_there_is_a_finite_score_or_a_reason(metric: Any) -> None:
    random = np.random.default_rng(0)
    for samples in (1, 2, 255, 410, 6300, 6400, 6401, 6600, 6800, 7000):
        wave = random.normal(0, 0.1, samples).astype(np.float32)
        try:
            figure = metric(wave, noisy(wave))
        except MetricError:
            continue
        assert np.isfinite(figure)
        assert figure != pytest.approx(1e-5, abs=1e-12)


def test_estoi_of_a_wave_with_digital_silence_is_the_same_each_time_and_leaves_random_numbers_alone() -> None:
    generated = noisy(sentence())
    generated[5000:20_000] = 0  # there, what noise ESTOI draws is all there is
    np.random.seed(5)
    first = estoi(sentence(), generated)
    drawn = np.random.random()
    np.random.seed(5)
    assert np.random.random() == drawn
    np.random.seed(6)
    assert estoi(sentence(), generated) == first


def test_arrays_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the generated is int16 \(3,\): expected float32"):
        stoi(sentence(), np.zeros(3, np.int16))
    with pytest.raises(ValueError, match=r"the original is float32 \(1, 3\): expected float32 \(samples,\)"):
        stoi(np.zeros((1, 3), np.float32), sentence())


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(PackageMissingError, match=r"package pesq.*pip install -e '\.\[eval\]'"):
        pesq_wide(sentence(), sentence())


def test_importing_the_metrics_imports_neither_torch_nor_ray_nor_the_extra() -> None:
    dear = {"torch", "ray", "pystoi", "pesq", "jiwer", "librosa", "scipy", "numba"}
    program = f"import sys, eval.metrics; print(*{dear} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"
