"""Spectral distances are what their definitions say, step by step and by another library."""

from __future__ import annotations

import math
from typing import Any

import librosa
import numpy as np
import pytest

from eval.metrics import MetricError
from eval.metrics.spectral import MAX_FRAMES, dtw, lsd, mcd, mel_cepstrum
from tests.eval.sounds import Wave, noisy, sentence


def _noise(seed: int = 0, samples: int = 16_000) -> Wave:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def _aside(one: Wave, other: Wave) -> float:
    """Mel-cepstral distortion without alignment."""
    squares = np.square(mel_cepstrum(one) - mel_cepstrum(other)).sum(axis=1)
    return float(10 / math.log(10) * np.sqrt(2 * squares).mean())


@pytest.mark.parametrize("metric", [lsd, mcd])
def test_spectral_distance_of_a_wave_to_itself_is_zero(metric: Any) -> None:
    assert metric(sentence(), sentence()) == 0


@pytest.mark.parametrize("gain", [0.5, 2.0, 8.0])
def test_lsd_of_a_gain_is_its_decibels_and_mcd_is_zero(gain: float) -> None:
    # powers of two, which samples take without rounding
    assert lsd(_noise(), np.float32(gain) * _noise()) == pytest.approx(abs(20 * math.log10(gain)), abs=1e-9)
    assert mcd(_noise(), np.float32(gain) * _noise()) == pytest.approx(0, abs=1e-9)


def test_lsd_is_its_definition_frame_by_frame() -> None:
    original, generated = sentence()[:8000], noisy(sentence())[:8000]
    hann = [math.sin(math.pi * n / 512) ** 2 for n in range(512)]
    floor = 192 * (2**-15) ** 2 / 12  # sum of the window's squares, times the variance of a rounded 16-bit sample
    distances = []
    for start in range(0, 8000 - 511, 128):
        decibels = []
        for wave in (original, generated):
            power = np.abs(np.fft.rfft(wave[start : start + 512].astype(np.float64) * hann)) ** 2
            decibels.append(10 * np.log10(np.maximum(power, floor)))
        distances.append(math.sqrt(((decibels[0] - decibels[1]) ** 2).mean()))
    assert lsd(original, generated) == pytest.approx(np.mean(distances), abs=1e-9)


def test_lsd_of_digital_silence_is_bounded_by_16_bit_rounding() -> None:
    soft = sentence() + _noise(1, len(sentence())) * np.float32(1e-6)
    assert lsd(sentence(), soft) < 0.5


def _mel_bands() -> Any:
    """(40, 257): triangles of height 1, evenly spaced on 2595 log10(1 + f / 700)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42) / 2595) - 1)
    bins = np.linspace(0, 8000, 257)
    lower, center, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0, np.minimum((bins - lower) / (center - lower), (upper - bins) / (upper - center)))


COSINES = np.cos(np.pi * np.arange(1, 25)[:, None] * (np.arange(40) + 0.5) / 40)


def test_mcd_is_its_definition() -> None:
    cepstra = []
    for wave in (sentence(), noisy(sentence())[800:]):
        framed = librosa.util.frame(wave[: len(sentence()) - 800].astype(np.float64), frame_length=400, hop_length=80)
        power = np.abs(np.fft.rfft(framed.T * np.hanning(401)[:-1], 512)) ** 2
        bands = power @ _mel_bands().T
        cepstra.append(np.log(np.maximum(bands, bands.max() * 1e-8)) @ COSINES.T / 40)
    summed, path = librosa.sequence.dtw(cepstra[0].T, cepstra[1].T)
    expected = 10 / math.log(10) * math.sqrt(2) * summed[-1, -1] / len(path)
    # the bands' edges lie on bins of the one or the other side by rounding
    assert mcd(sentence(), noisy(sentence())[800:]) == pytest.approx(expected, rel=1e-6)


def test_mcd_is_the_rms_difference_of_smoothed_spectra_in_decibels() -> None:
    one, other = (mel_cepstrum(wave)[40] for wave in (sentence(), noisy(sentence())))
    drawn = 2 * (one - other) @ COSINES
    rms = 10 / math.log(10) * np.sqrt(np.square(drawn).mean())
    assert rms == pytest.approx(10 / math.log(10) * np.sqrt(2 * np.square(one - other).sum()), rel=1e-9)


def test_mcd_aligns_a_delay_and_a_slower_pace() -> None:
    original = noisy(sentence(), 1e-3)
    late = noisy(np.append(np.zeros(1600, np.float32), sentence())[: len(original)], 1e-3, seed=0)
    assert mcd(original, late) < 0.4 * _aside(original, late)
    held = np.concatenate([original[:8000], original[7200:8000], original[7200:8000], original[8000:]])
    assert mcd(original, held[: len(original)]) < 0.4 * _aside(original, held[: len(original)])


@pytest.mark.parametrize(
    ("one", "other", "total", "pairs"),
    [
        ([0, 1, 2], [0, 1, 2], 0, 3),
        ([0, 1, 2], [0, 0, 1, 2, 2], 0, 5),
        ([0, 3], [1], 3, 2),  # 1 and 2
        ([5], [5, 6, 8], 4, 3),
        ([0, 4, 0], [0, 0], 4, 3),
        ([1, 1], [2, 2], 2, 2),  # straight on, though three pairs of the same sum there are not
        ([0, 0], [0, 0], 0, 2),  # of equal paths the straight one
    ],
)
def test_dtw_finds_the_path_of_least_cost(one: list[int], other: list[int], total: float, pairs: int) -> None:
    sequences = [np.array(values, np.float64)[:, None] for values in (one, other)]
    assert dtw(*sequences) == (total, pairs)
    assert dtw(*reversed(sequences)) == (total, pairs)


def test_dtw_of_long_sequences_is_that_of_their_stretches() -> None:
    one = np.random.default_rng(0).normal(size=(2 * MAX_FRAMES + 30, 3))
    other = one + np.random.default_rng(1).normal(scale=0.1, size=one.shape)
    stretches = [dtw(one[part], other[part]) for part in (slice(MAX_FRAMES), slice(MAX_FRAMES, None))]
    assert dtw(one, other) == tuple(map(sum, zip(*stretches, strict=True)))


@pytest.mark.parametrize(("metric", "samples", "least"), [(lsd, 511, "32 ms"), (mcd, 399, "25 ms")])
def test_spectral_distance_of_less_than_a_frame_is_an_error(metric: Any, samples: int, least: str) -> None:
    with pytest.raises(MetricError, match=f"{samples} samples: less than a frame of {least}"):
        metric(_noise(), _noise()[:samples])
    assert metric(_noise(), _noise(1)[: samples + 1]) > 1


@pytest.mark.parametrize("metric", [lsd, mcd])
def test_spectral_distance_is_finite_for_sound_outside_all_whole_frames(metric: Any) -> None:
    click = np.zeros(1000, np.float32)
    click[0] = click[-1] = 0.5  # where the window is 0, and beyond the last frame
    assert np.isfinite(metric(click, _noise(0, 1000)))
    assert metric(click, click) == 0
