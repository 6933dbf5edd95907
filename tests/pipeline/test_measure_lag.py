"""Measuring the lag between lips and sound: a corpus out of step is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.measure_lag import measure_lag
from shards import Sample
from tests.shards.test_format import make_sample


def talking(number: int, frames: int = 75, delay: int = 0) -> Sample:
    """A dark spot that opens and closes in the middle of the region, and noise as loud as it is open, `delay` later."""
    random = np.random.default_rng(number)
    opening = np.clip(np.convolve(random.normal(0, 1, frames + 60), np.ones(4) / 2, "same"), 0, 2)[30:-30]
    sample = make_sample(f"main/s/{number}", frames=frames, crop_radius=40)
    rows = np.abs(np.arange(90) - 45)[:, None]
    columns = np.abs(np.arange(90) - 45)[None]
    mouth = (rows < 8 * opening[:, None, None]) & (columns < 15)
    roi = np.where(mouth, 40, 150) + random.normal(0, 4, (frames, 90, 90))
    loudness = np.repeat(np.roll(opening, delay), 640)
    wav = (random.normal(0, 1, frames * 640) * (50 + 3000 * loudness)).clip(-32768, 32767)
    return replace(sample, roi=roi.clip(0, 255).astype(np.uint8), wav=wav.astype(np.int16))


@pytest.mark.parametrize("delay", [-8, -1, 0, 3, 10])
def test_measure_lag_finds_it_in_either_direction(delay: int) -> None:
    lag = measure_lag(talking(number, delay=delay) for number in range(8))
    assert lag is not None
    assert lag.seconds == pytest.approx(delay / 25, abs=0.02)
    assert lag.explained > 0.5
    assert lag.clips == 8


def test_measure_lag_explains_nothing_of_sound_unrelated_to_the_lips() -> None:
    clips = [talking(number) for number in range(8)]
    other = [replace(clip, wav=clips[number - 1].wav) for number, clip in enumerate(clips)]
    lag = measure_lag(other)
    assert lag is not None
    assert lag.explained < 0.1


def test_measure_lag_gives_none_for_clips_too_few_or_too_short() -> None:
    assert measure_lag([]) is None
    assert measure_lag([talking(0)]) is None
    assert measure_lag([talking(number, frames=40) for number in range(5)]) is None


def test_measure_lag_finds_real_footage_in_step_and_a_shift_of_it(footage: Path) -> None:
    from pipeline.clip import Corpus, build_sample
    from pipeline.config import BuildSettings
    from pipeline.corpora import index_corpus

    settings = BuildSettings(dataset="lrs2", root=str(footage / "LRS2-BBC"))
    clips = [clip for clip in index_corpus(settings).clips if clip.split == "val"][:40]
    samples = [build_sample(clip, settings, Corpus.of(settings)) for clip in clips]
    lag = measure_lag(samples)
    assert lag is not None
    assert abs(lag.seconds) < 0.04
    assert lag.explained > 0.3
    late = measure_lag(replace(sample, wav=np.roll(sample.wav, 640 * 4)) for sample in samples)
    assert late is not None
    assert late.seconds - lag.seconds == pytest.approx(0.16, abs=0.02)
