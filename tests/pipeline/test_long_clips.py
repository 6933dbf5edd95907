"""Long clips: skipped or split, and built in little memory, with the bytes that they would have in much."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import clip as clip_module
from pipeline.build import plan_build, run_build
from pipeline.clip import stored_mel
from pipeline.config import BuildSettings
from pipeline.corpora.transcripts import Transcript
from pipeline.long_clips import part_edges, part_of_transcript
from pipeline.media import spool as spool_module
from pipeline.media.spool import Spool
from pipeline.verify import verify
from shards import Sample, open_dataset
from tests.corpora import click_track, pictures, write_video

REPOSITORY = Path(__file__).parents[2]


def built(folder: Path, **changes: object) -> tuple[list[Sample], list[dict[str, str]]]:
    """Samples and skipped clips of a folder of videos."""
    settings = BuildSettings("folder", str(folder), lip_box="80,80", transcripts="optional", **changes)  # type: ignore[arg-type]
    out = folder.parent / "out"
    run_build(plan_build(settings, lambda line: None), settings, str(out), workers=0)
    assert verify(str(out), workers=0)[1] == []
    skipped = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    return sorted(open_dataset(str(out)).samples(), key=lambda sample: sample.key), skipped


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A clip of four seconds with a flash and a click at 2.4 s, and one of a second."""
    folder = tmp_path / "videos"
    write_video(folder / "long.mp4", pictures(100, [60]), click_track(4.0, 2.4, 44_100), sound_rate=44_100)
    write_video(folder / "short.mp4", pictures(25), click_track(1.0, 0.5))
    return folder


def test_long_clip_is_skipped_with_the_reason(videos: Path) -> None:
    samples, skipped = built(videos, max_minutes=2 / 60)
    assert [sample.meta.source for sample in samples] == ["short.mp4"]
    assert [(entry["key"], entry["stage"], entry["reason"]) for entry in skipped] == [
        ("main/long", "decode", "too_long")
    ]
    assert "--long-clips split" in skipped[0]["detail"]


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_long_clip_of_another_container_is_skipped_too(tmp_path: Path, suffix: str) -> None:
    write_video(tmp_path / "videos" / f"long{suffix}", pictures(100), click_track(4.0, 2.4))
    write_video(tmp_path / "videos" / "short.mp4", pictures(25), click_track(1.0, 0.5))
    _, skipped = built(tmp_path / "videos", max_minutes=2 / 60)
    assert [entry["reason"] for entry in skipped] == ["too_long"]


def test_long_clip_is_split_on_request(videos: Path) -> None:
    whole = {sample.key: sample for sample in built(videos)[0]}["main/long"]
    for file in (videos.parent / "out").iterdir():
        file.unlink()
    samples, skipped = built(videos, max_minutes=1.5 / 60, long_clips="split")
    assert skipped == []
    assert [sample.key for sample in samples] == [f"main/long-part{n:03}" for n in range(3)] + ["main/short"]
    parts = samples[:3]
    assert np.array_equal(np.concatenate([part.roi for part in parts]), whole.roi)
    joined = np.concatenate([part.wav for part in parts]).astype(int)
    assert np.abs(joined - whole.wav).max() <= 1
    assert [part.meta.notes[0] for part in parts] == [
        "part 1 of 3, from 0.00 s on",
        "part 2 of 3, from 1.32 s on",
        "part 3 of 3, from 2.64 s on",
    ]
    assert [center for part in parts for center in part.meta.lips] == whole.meta.lips
    # the flash and the click at 2.4 s are in the second part, 1.08 s after its begin
    assert parts[1].roi.reshape(33, -1).mean(axis=1).argmax() == 27
    assert np.argmax(np.abs(parts[1].wav.astype(int)) > 10_000) / 16_000 == pytest.approx(1.08, abs=0.002)


