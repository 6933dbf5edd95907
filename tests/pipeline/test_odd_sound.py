"""Sound of odd files: of several channels and streams, the one that was spoken into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.odd_files import Ffmpeg, flashes_and_clicks, sample_of


@pytest.mark.parametrize(
    ("mix", "note"),
    [
        ("c0=c0|c1=-1*c0", "the channels are in opposite phase"),
        ("c0=0.7*c0|c1=-1*c0", "the channels are in opposite phase: the louder one, 2 of 2"),
        ("c0=0*c0|c1=c0", "channel 1 of 2 is silent: channel 2 was taken"),
        ("c0=c0|c1=0*c0", "channel 2 of 2 is silent: channel 1 was taken"),
    ],
)
@pytest.mark.parametrize("form", [["aac", "clip.mp4"], ["pcm_s16le", "clip.mov"]], ids=lambda form: str(form[0]))
def test_sound_of_channels_whose_mix_is_wrong_is_that_of_the_louder(
    ffmpeg: Ffmpeg, source: Path, mix: str, note: str, form: list[str]
) -> None:
    stereo = ffmpeg("-i", source, "-af", f"pan=stereo|{mix}", "-c:v", "copy", "-c:a", *form)
    found, mono = sample_of(stereo), sample_of(source)
    assert note in found.meta.notes[0]
    assert len(found.meta.notes) == 1
    assert np.abs(found.wav.astype(int)).max() == pytest.approx(np.abs(mono.wav.astype(int)).max(), rel=0.1)
    assert flashes_and_clicks(found)[1] == pytest.approx([1.0], abs=0.002)


def test_sound_of_two_good_channels_is_mixed(ffmpeg: Ffmpeg, source: Path) -> None:
    for mix in ("c0=c0|c1=c0", "c0=c0|c1=0.1*c0"):
        stereo = ffmpeg("-i", source, "-af", f"pan=stereo|{mix}", "-c:v", "copy", "-c:a", "aac", "clip.mp4")
        assert sample_of(stereo).meta.notes == []


@pytest.mark.parametrize("flags", ["comment", "comment+default", "visual_impaired+default"])
def test_sound_of_a_commentary_is_passed_over_for_another(ffmpeg: Ffmpeg, source: Path, flags: str) -> None:
    mix = ["-filter_complex", "[0:a]volume=0.1[low]", "-map", "0:v", "-map", "[low]", "-map", "0:a"]
    coded = ["-c:v", "copy", "-c:a", "pcm_s16le", "-disposition:a:0", flags, "-disposition:a:1", "0"]
    found = sample_of(ffmpeg("-i", source, *mix, *coded, "two.mkv"))
    assert np.abs(found.wav.astype(int)).max() == pytest.approx(
        np.abs(sample_of(source).wav.astype(int)).max(), rel=0.1
    )


@pytest.mark.parametrize("unknown", [0, 1])
@pytest.mark.parametrize("flags", [("default", "0"), ("default", "default"), ("0", "default")])
def test_sound_in_an_unknown_codec_is_passed_over_for_another(
    ffmpeg: Ffmpeg, source: Path, unknown: int, flags: tuple[str, str]
) -> None:
    streams = ["-map", "0:v", "-map", "0:a", "-map", "0:a", "-c:v", "copy", "-c:a", "aac"]
    dispositions = ["-disposition:a:0", flags[0], "-disposition:a:1", flags[1]]
    path = ffmpeg("-i", source, *streams, *dispositions, "two.mov")
    content = bytearray(path.read_bytes())
    entries = [
        at
        for at in range(16, len(content))
        if content[at : at + 4] == b"mp4a" and content[at - 12 : at - 16 : -1] != b""
    ]
    entries = [at for at in entries if content[at - 16 : at - 12] == b"stsd"]
    for old, new in ((b"mp4a", b"apac"), (b"mp4a", b"apac"), (b"esds", b"dapa")):
        at = content.find(old, entries[unknown], entries[unknown] + 200)
        if at >= 0:
            content[at : at + 4] = new
    path.write_bytes(content)
    flashes, clicks = flashes_and_clicks(sample_of(path))
    assert flashes == [1.0]
    assert clicks == pytest.approx([1.0], abs=0.03)


@pytest.mark.parametrize("odd", [False, True])
def test_sound_that_is_silent_is_passed_over_for_another_stream(ffmpeg: Ffmpeg, source: Path, odd: bool) -> None:
    streams = ["-filter_complex", "[0:a]volume=0[no]", "-map", "0:v", "-map", "[no]", "-map", "0:a"]
    coded = ["-c:v", "copy", "-c:a", "pcm_s16le", "-disposition:a:0", "default", "-disposition:a:1", "0"]
    found = sample_of(ffmpeg("-i", source, *streams, *coded, *["-aspect", "2:1"] * odd, "tracks.mkv"))
    assert found.meta.notes[odd:] == ["audio stream 1 is silent: stream 2 was taken"]
    assert flashes_and_clicks(found)[1] == pytest.approx([1.0], abs=0.002)
