"""Bad clips are skipped, never the shard, and errors.jsonl has the reason."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from pipeline.build import BuildError, plan_build, run_build
from pipeline.config import BuildSettings
from pipeline.media.crop import crop_gray
from pipeline.verify import verify
from shards import open_dataset
from tests.corpora import Lrs2Corpus, click_track, coordinate_line, pictures, write_video

CLIP = "bad/00001"


def build(corpus: Lrs2Corpus, out: Path, **changes: Any) -> dict[str, dict[str, str]]:
    """Build a corpus without Ray; clips skipped, by key."""
    settings = BuildSettings(dataset="lrs2", root=str(corpus.finish().root), **changes)
    run_build(plan_build(settings, lambda line: None), settings, str(out), workers=0)
    assert verify(str(out), workers=0)[1] == []
    lines = (out / "errors.jsonl").read_text().splitlines()
    return {entry["key"]: entry for entry in map(json.loads, lines)}


def truncated(corpus: Lrs2Corpus) -> None:
    path = corpus.add(CLIP)
    path.write_bytes(path.read_bytes()[:-2000])


def cut_within_a_packet(corpus: Lrs2Corpus) -> None:
    path, positions = streamable(corpus)
    path.write_bytes(path.read_bytes()[: positions[30] + 20])


def cut_between_packets(corpus: Lrs2Corpus) -> None:
    path, positions = streamable(corpus)
    path.write_bytes(path.read_bytes()[: positions[30]])


def streamable(corpus: Lrs2Corpus) -> tuple[Path, list[int]]:
    """A clip whose header comes first, and where each of its packets of picture begins."""
    path = corpus.add(CLIP, frames=60, options={"movflags": "faststart"})
    with av.open(str(path)) as container:
        return path, sorted(packet.pos for packet in container.demux(video=0) if packet.pos is not None)


def empty(corpus: Lrs2Corpus) -> None:
    corpus.add(CLIP).write_bytes(b"")


def not_a_video(corpus: Lrs2Corpus) -> None:
    corpus.add(CLIP).write_bytes(b"<html>404 not found</html>" * 50)


def sound_only(corpus: Lrs2Corpus) -> None:
    soundfile.write(corpus.add(CLIP), np.zeros(1000), 16_000, format="WAV")


def gone_since(corpus: Lrs2Corpus) -> None:
    path = corpus.add(CLIP)
    path.unlink()
    path.symlink_to("/dev/full/nowhere")


def a_folder_for_a_transcript(corpus: Lrs2Corpus) -> None:
    corpus.add(CLIP, video=False).with_suffix(".txt").unlink()
    (corpus.root / "main" / f"{CLIP}.txt").mkdir()
    write_video(corpus.root / "main" / f"{CLIP}.mp4", pictures(30), click_track(1.2, 0.4))


def of_an_unknown_codec(corpus: Lrs2Corpus) -> None:
    path = corpus.add(CLIP)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))


def half_an_mkv(corpus: Lrs2Corpus) -> None:
    path = corpus.add(CLIP, video=False)
    source = write_video(path.with_suffix(".mkv"), pictures(100), click_track(4.0, 0.4))
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    source.unlink()
    corpus.lines["main"][-1] = coordinate_line(CLIP, 50)


def a_playlist(corpus: Lrs2Corpus) -> None:
    other = corpus.root / "main" / "good" / "00001.mp4"
    corpus.add(CLIP, video=False).write_text(f"ffconcat version 1.0\nfile '{other}'\n")


def a_cover_picture(corpus: Lrs2Corpus) -> None:
    with av.open(str(corpus.add(CLIP, video=False)), "w", format="mp4") as container:
        picture = container.add_stream("mjpeg", rate=25)
        assert isinstance(picture, av.VideoStream)
        picture.width = picture.height = 160
        picture.pix_fmt = "yuvj420p"
        picture.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(pictures(1)[0], format="rgb24")
        frame.pts = 0
        container.mux(picture.encode(frame))
        container.mux(picture.encode(None))


BAD_CLIPS: list[tuple[str, Callable[[Lrs2Corpus], Any], str]] = [
    ("truncated mp4", truncated, "decode: video_unreadable"),
    ("mp4 cut within a packet", cut_within_a_packet, "decode: video_truncated"),
    ("mp4 cut between packets", cut_between_packets, "decode: video_truncated"),
    ("zero-byte mp4", empty, "decode: video_empty"),
    ("no video at all", not_a_video, "decode: video_unreadable"),
    ("a sound file named mp4", sound_only, "decode: video_unreadable"),
    ("an unknown codec", of_an_unknown_codec, "decode: video_unreadable"),
    ("half an mkv", half_an_mkv, "decode: video_truncated"),
    ("a playlist that names another file", a_playlist, "decode: video_unreadable"),
    ("a cover picture and no video", a_cover_picture, "decode: video_unreadable"),
    ("a word that ends after the clip", lambda c: c.add(CLIP, transcript=(
        "Text:  HI\nConf:  1\n\nWORD START END ASDSCORE\nHI 0.1 99 1\n")), "transcript: transcript_invalid"),
    ("a link to nowhere", gone_since, "index: video_missing"),
    ("mp4 without sound", lambda c: c.add(CLIP, sound=None), "sound: sound_missing"),
    ("silent sound", lambda c: c.add(CLIP, sound=np.zeros(19_200, np.float32)), "sound: sound_silent"),
    ("sound after the picture", lambda c: c.add(CLIP, sound_start=9), "sound: sound_missing"),
    ("video of 1 frame", lambda c: c.add(CLIP, frames=1), "decode: video_short"),
    ("center outside the picture", lambda c: c.add(CLIP, coordinates=coordinate_line(CLIP, 30, (900, 900))),
     "coordinates: coordinates_outside"),
    ("non-numeric coordinates", lambda c: c.add(CLIP, coordinates=f"{CLIP}.mp4:80/100/left/100"),
     "coordinates: coordinates_invalid"),
    ("coordinates of another video", lambda c: c.add(CLIP, coordinates=coordinate_line(CLIP, 99)),
     "coordinates: coordinates_mismatch"),
    ("no coordinates", lambda c: c.add(CLIP, coordinates=None), "index: coordinates_missing"),
    ("no video", lambda c: c.add(CLIP, video=False), "index: video_missing"),
    ("no transcript", lambda c: c.add(CLIP, transcript=None), "transcript: transcript_missing"),
    ("a folder in the place of a transcript", a_folder_for_a_transcript, "transcript: transcript_missing"),
    ("transcript without words", lambda c: c.add(CLIP, transcript="Text:  \n"), "transcript: transcript_invalid"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "expected"), [entry[1:] for entry in BAD_CLIPS], ids=[entry[0] for entry in BAD_CLIPS]
)
def test_build_skips_a_bad_clip_with_its_reason_and_builds_the_good_ones(
    tmp_path: Path, spoil: Callable[[Lrs2Corpus], Any], expected: str
) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("good/00001")
    corpus.add("good/00002")
    spoil(corpus)
    skipped = build(corpus, tmp_path / "out")
    assert set(skipped) == {f"main/{CLIP}"}
    entry = skipped[f"main/{CLIP}"]
    assert f"{entry['stage']}: {entry['reason']}" == expected
    assert len(entry["detail"]) > 10
    dataset = open_dataset(str(tmp_path / "out"))
    assert {sample.key for sample in dataset.samples()} == {"main/good/00001", "main/good/00002"}
    assert (dataset.manifest.totals["clips"], dataset.manifest.totals["skipped"]) == (2, 1)


def test_build_takes_a_video_of_3000_frames(tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("long/1", frames=3000, click_at=100.0)
    assert build(corpus, tmp_path / "out") == {}
    sample = open_dataset(str(tmp_path / "out")).sample("main/long/1")
    assert sample.roi.shape == (3000, 90, 90)
    assert np.argmax(np.abs(sample.wav.astype(int)) > 10_000) / 16_000 == pytest.approx(100.0, abs=0.002)
    assert sample.roi.reshape(3000, -1).mean(axis=1).argmax() == 2500


def test_build_fills_a_crop_partly_outside_the_picture_with_black(tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("edge/1", coordinates=coordinate_line("edge/1", 30, (10, 150)))
    assert build(corpus, tmp_path / "out") == {}
    roi = open_dataset(str(tmp_path / "out")).sample("main/edge/1").roi
    assert (roi[:, :, :35] == 0).all()
    assert (roi[:, 55:] == 0).all()
    assert (roi[:, :55, 35:] > 0).mean() > 0.9


def test_build_keeps_a_transcript_of_odd_encoding_with_a_note(tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("odd/1", transcript="Text:  CAFÉ\n".encode("latin-1"))
    assert build(corpus, tmp_path / "out") == {}
    sample = open_dataset(str(tmp_path / "out")).sample("main/odd/1")
    assert sample.text == "café"
    assert sample.meta.notes == ["transcript was not UTF-8: read as Windows-1252"]


def test_build_may_keep_a_clip_without_a_transcript(tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("mute/1", transcript=None)
    assert build(corpus, tmp_path / "out", transcripts="optional") == {}
    assert open_dataset(str(tmp_path / "out")).sample("main/mute/1").text == ""


def test_build_mends_coordinates_a_little_too_many_with_a_note(tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("off/1", coordinates=coordinate_line("off/1", 32))
    assert build(corpus, tmp_path / "out") == {}
    sample = open_dataset(str(tmp_path / "out")).sample("main/off/1")
    assert len(sample.meta.lips) == 30
    assert sample.meta.notes == ["32 coordinates for 30 frames: dropped 2 surplus"]


def test_build_takes_ready_made_wavs_for_the_videos_sound(tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("a/1", sound=None)
    corpus.add("a/2")
    for clip, content in (("1", click_track(1.2, 0.7, 48_000)), ("2", None)):
        path = tmp_path / "audio" / "main" / "a" / f"{clip}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.write_bytes(b"RIFF no wav")
        else:
            soundfile.write(path, content, 48_000)
    skipped = build(corpus, tmp_path / "out", audio=str(tmp_path / "audio"))
    assert {key: entry["reason"] for key, entry in skipped.items()} == {"main/a/2": "sound_unreadable"}
    wav = open_dataset(str(tmp_path / "out")).sample("main/a/1").wav
    assert np.argmax(np.abs(wav.astype(int)) > 10_000) / 16_000 == pytest.approx(0.7, abs=0.002)


def test_build_takes_a_video_trimmed_by_an_edit_list_as_whole(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    corpus = Lrs2Corpus(tmp_path / "corpus")
    path = corpus.add("cut/1", frames=100, click_at=2.0)
    whole = path.rename(tmp_path / "whole.mp4")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-ss", "1", "-i", whole, "-c", "copy", path]
    subprocess.run(command, check=True)
    corpus.lines["main"] = [coordinate_line("cut/1", 75)]
    assert build(corpus, tmp_path / "out") == {}
    sample = open_dataset(str(tmp_path / "out")).sample("main/cut/1")
    assert sample.meta.frames == 75
    assert sample.roi.reshape(75, -1).mean(axis=1).argmax() == 25
    assert np.argmax(np.abs(sample.wav.astype(int)) > 10_000) / 16_000 == pytest.approx(1.0, abs=0.002)


def test_crop_does_not_keep_its_large_frame_in_memory() -> None:
    frame = av.VideoFrame.from_ndarray(pictures(1, size=(1080, 1920))[0], format="rgb24")
    owner: Any = crop_gray(frame, 900, 500, 45)
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    assert len(owner) <= 90 * 90


def test_build_fails_and_skips_nothing_when_the_corpus_is_not_mounted(tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("a/1")
    settings = BuildSettings(dataset="lrs2", root=str(corpus.finish().root))
    plan = plan_build(settings, lambda line: None)
    corpus.root.rename(tmp_path / "unmounted")
    with pytest.raises(BuildError, match="corpus mounted"):
        run_build(plan, settings, str(tmp_path / "out"), workers=0)
    (tmp_path / "unmounted").rename(corpus.root)
    assert build(corpus, tmp_path / "out") == {}
    assert open_dataset(str(tmp_path / "out")).manifest.totals["clips"] == 1


def test_build_fails_without_one_good_clip(tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    empty(corpus)
    with pytest.raises(BuildError, match="decode: video_empty"):
        build(corpus, tmp_path / "out")


@pytest.mark.parametrize(("ending", "reason"), [("mp4", "video_unreadable"), ("txt", "transcript_unreadable")])
def test_build_skips_a_clip_with_an_unreadable_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, reason: str
) -> None:
    from shards import Store

    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("a/1")
    corpus.add("a/2")
    read = Store.read

    def forbidden(self: Store, name: str, max_bytes: int | None = None) -> bytes:
        if name.endswith(f"a/2.{ending}"):
            raise PermissionError(13, "Permission denied", name)
        return read(self, name, max_bytes)

    monkeypatch.setattr(Store, "read", forbidden)
    skipped = build(corpus, tmp_path / "out")
    found = {key: (entry["stage"], entry["reason"]) for key, entry in skipped.items()}
    assert found == {"main/a/2": ("read", reason)}


def test_build_takes_a_folder_of_odd_names_with_a_fixed_lip_box(tmp_path: Path) -> None:
    for name in ("my clip.v1.mp4", "my_clip_v1.mkv", "Łódź/zażółć.mp4"):
        write_video(tmp_path / "videos" / name, pictures(30, size=(120, 200)), click_track(1.2, 0.4))
    settings = BuildSettings(
        "folder", str(tmp_path / "videos"), lip_box="100,60", crop_radius=30, transcripts="optional"
    )
    run_build(plan_build(settings, lambda line: None), settings, str(tmp_path / "out"), workers=0)
    assert verify(str(tmp_path / "out"), workers=0)[1] == []
    samples = list(open_dataset(str(tmp_path / "out")).samples("all"))
    assert {sample.meta.source for sample in samples} == {"my clip.v1.mp4", "my_clip_v1.mkv", "Łódź/zażółć.mp4"}
    assert {sample.roi.shape for sample in samples} == {(30, 70, 70)}
    assert {sample.meta.lips[0] for sample in samples} == {(100, 60)}


def test_build_refuses_a_corpus_with_nothing_to_build(tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("a/1", coordinates=None)
    corpus.finish()
    settings = BuildSettings(dataset="lrs2", root=str(corpus.root))
    with pytest.raises(ValueError, match="coordinates_missing"):
        plan_build(settings, lambda line: None)