def test_part_of_a_transcript_has_the_words_whose_middle_is_in_it() -> None:
    transcript = Transcript("a b c", [("a", 0.0, 0.5), ("b", 0.75, 1.5), ("c", 1.5, 2.0)])
    assert part_edges(50, 1 / 60) == [(0, 25), (25, 50)]
    assert part_of_transcript(transcript, 0.0, 1.0) == Transcript("a", [("a", 0.0, 0.5)])
    assert part_of_transcript(transcript, 1.0, 2.0) == Transcript("b c", [("b", 0.0, 0.5), ("c", 0.5, 1.0)])
    without = part_of_transcript(Transcript("a b c", []), 0.0, 1.0)
    assert (without.text, without.words) == ("", [])
    assert "without times of its words" in (without.note or "")


@pytest.mark.parametrize("codec", ["npy", "ffv1"])
def test_long_clip_that_goes_through_files_has_the_same_bytes(
    videos: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    built(videos, roi_codec=codec)
    shard = videos.parent / "out" / "all-000000.tar"
    in_memory = shard.read_bytes()
    for file in (videos.parent / "out").iterdir():
        file.unlink()
    monkeypatch.setattr(spool_module, "MEMORY_BYTES", 100_000)
    monkeypatch.setattr("pipeline.lip_regions.MEMORY_BYTES", 100_000)
    monkeypatch.setattr("pipeline.media.sync._CHUNK", 10_000)
    monkeypatch.setattr("pipeline.source_file._MEMORY_BYTES", 0)
    built(videos, roi_codec=codec)
    assert shard.read_bytes() == in_memory


def test_mel_of_long_sound_is_the_same_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).normal(0, 3000, 640 * 50)
    wav = (noise * np.linspace(0, 1, len(noise))).astype(np.int16)
    whole = stored_mel(wav)
    monkeypatch.setattr(clip_module, "_MOST_MEL_FRAMES_AT_ONCE", 10)
    monkeypatch.setattr(clip_module, "_MEL_FRAMES_OF_A_PIECE", 60)
    assert stored_mel(wav).shape == whole.shape
    assert np.abs(stored_mel(wav) - whole).max() < 1e-4


def test_spool_reads_rows_from_file_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MEMORY_BYTES", 100)
    rows = np.arange(60).reshape(20, 3)
    spool = Spool(*(rows[first : first + 2] for first in range(0, 20, 2)))
    assert len(spool) == 20
    for first, last in ((0, 20), (3, 17), (19, 20), (5, 5)):
        assert np.array_equal(spool.read(first, last), rows[first:last])
    assert np.array_equal(spool[13], rows[13])
    for numbers in ([4, 5, 6], [12, 12, 14], [0, 0, 2, 19]):
        assert np.array_equal(spool.take(np.array(numbers)), rows[numbers])
    with pytest.raises(IndexError):
        spool[20]


def test_spool_reads_on_where_the_system_gives_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MEMORY_BYTES", 100)
    rows = np.arange(60).reshape(20, 3)
    spool, whole = Spool(rows), os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, at: whole(file, [buffers[0][:50]], at))
    assert np.array_equal(spool.read(2, 18), rows[2:18])
    monkeypatch.setattr(os, "preadv", lambda file, buffers, at: 0)
    with pytest.raises(OSError, match="cut short"):
        spool.read(2, 18)


@pytest.mark.slow
def test_build_of_an_hour_of_video_takes_less_than_a_gigabyte(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    part = write_video(tmp_path / "part.mp4", pictures(250), click_track(10.0, 0.5, 48_000), sound_rate=48_000)
    videos = tmp_path / "videos"
    videos.mkdir()
    copies = ["-stream_loop", "359", "-i", str(part), "-c", "copy", str(videos / "hour.mp4")]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *copies], check=True)
    program = """if True:
        import sys
        from pipeline.cli import main
        from tests.peak_memory import peak_kilobytes
        status = main(sys.argv[1:])
        print("peak", peak_kilobytes())
        sys.exit(status)"""
    command = ["build", "--dataset", "folder", "--root", str(videos), "--lip-box", "80,80", "--workers", "0"]
    for name, choice in (("whole", ["--max-minutes", "70"]), ("split", ["--long-clips", "split"])):
        arguments = [*command, "--out", str(tmp_path / name), *choice]
        measured = subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=REPOSITORY, check=True, capture_output=True, text=True
        )
        assert int(measured.stdout.split("peak")[1]) < 1 << 20, "kilobytes"
