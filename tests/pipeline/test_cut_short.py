"""Files that begin or end in the middle: broadcasts are built, others are skipped with the true reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.media.errors import ClipError
from tests.pipeline.odd_files import Ffmpeg, flashes_and_clicks, sample_of


def cut(path: Path, first: float, last: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[int(first * len(content)) : int(last * len(content))])
    return path


def test_broadcast_may_begin_in_the_middle_of_a_picture(ffmpeg: Ffmpeg, source: Path) -> None:
    form = ["-c:v", "mpeg2video", "-g", "12", "-q:v", "2", "-ar", "48000", "-c:a", "mp2"]
    sample = sample_of(cut(ffmpeg("-i", source, *form, "cut.mpg"), 0.2, 1))
    assert sample.meta.notes == ["the recording begins in the middle of a picture"]
    flashes, clicks = flashes_and_clicks(sample)
    assert 0 < flashes[0] < 1
    assert clicks == pytest.approx(flashes, abs=0.021)


def test_broadcast_in_parts_may_begin_in_the_middle_of_a_picture(ffmpeg: Ffmpeg, source: Path) -> None:
    form = ["-c:v", "mpeg2video", "-g", "12", "-q:v", "2", "-ar", "48000", "-c:a", "mp2"]
    path = ffmpeg("-i", source, *form, "parts.ts")
    whole = path.read_bytes()
    path.write_bytes(cut(path, 0.2, 1).read_bytes() + whole)
    flashes, clicks = flashes_and_clicks(sample_of(path))
    assert len(flashes) == 2
    assert clicks == pytest.approx(flashes, abs=0.041)


def test_broadcast_may_end_in_the_middle_of_a_packet(ffmpeg: Ffmpeg, source: Path) -> None:
    form = ["-c:v", "libx264", "-ar", "48000", "-c:a", "aac"]
    path = ffmpeg("-i", source, *form, "cut.ts")
    path.write_bytes(path.read_bytes()[:-100])
    sample = sample_of(path)
    assert sample.meta.notes == ["the recording ends in the middle of a packet"]
    assert flashes_and_clicks(sample)[0] == [1.0]


def test_broadcast_damaged_in_its_middle_is_skipped(ffmpeg: Ffmpeg, source: Path) -> None:
    path = ffmpeg("-i", source, "-c:v", "mpeg2video", "-q:v", "2", "-ar", "48000", "-c:a", "mp2", "damaged.mpg")
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 1000] = bytes(1000)
    path.write_bytes(content)
    with pytest.raises(ClipError, match="video_damaged"):
        sample_of(path)


@pytest.mark.parametrize("name", ["cut.avi", "cut.mp4"])
def test_file_that_is_cut_off_is_skipped_as_truncated(ffmpeg: Ffmpeg, source: Path, name: str) -> None:
    form = ["-c:v", "mpeg4", "-q:v", "2", "-ar", "44100", "-c:a", "libmp3lame"]
    fast = ["-movflags", "faststart"] if name.endswith("mp4") else []
    with pytest.raises(ClipError, match="video_truncated"):
        sample_of(cut(ffmpeg("-i", source, *form, *fast, name), 0, 0.6))


def test_avi_without_its_index_is_whole(ffmpeg: Ffmpeg, source: Path) -> None:
    path = ffmpeg("-i", source, "-c:v", "mjpeg", "-q:v", "2", "-c:a", "pcm_s16le", "whole.avi")
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"idx1")])
    sample = sample_of(path)
    assert (sample.meta.frames, flashes_and_clicks(sample)[0]) == (50, [1.0])
