"""Videos larger than they look cost a bounded amount, and are skipped with a reason and the numbers."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from pipeline.clip import Corpus, build_sample
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from pipeline.media import decode, decoding_limits, ffmpeg_tool, normalize, sound_runs, streams
from pipeline.media.decode import decode_video
from pipeline.media.errors import ClipError
from tests.corpora import click_track, pictures, write_video
from tests.peak_memory import peak_kilobytes, reset_peak
from tests.pipeline.odd_files import Ffmpeg, sample_of


def skipped(path: Path) -> ClipError:
    with pytest.raises(ClipError) as error:
        sample_of(path)
    return error.value


@pytest.fixture
def small_pictures_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of at most 50,000 pixels are allowed."""
    monkeypatch.setattr(decoding_limits, "MAX_FRAME_PIXELS", 50_000)
    monkeypatch.setitem(decoding_limits.DECODER_OPTIONS, "max_pixels", "50000")
    monkeypatch.setitem(streams.OPTIONS, "max_pixels", "50000")
    monkeypatch.setitem(ffmpeg_tool.INPUT_OPTIONS, "max_pixels", 50_000)


def test_picture_of_too_many_pixels_is_skipped(tmp_path: Path, small_pictures_only: None) -> None:
    fault = skipped(write_video(tmp_path / "a.mp4", pictures(10, size=(400, 400)), None))
    assert (fault.stage, fault.reason) == ("decode", "too_large")
    assert "a picture of 400x400 pixels, and at most 50,000" in fault.detail


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_picture_that_grows_beyond_the_limit_is_skipped(
    tmp_path: Path, ffmpeg: Ffmpeg, small_pictures_only: None, name: str
) -> None:
    stream = b""
    for side in (160, 400):
        source = write_video(tmp_path / f"{side}.mp4", pictures(20, size=(side, side)), None)
        stream += ffmpeg("-i", source, "-c", "copy", f"{side}.h264").read_bytes()
    (tmp_path / "both.h264").write_bytes(stream)
    fault = skipped(ffmpeg("-i", tmp_path / "both.h264", "-c", "copy", name))
    assert fault.reason == "too_large"
    assert "x400 pixels" in fault.detail  # as its memory is laid out, 448 wide


def test_picture_that_grows_after_it_was_found_odd_is_skipped(
    tmp_path: Path, ffmpeg: Ffmpeg, small_pictures_only: None
) -> None:
    stream = b""
    for side in (160, 176, 400):
        source = write_video(tmp_path / f"{side}.mp4", pictures(20, size=(side, side)), None)
        stream += ffmpeg("-i", source, "-c", "copy", f"{side}.h264").read_bytes()
    (tmp_path / "all.h264").write_bytes(stream)
    fault = skipped(ffmpeg("-i", tmp_path / "all.h264", "-c", "copy", "a.mkv"))
    assert fault.reason == "too_large"
    assert "x400 pixels" in fault.detail  # as its memory is laid out, 448 wide


def test_picture_is_measured_as_it_is_shown(ffmpeg: Ffmpeg, source: Path) -> None:
    odd = ffmpeg("-i", source, "-vf", "scale=1280:720,setsar=90", "-frames:v", "9", "-c:v", "mpeg4", "-an", "odd.mp4")
    fault = skipped(odd)
    assert fault.reason == "too_large"
    assert "115200x720 pixels" in fault.detail


def test_frames_are_bounded_by_the_length_of_the_video(tmp_path: Path) -> None:
    frames = np.zeros((1500, 16, 16, 3), np.uint8)
    fault = skipped(write_video(tmp_path / "a.mp4", frames, None, rate=1000))
    assert fault.reason == "too_large"
    assert re.search(r"1,4\d\d frames in 1\.4\d s, and at most 1,4\d\d are allowed", fault.detail)


def test_frames_at_one_time_are_bounded(tmp_path: Path) -> None:
    times = [Fraction(n, 90_000) for n in range(1100)]
    fault = skipped(write_video(tmp_path / "a.mkv", np.zeros((1100, 16, 16, 3), np.uint8), None, times=times))
    assert fault.reason == "too_large"


def test_sound_after_the_picture_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_runs, "MAX_SOUND_AHEAD", 2)
    monkeypatch.setattr(decode, "MAX_SOUND_AHEAD", 2)
    long = np.concatenate([click_track(1.0, 0.4), np.zeros(30 * 16_000, np.float32)])
    for name in ("a.mp4", "a.mkv"):
        path = write_video(tmp_path / name, pictures(25), long)
        _, runs = decode_video(path, lambda *_: np.zeros((1, 1), np.uint8), with_sound=True)
        assert sum(run.count for run in runs) < 5 * 16_000
        assert any("goes on for more than 2 s" in note for note in sample_of(path).meta.notes)
    short = write_video(tmp_path / "b.mp4", pictures(25), click_track(1.0, 0.4))
    assert np.abs(sample_of(short).wav[:15_000] - sample_of(tmp_path / "a.mp4").wav[:15_000].astype(int)).max() < 500


