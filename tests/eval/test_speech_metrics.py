"""Scores are those of pystoi and pesq over the common length, and a pair without a score says why."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import librosa
import numpy as np
import pesq
import pystoi
import pytest

from eval.metrics import MetricError
from eval.metrics.registry import SPEECH_METRICS
from eval.metrics.speech import estoi, pesq_narrow, pesq_wide, resample_to_8_khz, stoi
from tests.eval.sounds import noisy, sentence

# learned metrics need packages of an extra
MEASURED = {name: metric.function for name, metric in SPEECH_METRICS.items() if name not in ("similarity", "mos")}
EVERY = pytest.mark.parametrize("metric", MEASURED.values(), ids=MEASURED)


@pytest.mark.parametrize("level", [0.003, 0.1])
def test_speech_metrics_are_those_of_the_packages(level: float) -> None:
    original = sentence()
    generated = noisy(original, level)
    # ESTOI's own noise of 1e-16 leaves figures alike to 1e-6
    assert stoi(original, generated) == pytest.approx(pystoi.stoi(original, generated, 16_000), abs=1e-6)
    assert estoi(original, generated) == pytest.approx(pystoi.stoi(original, generated, 16_000, True), abs=1e-6)
    assert pesq_wide(original, generated) == pytest.approx(pesq.pesq(16_000, original, generated, "wb"), abs=1e-6)
    halved = [librosa.resample(wave, orig_sr=16_000, target_sr=8000) for wave in (original, generated)]
    assert pesq_narrow(original, generated) == pytest.approx(pesq.pesq(8000, *halved, "nb"), abs=1e-6)


@pytest.mark.parametrize("samples", [16_000, 16_001, 16_002, 16_003, 641])
def test_resampling_for_pesq_is_librosas_default(samples: int) -> None:
    wave = sentence()[4000 : 4000 + samples]
    expected = librosa.resample(wave, orig_sr=16_000, target_sr=8000)
    np.testing.assert_array_equal(resample_to_8_khz(wave), expected)


@EVERY
def test_metrics_ignore_samples_beyond_the_common_length(metric: Any) -> None:
    original, generated = sentence(), noisy(sentence())[:-1601]
    expected = metric(original[:-1601], generated)
    assert metric(original, generated) == expected
    assert metric(original[:-1601], np.append(generated, np.float32(np.nan))) == expected


@pytest.mark.parametrize("name", MEASURED)
def test_metrics_score_more_noise_worse(name: str) -> None:
    original = sentence()
    little, much = (MEASURED[name](original, noisy(original, level)) for level in (0.003, 0.05))
    assert (little > much + 0.05) if SPEECH_METRICS[name].display.higher_is_better else (little < much - 0.05)


@EVERY
@pytest.mark.parametrize("wrong", ["empty", "silent", "not finite"])
@pytest.mark.parametrize("side", ["original", "generated"])
def test_metrics_name_a_wave_that_cannot_be_scored(metric: Any, wrong: str, side: str) -> None:
    bad = {"empty": sentence()[:0], "silent": np.zeros(20_000, np.float32), "not finite": sentence().copy()}[wrong]
    if wrong == "not finite":
        bad[777] = np.inf
    pair = (bad, sentence()) if side == "original" else (sentence(), bad)
    with pytest.raises(MetricError, match=f"the {side} (is|holds values that are) {wrong}"):
        metric(*pair)


@pytest.mark.parametrize("metric", [stoi, estoi])
def test_stoi_of_too_little_sound_is_an_error(metric: Any) -> None:
    short = sentence()[4000:8000]
    with pytest.raises(MetricError, match=r"less than 0\.4 s of sound"):
        metric(short, noisy(short))
    long = np.pad(short, (0, 30_000)) + np.float32(1e-6)  # of 2 s, but most of it is a pause
    with pytest.raises(MetricError, match=r"less than 0\.4 s of sound, without pauses"):
        metric(long, noisy(long))


@pytest.mark.parametrize(("metric", "hz"), [(pesq_narrow, 7000), (pesq_wide, 20)], ids=["narrow", "wide"])
def test_pesq_without_an_utterance_or_of_too_little_sound_is_an_error(metric: Any, hz: float) -> None:
    tone = np.sin(2 * np.pi * hz / 16_000 * np.arange(16_000)).astype(np.float32)
    with pytest.raises(MetricError, match="PESQ: No utterances"):
        metric(tone, tone)
    with pytest.raises(MetricError, match=r"PESQ: .*1/4"):
        metric(sentence()[:3000], noisy(sentence()[:3000]))


@pytest.mark.parametrize("metric", [pesq_narrow, pesq_wide])
def test_pesq_of_too_long_a_wave_is_an_error_and_as_many_utterances_as_fit_are_scored(metric: Any) -> None:
    random = np.random.default_rng(0)
    utterance = np.append(random.normal(0, 0.1, 3400), np.zeros(3400)).astype(np.float32)
    many = np.tile(utterance, 60)  # 25.5 s; scored, they end the process
    with pytest.raises(MetricError, match=r"25\.5 s: more than the 20 s"):
        metric(many, noisy(many, 1e-4))
    assert metric(many[:320_000], noisy(many, 1e-4)) > 1


@EVERY
def test_metrics_of_any_length_are_finite_or_an_error(metric: Any) -> None:
    random = np.random.default_rng(0)
    for samples in (1, 2, 255, 410, 6300, 6400, 6401, 6600, 6800, 7000):
        wave = random.normal(0, 0.1, samples).astype(np.float32)
        try:
            figure = metric(wave, noisy(wave))
        except MetricError:
            continue
        assert np.isfinite(figure)
        assert figure != pytest.approx(1e-5, abs=1e-12)


def test_estoi_of_digital_silence_is_deterministic_and_leaves_random_numbers_alone() -> None:
    generated = noisy(sentence())
    generated[5000:20_000] = 0  # there, what noise ESTOI draws is all there is
    np.random.seed(5)
    first = estoi(sentence(), generated)
    drawn = np.random.random()
    np.random.seed(5)
    assert np.random.random() == drawn
    np.random.seed(6)
    assert estoi(sentence(), generated) == first


def test_metrics_refuse_arrays_of_another_kind() -> None:
    with pytest.raises(ValueError, match=r"the generated is int16 \(3,\): expected float32"):
        stoi(sentence(), np.zeros(3, np.int16))
    with pytest.raises(ValueError, match=r"the original is float32 \(1, 3\): expected float32 \(samples,\)"):
        stoi(np.zeros((1, 3), np.float32), sentence())


def test_metrics_import_neither_torch_nor_ray_nor_slow_packages() -> None:
    dear = {"torch", "ray", "pystoi", "pesq", "jiwer", "librosa", "scipy", "numba"}
    program = f"import sys, eval.metrics; print(*{dear} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"
