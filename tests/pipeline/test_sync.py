"""Sound and picture on one clock, whatever the container does with time."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.clip import Corpus, build_sample
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from pipeline.media.errors import ClipError
from pipeline.media.sound_runs import SoundRun
from pipeline.media.spool import Spool
from pipeline.media.sync import sound_at_16k
from shards import Sample
from tests.corpora import click_track, pictures, write_video


def sample_of(path: Path, **changes: Any) -> Sample:
    clip = CorpusClip("main/a/b", "train", "main", "a", path.name, None, None, None, 30, (path.stat().st_size, 0, 0))
    settings = BuildSettings("folder", str(path.parent), lip_box="80,80", transcripts="optional", **changes)
    return build_sample(clip, settings, Corpus.of(settings))


def flash_and_click(sample: Sample) -> tuple[float, float]:
    """Seconds at which the picture turns white and at which the click begins."""
    bright = sample.roi.reshape(len(sample.roi), -1).mean(axis=1)
    click = np.abs(sample.wav.astype(float))
    return float(np.argmax(bright > 200)) / 25, float(np.argmax(click > 0.5 * click.max())) / 16_000


@pytest.mark.parametrize("sound_start", [Fraction(0), Fraction(13, 100), Fraction(-1, 10)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_decode_puts_sound_that_starts_off_frame_0_in_step(tmp_path: Path, sound_start: Fraction, suffix: str) -> None:
    # the click comes 0.8 s after frame 0, wherever the sound begins
    sound = click_track(1.6, 0.8 - float(sound_start))
    begin = max(Fraction(0), -sound_start)
    times = [begin + Fraction(n, 25) for n in range(40)]
    path = write_video(
        tmp_path / f"clip{suffix}", pictures(40, [20]), sound, times=times, sound_start=begin + sound_start
    )
    flash, click = flash_and_click(sample_of(path))
    assert flash == pytest.approx(0.8)
    assert click == pytest.approx(0.8, abs=0.002)


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30000, 1001), Fraction(50), Fraction(10)])
def test_decode_resamples_other_frame_rates_to_25_in_step(tmp_path: Path, rate: Fraction) -> None:
    count = int(2 * rate)
    shown = [n for n in range(count) if n / rate >= 1]
    path = write_video(tmp_path / "clip.mp4", pictures(count, shown), click_track(2.0, 1.0), rate=rate)
    sample = sample_of(path)
    flash, click = flash_and_click(sample)
    assert abs(len(sample.roi) - 50) <= 1
    # the first frame at or after one second begins up to one source frame late, and a 25th is the grid
    assert -0.02 <= flash - 1.0 <= float(1 / rate) + 0.02
    assert click == pytest.approx(1.0, abs=0.002)
    assert "resampled to" in " ".join(sample.meta.notes)


def test_decode_resamples_a_variable_frame_rate_in_step(tmp_path: Path) -> None:
    kept = [n for n in range(50) if n % 7 not in (3, 4)]
    frames = pictures(50, range(25, 50))[kept]
    path = write_video(tmp_path / "clip.mp4", frames, click_track(2.0, 1.0), times=[Fraction(n, 25) for n in kept])
    sample = sample_of(path)
    flash, click = flash_and_click(sample)
    assert len(sample.roi) == 50
    assert flash == pytest.approx(1.0, abs=0.041)
    assert click == pytest.approx(1.0, abs=0.002)


def test_decode_keeps_25_frames_a_second_one_by_one(tmp_path: Path) -> None:
    sample = sample_of(write_video(tmp_path / "clip.mp4", pictures(31), click_track(1.24, 0.5)))
    assert len(sample.roi) == 31
    assert sample.meta.notes == []
    assert (np.abs(np.diff(sample.roi.astype(int), axis=0)).mean(axis=(1, 2)) > 1).all(), "each frame is another one"


@pytest.mark.parametrize("sound_rate", [8_000, 44_100, 48_000])
def test_decode_resamples_other_sample_rates_to_16_khz_in_step(tmp_path: Path, sound_rate: int) -> None:
    sound = click_track(1.6, 0.8, sound_rate)
    path = write_video(tmp_path / "clip.mp4", pictures(40, [20]), sound, sound_rate=sound_rate)
    sample = sample_of(path)
    assert len(sample.wav) == 640 * 40
    assert flash_and_click(sample)[1] == pytest.approx(0.8, abs=0.002)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("late.mkv", ["-output_ts_offset", "3"]),
        ("late.webm.mkv", ["-output_ts_offset", "0.7"]),
        ("plain.ts", []),
        ("fragments.mp4", ["-movflags", "frag_keyframe+empty_moov"]),
    ],
)
def test_decode_gives_the_same_of_a_file_copied_into_another_container(
    tmp_path: Path, name: str, flags: list[str]
) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    source = tmp_path / "source.mp4"
    # with B-frames: their times do not come in the order of the packets
    frames, sound = pictures(50, [25]), click_track(2.0, 1.0)
    write_video(source, frames, sound, encoder={"bf": "3", "preset": "medium"}, sound_codec="libmp3lame")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", source, "-c", "copy", *flags, tmp_path / name]
    subprocess.run(command, check=True)
    original, copied = sample_of(source), sample_of(tmp_path / name)
    assert len(copied.roi) == 50
    np.testing.assert_array_equal(copied.roi, original.roi)
    flash, click = flash_and_click(copied)
    assert flash == pytest.approx(1.0)
    assert click == pytest.approx(1.0, abs=0.03)


def test_decode_keeps_the_order_of_frames_of_avi_which_has_no_presentation_times(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    shown = pictures(50)
    shown[:] = np.linspace(20, 230, 50).astype(np.uint8)[:, None, None, None]
    source = write_video(tmp_path / "source.mkv", shown, click_track(2.0, 1.0), sound_codec="pcm_s16le")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", source, "-r", "25", "-c:v", "libx264", "-bf", "3"]
    subprocess.run([*command, "-c:a", "pcm_s16le", tmp_path / "clip.avi"], check=True)
    sample = sample_of(tmp_path / "clip.avi")
    assert sample.meta.notes == []
    brightness = sample.roi.reshape(50, -1).mean(axis=1)
    assert (np.diff(brightness) > 2).all()


def test_decode_pads_sound_that_ends_early_with_silence_and_notes_where(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", pictures(40), click_track(1.0, 0.5), sound_codec="pcm_s16le")
    sample = sample_of(path)
    first, last = sample.meta.sound
    assert (first, last) == (0, 16_000)
    assert not sample.wav[last:].any()
    assert (sample.mel[:, 104:] == -1).all(), "the padding is silence"


def test_decode_keeps_a_gap_in_the_sound() -> None:
    ones = np.ones(1600, np.float32)
    runs = [SoundRun(16_000, start, Spool(ones), count=1600) for start in (0.0, 0.5)]
    sound, span = sound_at_16k(runs, 0.0, 25)
    assert sound[1599] == 1
    assert not sound[1600:8000].any()
    assert (sound[8000:9600] == 1).all()
    assert span == (0, 9600)


@pytest.mark.parametrize(
    ("times", "what"),
    [([0, 1, 2, 10**7], "spread over"), ([0, 10**6, 2 * 10**6], "spread over")],
)
def test_decode_refuses_broken_time_stamps_before_they_cost_memory(
    tmp_path: Path, times: Sequence[int], what: str
) -> None:
    path = write_video(
        tmp_path / "clip.mkv", pictures(len(times)), click_track(0.5, 0.2), times=[Fraction(time) for time in times]
    )
    with pytest.raises(ClipError, match=what):
        sample_of(path)
