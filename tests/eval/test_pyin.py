"""Tracks of pYIN are librosa's own, bin by bin."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from eval.metrics.pyin import BINS_PER_SEMITONE, FMAX, FMIN, FRAME, HOP, Track, pyin
from tests.eval.sounds import Wave, noisy, sentence


def _by_librosa(wave: Wave) -> Track:
    track: Track = librosa.pyin(
        wave,
        fmin=FMIN,
        fmax=FMAX,
        sr=16_000,
        frame_length=FRAME,
        hop_length=HOP,
        resolution=1 / BINS_PER_SEMITONE,
        fill_na=0.0,
    )[0]
    return track


def _click() -> Wave:
    wave: Wave = np.zeros(16_000, np.float32)
    wave[8_000] = 1
    return wave


def _tone(low: float, high: float) -> Wave:
    """A square wave between silences that rises from `low` to `high` Hz."""
    seconds = np.arange(24_000) / 16_000
    wave = np.sign(np.sin(2 * np.pi * np.cumsum(low + (high - low) * seconds / seconds[-1]) / 16_000))
    return np.pad(wave.astype(np.float32), 4_000)


WAVES = {
    "speech": sentence(),
    "speech in noise": noisy(sentence()),
    "speech far below the noise": noisy(sentence(), 1.0),
    "hiss": np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32),
    "click": _click(),
    "tone": _tone(200, 200),
    "tone that rises by more than all pitches": _tone(30, 900),
    "tone below all pitches": _tone(40, 40),
    "less than a frame": np.random.default_rng(1).normal(0, 0.1, 100).astype(np.float32),
    "one sample": np.ones(1, np.float32),
}


@pytest.mark.parametrize("name", WAVES)
def test_pyin_gives_the_track_of_librosa(name: str) -> None:
    expected = _by_librosa(WAVES[name])
    assert pyin(WAVES[name]).tolist() == expected.tolist()
    assert (expected > 0).any() or name not in ("speech", "speech in noise", "tone")