def test_sound_of_a_picture_that_begins_late_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_runs, "MAX_SOUND_AHEAD", 1)
    monkeypatch.setattr(decode, "MAX_SOUND_AHEAD", 1)
    times = [10 + Fraction(n, 25) for n in range(25)]
    path = write_video(tmp_path / "a.mp4", pictures(25), click_track(12.0, 10.5), times=times)
    sample = sample_of(path)
    assert abs(np.abs(sample.wav.astype(int)).argmax() - 8_000) < 200


@pytest.mark.parametrize(("channels", "rate", "reason"), [(70, 48_000, "too_large"), (1, 768_000, "sound_unreadable")])
def test_sound_of_many_channels_or_of_no_rate_of_speech_is_skipped(
    tmp_path: Path, channels: int, rate: int, reason: str
) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 160
        video.pix_fmt = "yuv420p"
        sound: Any = container.add_stream("pcm_s16le", rate=rate, layout=f"{channels} channels")
        for number, picture in enumerate(pictures(30)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(
            np.ones((1, channels * rate // 10), np.int16), format="s16", layout=f"{channels} channels"
        )
        block.sample_rate = rate
        container.mux(sound.encode(block))
    fault = skipped(path)
    assert (fault.stage, fault.reason) == ("sound", reason)
    assert str(channels if channels > 1 else rate) in fault.detail


def test_packet_of_too_many_bytes_is_skipped(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_limits, "MAX_PACKET_BYTES", 100)
    fault = skipped(source)
    assert fault.reason == "too_large"
    assert "at most 100 are allowed" in fault.detail


def test_streams_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        for _ in range(120):
            stream: Any = container.add_stream("mpeg4", rate=25)
            stream.width = stream.height = 16
            stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        for stream in container.streams.video:
            container.mux(stream.encode(frame))
    assert skipped(path).reason == "too_large"


def test_index_that_claims_millions_of_packets_takes_bounded_memory(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "MAX_DECODING_BYTES", 64 << 20)
    content = bytearray(source.read_bytes())
    sizes, chunks = content.index(b"stsz"), content.index(b"stsc")
    content[sizes + 8 : sizes + 16] = (1).to_bytes(4, "big") + (200_000_000).to_bytes(4, "big")
    content[chunks + 16 : chunks + 20] = (200_000_000).to_bytes(4, "big")
    source.write_bytes(content)
    reset_peak()
    before = peak_kilobytes()
    assert skipped(source).reason in ("too_large", "video_unreadable")
    assert peak_kilobytes() - before < 100 << 10


def test_clip_that_takes_too_long_is_skipped(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_limits, "MIN_DECODING_SECONDS", -100)
    fault = skipped(source)
    assert (fault.stage, fault.reason) == ("decode", "too_slow")
    assert "are allowed" in fault.detail


def test_normalizing_that_takes_too_long_is_stopped(
    ffmpeg: Ffmpeg, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(normalize, "seconds_allowed", lambda seconds: 0.01)
    odd = ffmpeg("-i", source, "-vf", "setsar=2", "-c:v", "libx264", "-c:a", "copy", "odd.mkv")
    assert skipped(odd).reason == "too_slow"


def test_normalized_copy_is_bounded(ffmpeg: Ffmpeg, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "MAX_NORMALIZED_BYTES", 10_000)
    monkeypatch.setattr(normalize, "MAX_NORMALIZED_GROWTH", 0)
    odd = ffmpeg("-i", source, "-vf", "setsar=2", "-c:v", "libx264", "-c:a", "copy", "odd.mkv")
    fault = skipped(odd)
    assert fault.reason == "too_large"
    assert "10,000 bytes" in fault.detail


def test_ffmpeg_that_is_not_installed_is_no_fault_of_the_clip(
    ffmpeg: Ffmpeg, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = ffmpeg("-i", source, "-vf", "setsar=2", "-c:v", "libx264", "-c:a", "copy", "odd.mkv")

    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(ffmpeg_tool, "get_ffmpeg_exe", missing)
    with pytest.raises(OSError, match="not installed"):
        decode_video(odd, lambda *_: np.zeros((1, 1), np.uint8), with_sound=True)


@pytest.mark.parametrize("killed", ["-KILL", "-SEGV"])
def test_ffmpeg_that_is_killed_costs_the_clip(
    ffmpeg: Ffmpeg, source: Path, tmp_path: Path, killed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = ffmpeg("-i", source, "-vf", "setsar=2", "-c:v", "libx264", "-c:a", "copy", "odd.mkv")
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\nkill {killed} $$\n")
    tool.chmod(0o755)
    monkeypatch.setattr(ffmpeg_tool, "get_ffmpeg_exe", lambda: str(tool))
    fault = skipped(odd)
    assert fault.reason == "video_unreadable"
    assert "ended by signal" in fault.detail


def with_wav(tmp_path: Path, content: bytes) -> Any:
    video = write_video(tmp_path / "a.mp4", pictures(25), None)
    (tmp_path / "a.wav").write_bytes(content)
    settings = BuildSettings("folder", str(tmp_path), lip_box="80,80", transcripts="optional", audio=str(tmp_path))
    clip = CorpusClip("main/a", "all", "main", "a", "a.mp4", None, "a.wav", None, 25, (video.stat().st_size, 0, 0))
    return build_sample(clip, settings, Corpus.of(settings))


@pytest.mark.parametrize(
    ("at", "value", "found"), [(22, 255, "255 channels"), (24, 2_000_000_000, "2000000000 Hz"), (24, 1, "1 Hz")]
)
def test_wav_of_absurd_channels_or_rate_is_skipped(
    tmp_path: Path, sound: Path, at: int, value: int, found: str
) -> None:
    content = bytearray(sound.read_bytes())
    size = 2 if at == 22 else 4
    content[at : at + size] = value.to_bytes(size, "little")
    content[32:34] = (2 * value if at == 22 else 2).to_bytes(2, "little")
    with pytest.raises(ClipError, match=found) as error:
        with_wav(tmp_path, bytes(content))
    assert error.value.stage == "sound"


def test_wav_that_is_far_longer_than_the_picture_is_not_read_to_its_end(tmp_path: Path) -> None:
    long = np.concatenate([click_track(1.0, 0.4), np.zeros(3600 * 16_000, np.float32)])
    soundfile.write(tmp_path / "long.flac", long, 16_000)  # libsndfile does not ask for the name
    soundfile.write(tmp_path / "short.flac", long[: 8 * 16_000], 16_000)
    content = (tmp_path / "long.flac").read_bytes()
    del long
    reset_peak()
    before = peak_kilobytes()
    sample = with_wav(tmp_path, content)
    assert peak_kilobytes() - before < 50 << 10
    assert (sample.wav == with_wav(tmp_path, (tmp_path / "short.flac").read_bytes()).wav).all()


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile '{other}'\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash": '<?xml version="1.0"?><MPD><Period><BaseURL>{other}</BaseURL></Period></MPD>',
    "imf": '<?xml version="1.0"?><AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM"></AssetMap>',
    "asx": '<asx version="3.0"><entry><ref href="file://{other}"/></entry></asx>',
    "reference": "[Reference]\nRef1=file://{other}\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlist_named_as_a_video_opens_no_other_file(source: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(PLAYLISTS[kind].format(other=source))
    assert skipped(path).reason == "video_unreadable"


@pytest.mark.parametrize("name", ["-i.mkv", "concat:a|b.mkv", "%d.mkv", "@a 'b\".mkv"])
def test_names_that_ffmpeg_could_read_otherwise_are_names(ffmpeg: Ffmpeg, source: Path, name: str) -> None:
    odd = ffmpeg("-i", source, "-vf", "setsar=2", "-c:v", "libx264", "-c:a", "copy", "odd.mkv")
    named = odd.rename(odd.with_name(name))
    _, runs = decode_video(named, lambda *_: np.zeros((1, 1), np.uint8), with_sound=True)
    assert runs


@pytest.mark.slow
def test_eight_hours_of_silence_beside_a_short_picture_take_bounded_memory(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "long.mp4"
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        picture, sound = given.streams.video[0], given.streams.audio[0]
        copies = {stream.index: out.add_stream_from_template(stream) for stream in (picture, sound)}
        last = 0
        for packet in given.demux(picture, sound):
            if packet.size and packet.pts is not None:
                if packet.stream is sound:
                    last, silent = packet.pts, bytes(packet)
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
        for number in range(1, 8 * 3600 * 16_000 // 1024):
            packet = av.Packet(silent)
            packet.pts = packet.dts = last + 1024 * number
            packet.time_base, packet.duration, packet.stream = Fraction(1, 16_000), 1024, copies[sound.index]
            out.mux(packet)
    reset_peak()
    before = peak_kilobytes()
    assert any("goes on" in note for note in sample_of(path).meta.notes)
    assert peak_kilobytes() - before < 300 << 10


@pytest.mark.slow
def test_sixty_thousand_stretched_frames_are_refused(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    path = ffmpeg("-f", "lavfi", "-i", "color=s=160x160:r=1000:d=60,setsar=2", "-preset", "ultrafast", "a.mp4")
    reset_peak()
    before = peak_kilobytes()
    assert skipped(path).reason == "too_large"
    assert peak_kilobytes() - before < 200 << 10
