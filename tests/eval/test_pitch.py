"""Errors in F0 are musical intervals, and errors in voicing shares of the frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eval.metrics import MetricError
from eval.metrics.pitch import f0_error, f0_track, voicing_error
from tests.eval.sounds import Wave, sentence


def _glide(cents: float = 0.0, seconds: float = 1.5) -> Wave:
    """A buzz of ten harmonics that glides from 110 to 180 Hz, or as many cents higher."""
    times = np.arange(int(16_000 * seconds)) / 16_000
    hz = 2 ** (cents / 1200) * 110 * (180 / 110) ** (times / seconds)
    phase = 2 * np.pi * np.cumsum(hz) / 16_000
    harmonics = np.arange(1, 11)[:, None]
    wave: Wave = (0.1 * (np.sin(harmonics * phase) / harmonics).sum(axis=0)).astype(np.float32)
    return wave


def _hiss() -> Wave:
    return np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)


@pytest.mark.parametrize("cents", [100, -100, 330])
def test_f0_error_of_a_shifted_melody_is_its_cents(cents: float) -> None:
    # F0 comes in steps of 20 cents: 10 at most on either side, 8 in the mean
    assert f0_error(_glide(), _glide(cents)) == pytest.approx(abs(cents), abs=8)
    assert voicing_error(_glide(), _glide(cents)) < 2


def test_pitch_errors_of_a_wave_and_itself_are_zero_at_any_level() -> None:
    for gain in (1, 1e-12, 100):
        assert f0_error(sentence(), np.float32(gain) * sentence()) == 0
        assert voicing_error(sentence(), np.float32(gain) * sentence()) == 0


def test_f0_track_is_that_of_the_glide() -> None:
    times = np.arange(0, 24_000 + 1, 160) / 16_000
    expected = 110 * (180 / 110) ** (times / 1.5)
    found = f0_track(_glide().tobytes())
    assert found.shape == expected.shape
    inside = slice(5, -5)
    # half a step of 20 cents, and a little for the middle of the frame
    assert np.abs(1200 * np.log2(found[inside] / expected[inside])).max() < 15


def test_voicing_error_of_a_half_silenced_wave_is_half() -> None:
    generated = _glide()
    generated[12_000:] = 0
    # one or two of 151 frames at the edge
    assert voicing_error(_glide(), generated) == pytest.approx(50, abs=2)
    assert voicing_error(generated, _glide()) == voicing_error(_glide(), generated)
    assert f0_error(_glide(), generated) < 10


def test_f0_error_without_a_frame_voiced_in_both_is_an_error() -> None:
    with pytest.raises(MetricError, match="no frame is voiced in both"):
        f0_error(_glide(), _hiss())
    assert voicing_error(_glide(), _hiss()) > 90
    assert voicing_error(_hiss(), _hiss()[::-1]) < 5


def test_f0_is_tracked_once_for_both_metrics_and_all_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    import librosa

    tracked: list[int] = []
    pyin = librosa.pyin

    def counted(wave: Any, **settings: Any) -> Any:
        tracked.append(len(wave))
        return pyin(wave, **settings)

    monkeypatch.setattr(librosa, "pyin", counted)
    f0_track.cache_clear()
    original, systems = _glide(seconds=0.5), [_glide(cents, 0.5) for cents in (100, 200)]
    figures = [metric(original, system) for system in systems for metric in (f0_error, voicing_error)]
    assert len(tracked) == 3
    assert figures == [metric(original, system) for system in systems for metric in (f0_error, voicing_error)]
    assert len(tracked) == 3
