"""Odd videos come out as a player shows them: normalized by FFmpeg where the decoder cannot take them as they stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.media import normalize
from pipeline.media.decode import decode_video
from pipeline.media.errors import ClipError
from tests.corpora import click_track, pictures, write_video
from tests.pipeline.odd_files import Ffmpeg, flashes_and_clicks, sample_of, square_in, with_square


@pytest.mark.parametrize("codec", ["mjpeg", "libx264"])
def test_avi_with_dropped_frames_shows_the_ones_before_for_longer(ffmpeg: Ffmpeg, source: Path, codec: str) -> None:
    keep = ["-vf", "select='not(between(n,5,14))'", "-fps_mode", "passthrough"]
    sample = sample_of(ffmpeg("-i", source, *keep, "-c:v", codec, "-q:v", "2", "-c:a", "pcm_s16le", "dropped.avi"))
    assert sample.meta.frames == 50
    flashes, clicks = flashes_and_clicks(sample)
    assert flashes == [1.0]
    assert clicks == pytest.approx([1.0], abs=0.002)
    assert "10 frames were dropped when the AVI was made" in sample.meta.notes[0]


@pytest.mark.parametrize("count", [40, 50])
def test_coordinates_are_of_the_frames_stored_or_of_those_shown(ffmpeg: Ffmpeg, tmp_path: Path, count: int) -> None:
    frames = np.full((50, 120, 160), 70, np.uint8)
    for number in range(50):
        frames[number, 50:70, 2 * number + 20 : 2 * number + 40] = 220
    keep = ["-vf", "select='not(between(n,5,14))'", "-fps_mode", "passthrough", "-c:v", "mjpeg", "-q:v", "2"]
    sound = write_video(tmp_path / "sound.mp4", pictures(50), click_track(2.0, 1.0))
    path = ffmpeg("-i", sound, "-map", "0:v", "-map", "1:a", *keep, "-c:a", "pcm_s16le", "d.avi", frames=frames)
    kept = [number for number in range(50) if count == 50 or not 5 <= number < 15]
    sample = sample_of(path, coordinates="/".join(f"{2 * number + 30}/60" for number in kept), crop_radius=15)
    assert sample.meta.frames == 50
    # the square is in the middle of every region, where frames were dropped too
    light = [np.argwhere(region > 150).mean(axis=0) for region in sample.roi]
    assert np.abs(np.array(light) - 19.5).max() < 1
    assert sample.meta.lips[20] == (70, 60)


@pytest.mark.parametrize(
    ("suffix", "codec", "audio"),
    [("ts", "libx264", "mp2"), ("mpg", "mpeg2video", "mp2"), ("vob", "mpeg2video", "ac3"), ("m2ts", "libx264", "ac3")],
)
def test_parts_joined_end_to_end_follow_each_other(
    ffmpeg: Ffmpeg, source: Path, suffix: str, codec: str, audio: str
) -> None:
    part = ffmpeg("-i", source, "-c:v", codec, "-q:v", "2", "-ar", "48000", "-c:a", audio, f"part.{suffix}")
    part.write_bytes(2 * part.read_bytes())
    sample = sample_of(part)
    assert sample.meta.frames == pytest.approx(100, abs=2)
    flashes, clicks = flashes_and_clicks(sample)
    assert flashes == pytest.approx([1.0, 3.0], abs=0.081)
    assert clicks == pytest.approx(flashes, abs=0.02)
    assert "parts were joined" in sample.meta.notes[0]


def test_normalized_frames_are_those_of_the_source_each_at_its_time(ffmpeg: Ffmpeg, source: Path) -> None:
    # four frames within a fortieth of a second, of a file that says 25 frames a second
    times = [40 * number - 30 * max(number - 19, 0) * (number < 24) for number in range(50)]
    pts = "settb=1/1000,setpts='40*N-if(between(N,20,23),30*(N-19),0)',setsar=2/1"
    form = ["-fps_mode", "vfr", "-enc_time_base", "1/1000", "-c:v", "libx264", "-c:a", "aac"]
    path = ffmpeg("-i", source, "-vf", pts, *form, "vary.mkv")
    picture, _ = decode_video(path, lambda number, frame, orientation: np.empty(0, np.uint8), with_sound=False)
    assert "normalized" in picture.notes[0]
    assert [float((tick - picture.ticks[0]) * picture.time_base * 1000) for tick in picture.ticks] == times


def test_normalized_avi_with_b_frames_begins_with_its_sound(ffmpeg: Ffmpeg, source: Path) -> None:
    form = ["-vf", "setsar=2/1", "-c:v", "mpeg4", "-bf", "2", "-q:v", "2", "-c:a", "pcm_s16le"]
    sample = sample_of(ffmpeg("-i", source, *form, "wide.avi"), box=(160, 80))
    flashes, clicks = flashes_and_clicks(sample)
    assert (sample.meta.frames, flashes) == (50, [1.0])
    assert clicks == pytest.approx([1.0], abs=0.002)


def test_parts_of_fragments_that_were_joined_follow_each_other(ffmpeg: Ffmpeg, source: Path) -> None:
    fragments = ["-movflags", "frag_keyframe+empty_moov+default_base_moof", "-c:v", "libx264", "-c:a", "aac"]
    part = ffmpeg("-i", source, *fragments, "part.mp4")
    part.write_bytes(2 * part.read_bytes())
    sample = sample_of(part)
    flashes, clicks = flashes_and_clicks(sample)
    assert flashes == pytest.approx([1.0, 3.1], abs=0.1)
    assert clicks == pytest.approx(flashes, abs=0.03)


def test_parts_joined_may_have_other_sampling_rates(tmp_path: Path) -> None:
    # the sound of the second part comes before the last picture of the first
    parts = [
        write_video(tmp_path / f"{rate}.ts", pictures(30, [10]), click_track(1.2, 0.4, rate), sound_rate=rate)
        for rate in (16_000, 48_000)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    flashes, clicks = flashes_and_clicks(sample_of(joined))
    assert flashes == pytest.approx([0.4, 1.65], abs=0.05)
    assert clicks == pytest.approx(flashes, abs=0.03)


def test_parts_joined_of_matroska_follow_each_other(ffmpeg: Ffmpeg, source: Path) -> None:
    part = ffmpeg("-i", source, "-c", "copy", "part.mkv")
    part.write_bytes(2 * part.read_bytes())
    flashes, clicks = flashes_and_clicks(sample_of(part))
    assert flashes == pytest.approx([1.0, 3.1], abs=0.1)
    assert clicks == pytest.approx(flashes, abs=0.03)


def test_parts_joined_in_a_codec_without_an_encoder_follow_each_other(ffmpeg: Ffmpeg, source: Path) -> None:
    part = ffmpeg("-i", source, "-c:v", "libtheora", "-q:v", "8", "-c:a", "libvorbis", "part.ogv")
    part.write_bytes(2 * part.read_bytes())
    flashes, clicks = flashes_and_clicks(sample_of(part))
    assert clicks == pytest.approx(flashes, abs=0.041)
    assert len(flashes) == 2


def test_parts_joined_whose_times_are_lost_are_skipped_with_the_reason(ffmpeg: Ffmpeg, source: Path) -> None:
    # B-frames: Matroska has no decoding times, and what is made up for them is wrong behind the joint
    part = ffmpeg("-i", source, "-c:v", "libx264", "-bf", "3", "-c:a", "copy", "part.mkv")
    part.write_bytes(2 * part.read_bytes())
    with pytest.raises(ClipError, match=r"times_broken: parts were joined, the clock leaps from [\d.]+ s to -?0\.. s"):
        sample_of(part)


@pytest.mark.parametrize("start", [50_000, 95_442])
def test_transport_stream_may_begin_late_or_wrap(ffmpeg: Ffmpeg, source: Path, start: int) -> None:
    # 33 bits at 90 kHz are 95,443.7 s
    path = ffmpeg(
        "-i", source, "-c:v", "libx264", "-ar", "48000", "-c:a", "mp2", "-output_ts_offset", str(start), "o.ts"
    )
    sample = sample_of(path)
    assert (sample.meta.frames, sample.meta.notes) == (50, [])
    flashes, clicks = flashes_and_clicks(sample)
    assert flashes == [1.0]
    assert clicks == pytest.approx([1.0], abs=0.02)


@pytest.mark.parametrize("name", ["wide.mp4", "wide.mkv", "wide.avi"])
def test_pixels_come_out_square(ffmpeg: Ffmpeg, sound: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    form = ["-vf", "format=yuv420p,setsar=2/1", "-c:v", codec, "-q:v", "2", "-c:a", "libmp3lame", name]
    sample = sample_of(ffmpeg("-i", sound, *form, frames=with_square()), box=(120, 40))
    assert square_in(sample) == pytest.approx((40, 20), abs=1)
    assert sample.meta.lips[0] == (120, 40)
    assert "the pixels are not square (2:1)" in sample.meta.notes[0]


def test_pixels_that_are_square_but_for_rounding_are_left(ffmpeg: Ffmpeg, sound: Path) -> None:
    form = ["-vf", "format=yuv420p,setsar=1280/1279", "-c:v", "libx264", "-c:a", "aac", "plain.mp4"]
    assert sample_of(ffmpeg("-i", sound, *form, frames=with_square())).meta.notes == []


@pytest.mark.parametrize(
    "form",
    [
        ["-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-q:v", "2", "-c:a", "ac3", "fields.mts"],
        ["-c:v", "libx264", "-flags", "+ildct+ilme", "-c:a", "aac", "fields.mp4"],
        ["-c:v", "mpeg4", "-flags", "+ildct+ilme", "-q:v", "2", "-c:a", "libmp3lame", "fields.avi"],
        ["-c:v", "prores_ks", "-flags", "+ildct+ilme", "-c:a", "pcm_s16le", "fields.mov"],
        ["-c:v", "mjpeg", "-field_order", "tt", "-q:v", "2", "-c:a", "pcm_s16le", "fields_of_jpeg.mov"],
    ],
    ids=lambda form: str(form[1]),
)
def test_fields_become_whole_frames(ffmpeg: Ffmpeg, sound: Path, form: list[str]) -> None:
    frames = np.full((50, 120, 160), 70, np.uint8)
    for number in range(50):
        frames[number, :, 2 * number : 2 * number + 30] = 200
    weave = "format=yuv420p,tinterlace=mode=interleave_top,fieldorder=tff"
    path = ffmpeg("-i", sound, "-vf", weave, "-r", "25", *form, frames=frames, rate=50)
    sample = sample_of(path, box=(80, 60), crop_radius=30)
    roi = sample.roi.astype(int)
    assert np.abs(np.diff(roi, axis=1)).mean() < 0.5
    assert roi.max() > 180
    assert sample.meta.frames == pytest.approx(25, abs=1)
    assert "the picture is interlaced" in sample.meta.notes[0]


def crop_matroska(path: Path) -> None:
    """Ask for 40 pixels less on the left and 20 less at the top, in the place of a display size of 8:3."""
    content = path.read_bytes()
    for old, new in ((b"\x54\xb0\x81\x08", b"\x54\xcc\x81\x28"), (b"\x54\xba\x81\x03", b"\x54\xbb\x81\x14")):
        assert content.count(old) == 1
        content = content.replace(old, new)
    path.write_bytes(content)


def crop_mp4(path: Path) -> None:
    """The same by a box `clap`."""
    content = bytearray(path.read_bytes())
    entry = content.find(b"avc1", content.find(b"stsd")) - 4
    end = entry + int.from_bytes(content[entry : entry + 4], "big")
    numbers = (120, 1, 100, 1, 20, 1, 10, 1)
    content[end:end] = b"\0\0\0\x28clap" + b"".join(number.to_bytes(4, "big") for number in numbers)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = content.find(name, content.find(b"moov")) - 4
        content[at : at + 4] = (int.from_bytes(content[at : at + 4], "big") + 40).to_bytes(4, "big")
    path.write_bytes(content)


@pytest.mark.parametrize(("name", "crop"), [("cropped.mkv", crop_matroska), ("cropped.mp4", crop_mp4)])
def test_container_crop_is_cut_off(ffmpeg: Ffmpeg, sound: Path, name: str, crop: Callable[[Path], None]) -> None:
    aspect = ["-aspect", "8:3"] if name.endswith("mkv") else []
    form = ["-vf", "format=yuv420p", "-c:v", "libx264", *aspect, "-c:a", "aac", name]
    path = ffmpeg("-i", sound, *form, frames=with_square(at=(80, 60)))
    crop(path)
    sample = sample_of(path, box=(40, 40), crop_radius=15)
    light = sample.roi[0] > 150
    # 80, 60 in the stored picture is 40, 40 in the shown one
    scale = 2 if name.endswith("mkv") else 1
    assert light[20, 20] == (scale == 1)
    assert "the container crops the picture" in sample.meta.notes[0]


def test_crop_of_the_stream_on_its_left_is_exact(ffmpeg: Ffmpeg, sound: Path) -> None:
    crop = "h264_metadata=crop_left=8:crop_right=8:crop_top=8:crop_bottom=8"
    form = ["-vf", "format=yuv420p", "-c:v", "libx264", "-c:a", "aac", "-bsf:v", crop, "stream.mp4"]
    sample = sample_of(ffmpeg("-i", sound, *form, frames=with_square(at=(80, 60))), box=(72, 52), crop_radius=15)
    assert np.argwhere(sample.roi[0] > 150).mean(axis=0) == pytest.approx((19.5, 19.5), abs=0.5)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (120, 160)])
def test_picture_that_changes_its_size_keeps_that_of_the_first_frame(
    ffmpeg: Ffmpeg, sound: Path, tmp_path: Path, width: int, height: int
) -> None:
    joined = b""
    for part, scaled in (("0", []), ("1", [f"scale={width}:{height}"])):
        form = ["-vf", ",".join(["format=yuv420p", *scaled]), "-c:v", "mpeg2video", "-q:v", "2", "-c:a", "mp2"]
        offset = ["-output_ts_offset", part, f"part{part}.ts"]
        joined += ffmpeg("-i", sound, *form, *offset, frames=with_square(at=(80, 60))).read_bytes()
    (tmp_path / "sizes.ts").write_bytes(joined)
    sample = sample_of(tmp_path / "sizes.ts", box=(80, 60))
    assert sample.meta.frames == pytest.approx(50, abs=1)
    assert sample.roi.shape[1:] == (90, 90)
    last = sample.roi[-1] > 150
    # nothing is stretched: a picture of another shape gets bars
    wide, high = last.any(axis=0).sum(), last.any(axis=1).sum()
    assert (wide, high) == pytest.approx((20, 20) if width == 320 else (11, 20), abs=2)
    assert f"changes its size from 160x120 to {width}x{height}" in sample.meta.notes[0]


def test_picture_turned_by_an_odd_angle_is_turned(ffmpeg: Ffmpeg, source: Path) -> None:
    turned = sample_of(ffmpeg("-display_rotation", "30", "-i", source, "-c", "copy", "turned.mp4"))
    assert turned.meta.frames == 50
    assert "the picture is turned by" in turned.meta.notes[0]


def test_phone_video_of_a_portrait_is_plain_and_comes_out_upright(ffmpeg: Ffmpeg, sound: Path) -> None:
    encoder = ["-c:v", "libx265", "-x265-params", "log-level=none:pools=none", "-tag:v", "hvc1"]
    frames = with_square(size=(136, 240), at=(200, 40))
    lying = ffmpeg(
        "-i", sound, *encoder, "-pix_fmt", "yuv420p", "-r", "30000/1001", "-c:a", "aac", "l.mov", frames=frames
    )
    path = ffmpeg("-display_rotation", "-90", "-i", lying, "-c", "copy", "phone.mov")
    # turned to the right: what was x, y is 136 - y, x
    sample = sample_of(path, box=(96, 200), crop_radius=20)
    light = np.argwhere(sample.roi[0] > 150)
    assert light.mean(axis=0) == pytest.approx((24.5, 24.5), abs=1)
    assert not any("normalized" in note for note in sample.meta.notes)


def test_file_in_which_ffmpeg_finds_nothing_is_skipped_in_its_words(ffmpeg: Ffmpeg, sound: Path) -> None:
    form = ["-vf", "format=yuv420p,setsar=2/1", "-c:v", "libx264", "-c:a", "aac", "-movflags", "faststart", "wide.mp4"]
    path = ffmpeg("-i", sound, *form, frames=with_square())
    content = bytearray(path.read_bytes())
    begin = content.find(b"mdat") + 4
    content[begin:] = bytes(len(content) - begin)
    path.write_bytes(content)
    with pytest.raises(ClipError) as caught:
        sample_of(path)
    assert (caught.value.stage, caught.value.reason) == ("decode", "video_unreadable")
    assert "the pixels are not square (2:1), and FFmpeg says: " in caught.value.detail
    assert str(path.parent) not in caught.value.detail


def test_odd_file_that_pyav_stumbles_over_is_a_fault_of_the_clip(
    ffmpeg: Ffmpeg, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # some errors of PyAV are OSErrors, and a fault of the disk would end the build of a whole shard
    form = ["-vf", "format=yuv420p,setsar=2/1", "-c:v", "mpeg4", "-c:a", "libmp3lame", "wide.avi"]
    path = ffmpeg("-i", sound, *form, frames=with_square())

    def fail(*_: object) -> int:
        raise av.error.PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(normalize, "_first_time", fail)
    with pytest.raises(ClipError, match=r"video_unreadable: the pixels are not square \(2:1\), and"):
        sample_of(path)
