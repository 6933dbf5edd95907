"""The picture of a video is copied, and the sound put under it fits."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from eval.synthesize.mux import check_container, mux_sound
from pipeline.media.crop import CenterCrop
from pipeline.media.decode import decode_video
from pipeline.media.sync import sound_at_16k
from tests.corpora import click_track, pictures, write_video


def packets(path: Path) -> tuple[list[bytes], list[float]]:
    """Bytes of each packet of the picture, and its presentation time in seconds, to the millisecond of Matroska."""
    with av.open(str(path), "r") as container:
        stream = container.streams.video[0]
        found = [packet for packet in container.demux(stream) if packet.size]
        times = [round(float((packet.pts or 0) * Fraction(stream.time_base or 0)), 3) for packet in found]
        return [bytes(packet) for packet in found], times


@pytest.mark.parametrize("start", [Fraction(0), Fraction(3), Fraction(50_000)])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_mux_begins_sound_and_picture_at_0_whenever_the_source_begins(
    tmp_path: Path, suffix: str, start: Fraction
) -> None:
    times = [start + Fraction(n, 25) for n in range(50)]
    # B-frames: their times do not come in the order of the packets
    encoder = {"bf": "3", "preset": "medium"}
    source = write_video(tmp_path / "source.mp4", pictures(50), None, times=times, encoder=encoder)
    out = tmp_path / f"out{suffix}"
    mux_sound(source, (click_track(2.0, 1.0) * 32_767).astype(np.int16), start, out, out)
    copied, shown = packets(out)
    assert copied == packets(source)[0]
    assert sorted(shown) != shown
    assert sorted(shown) == [float(time - start) for time in times]
    picture, runs = decode_video(out.read_bytes(), CenterCrop(lambda frame: (80, 80), 8), with_sound=True)
    assert picture.start == 0
    sound, span = sound_at_16k(runs, float(picture.start), 50)
    assert span == (0, 32_000)
    click = int(np.argmax(np.abs(sound) > 0.4)) / 16_000
    assert click == pytest.approx(1.0, abs=0.002)


def copied(source: Path, out: Path, *, before: list[str]) -> Path:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *before, "-i", source, "-c", "copy", out]
    subprocess.run(command, check=True)
    return out


def test_mux_keeps_hidden_frames_hidden(tmp_path: Path) -> None:
    encoder = {"preset": "medium"}
    source = write_video(tmp_path / "source.mp4", pictures(50, range(13)), click_track(2.0, 1.0), encoder=encoder)
    trimmed = copied(source, tmp_path / "trimmed.mp4", before=["-ss", "0.5"])
    shown, _ = decode_video(trimmed.read_bytes(), CenterCrop(lambda frame: (80, 80), 8), with_sound=False)
    assert len(shown.regions) < 40, "a key frame before the cut is there, and hidden"
    out = tmp_path / "out.mp4"
    check_container(trimmed, out)
    mux_sound(trimmed, np.zeros(16_000, np.int16), shown.start, out, out)
    again, _ = decode_video(out.read_bytes(), CenterCrop(lambda frame: (80, 80), 8), with_sound=False)
    assert np.array_equal(again.regions.read(0, len(again.regions)), shown.regions.read(0, len(shown.regions)))
    assert again.start == shown.start
    with pytest.raises(ValueError, match=r"hides its beginning, which a \.mkv file cannot: try \.mp4"):
        check_container(trimmed, tmp_path / "out.mkv")
