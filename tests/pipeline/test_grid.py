"""GRID is read as its owners ship it: layouts, words from alignments or names, protocols, lists of others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.build import plan_build, run_build
from pipeline.config import BuildSettings
from pipeline.corpora import index_corpus
from pipeline.corpora.grid_protocols import PROTOCOLS
from pipeline.corpora.grid_transcripts import parse_align, parse_grid_transcript, words_of_name
from shards import open_dataset
from tests.corpora import click_track, coordinate_line, pictures, write_video

ALIGN = b"0 17250 sil\r\n17250 22500 bin\r\n22500 26500 blue\r\n26500 27000 sp\r\n27000 74500 sil\r\n"


def corpus(folder: Path, *paths: str) -> BuildSettings:
    """Files that hold one byte: what an index needs."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")
    return BuildSettings(dataset="grid", root=str(folder))


def sentences(speakers: int, each: int) -> list[str]:
    names = [f"bbaf{digit}{adverb}" for digit in "z123456789" for adverb in "anps"]
    return [f"s{speaker}/{name}.mpg" for speaker in range(1, speakers + 1) for name in names[:each]]


@pytest.mark.parametrize(
    "video",
    [
        "s1/bbaf2n.mpg",
        "s1/video/bbaf2n.mpg",
        "s1/video/mpg_6000/bbaf2n.mpg",
        "video/S01/BBAF2N.MPG",
        "train/s1_processed/bbaf2n.mp4",
        "s1.mpg_vcd/bbaf2n.mpg",
        "grid_s01/bbaf2n.avi",
    ],
)
@pytest.mark.parametrize(
    "align", ["alignments/s1/bbaf2n.align", "align/s01/bbaf2n.ALIGN", "s1/align/bbaf2n.align", "s1/bbaf2n.align"]
)
def test_index_finds_speaker_name_and_alignment_of_a_clip_in_any_layout(tmp_path: Path, video: str, align: str) -> None:
    index = index_corpus(corpus(tmp_path, video, align, "alignments/s2/bbaf2n.align"))
    assert [(clip.key, clip.speaker, clip.video, clip.transcript) for clip in index.clips] == [
        ("main/s1/bbaf2n", "s1", video, align)
    ]
    assert (index.clips[0].frames, index.skipped, index.notices) == (75, [], [])


def test_index_takes_a_root_that_is_the_folder_of_one_speaker(tmp_path: Path) -> None:
    index = index_corpus(corpus(tmp_path / "s29", "bbaf2n.mpg"))
    assert [(clip.key, clip.transcript) for clip in index.clips] == [("main/s29/bbaf2n", None)]
    assert any("no .align files" in notice for notice in index.notices)


def test_index_builds_a_clip_of_two_resolutions_once(tmp_path: Path) -> None:
    index = index_corpus(corpus(tmp_path, "s1/bbaf2n.mpg", "s1/video/mpg_6000/bbaf2n.mpg"))
    assert [clip.video for clip in index.clips] == ["s1/bbaf2n.mpg"]
    assert any("1 clips are there more than once" in notice for notice in index.notices)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (None, {"train": 36, "val": 2, "test": 2}),
        ("four", {"train": 36, "val": 2, "test": 2}),
        ("overlap", {"train": 28, "val": 2, "test": 10}),
    ],
)
def test_protocol_holds_out_a_share_of_each_speaker(tmp_path: Path, protocol: str, expected: dict[str, int]) -> None:
    settings = replace(corpus(tmp_path, *sentences(4, 40)), protocol=protocol)  # type: ignore[arg-type]
    index = index_corpus(settings)
    counts = Counter((clip.speaker, clip.split) for clip in index.clips)
    speakers = ["s1", "s2", "s4"] if protocol == "four" else ["s1", "s2", "s3", "s4"]
    assert counts == {(speaker, split): n for speaker in speakers for split, n in expected.items()}
    if protocol == "four":
        assert any("no clips of s29" in notice for notice in index.notices)
        assert any("40 clips of s3 are not built" in notice for notice in index.notices)


def test_protocol_unseen_has_no_speaker_in_two_splits(tmp_path: Path) -> None:
    index = index_corpus(replace(corpus(tmp_path, *sentences(34, 1)), protocol="unseen"))
    split_of = {clip.speaker: clip.split for clip in index.clips}
    assert Counter(split_of.values()) == {"train": 16, "val": 7, "test": 10}
    assert (split_of["s1"], split_of["s9"], split_of["s2"], "s21" in split_of) == ("train", "val", "test", False)
    sets = PROTOCOLS["unseen"].speakers
    assert len({speaker for speakers in sets.values() for speaker in speakers}) == 33


def test_protocol_splits_do_not_depend_on_the_layout(tmp_path: Path) -> None:
    flat = corpus(tmp_path / "a", *sentences(2, 40))
    deep = corpus(tmp_path / "b", *(path.replace("/", "/video/").replace(".mpg", ".mp4") for path in sentences(2, 40)))

    def splits(settings: BuildSettings) -> set[tuple[str, str]]:
        return {(clip.key, clip.split) for clip in index_corpus(settings).clips}

    assert splits(flat) == splits(deep)


def test_protocol_without_any_of_its_speakers_is_refused(tmp_path: Path) -> None:
    settings = replace(corpus(tmp_path, "s3/bbaf2n.mpg"), protocol="four")
    with pytest.raises(ValueError, match=r"'four' needs speakers s1 s2 s4 s29; here are s3"):
        index_corpus(settings)
    with pytest.raises(ValueError, match=r"protocol: four, and the split list train=x\.txt"):
        index_corpus(replace(settings, split=["train=x.txt"]))
    with pytest.raises(ValueError, match=r"protocol: four .* lrs2"):
        BuildSettings(dataset="lrs2", protocol="four")


@pytest.mark.parametrize(
    "line",
    ["s1/bbaf2n", "s1/bbaf2n.mpg", "s1/video/mpg_6000/bbaf2n.mpg", "s1_bbaf2n", "S01 BBAF2N", "x\\s1\\bbaf2n.npz"],
)
def test_index_reads_lists_of_others(tmp_path: Path, line: str) -> None:
    settings = corpus(tmp_path, "s1/bbaf2n.mpg", "s2/bbaf2n.mpg", "s2/bbaf3n.mpg")
    (tmp_path / "test.txt").write_text(f"{line}\ns2/lost\n")
    index = index_corpus(replace(settings, split=["test=test.txt"]))
    assert [(clip.key, clip.split) for clip in index.clips] == [("main/s1/bbaf2n", "test")]
    assert [(entry.source, entry.reason) for entry in index.skipped] == [("s2/lost", "video_missing")]


def test_words_of_name_are_those_of_its_letters() -> None:
    assert words_of_name("bbaf2n") == "bin blue at f two now"
    assert words_of_name("SWIZZP") == "set white in z zero please"
    assert [words_of_name(name) for name in ("bbaw2n", "bbaf2", "intro1", "xbaf2n")] == [None] * 4


def test_parse_align_gives_words_and_times_without_silence() -> None:
    transcript = parse_align(ALIGN)
    assert transcript.text == "bin blue"
    assert transcript.words == [("bin", 0.69, 0.9), ("blue", 0.9, 1.06)]


@pytest.mark.parametrize("content", [b"", b"0 100 sil\n", b"bin blue\n", b"100 50 bin\n", b"0 100 bin\n50 200 blue\n"])
def test_grid_transcript_falls_back_on_the_name_with_a_note(content: bytes) -> None:
    transcript = parse_grid_transcript("s1/bbaf2n.mpg", content)
    assert (transcript.text, transcript.words) == ("bin blue at f two now", [])
    assert "name" in str(transcript.note)
    with pytest.raises(ValueError, match=r"bbaf2n|no words|START END WORD|forward"):
        parse_grid_transcript("s1/other.mpg", content or None)


def test_grid_transcript_notes_where_alignment_and_name_differ() -> None:
    transcript = parse_grid_transcript("s1/bbaf2n.mpg", ALIGN)
    assert transcript.text == "bin blue"
    assert transcript.note == "the .align file says so; the name says 'bin blue at f two now'"
    assert parse_grid_transcript("s1/other.mpg", ALIGN).note is None


def test_build_skips_empty_short_and_unnamed_files_of_grid_with_reasons(tmp_path: Path) -> None:
    for name, frames in (("s1/bbaf2n", 75), ("s1/bbaf3n", 40), ("s2/intro", 75)):
        write_video(tmp_path / f"{name}.mp4", pictures(frames), click_track(frames / 25, 0.4))
    settings = replace(corpus(tmp_path, "s2/bbaf4n.mpg"), lip_box="80,80", min_frames=70)
    (tmp_path / "s2" / "bbaf4n.mpg").write_bytes(b"")
    built = run_build(plan_build(settings, lambda _: None), settings, str(tmp_path / "out"), workers=0)
    assert {(entry.key, entry.reason) for entry in built.skipped} == {
        ("main/s1/bbaf3n", "video_short"),
        ("main/s2/bbaf4n", "video_empty"),
        ("main/s2/intro", "transcript_missing"),
    }
    assert [(sample.key, sample.text) for sample in open_dataset(str(tmp_path / "out")).samples()] == [
        ("main/s1/bbaf2n", "bin blue at f two now")
    ]


def test_index_of_grid_takes_coordinates(tmp_path: Path) -> None:
    settings = corpus(tmp_path, "s1/bbaf2n.mpg", "s1/bbaf3n.mpg")
    (tmp_path / "c.txt").write_text(coordinate_line("s1/bbaf2n", 74).replace(".mp4", ".mpg"))
    index = index_corpus(replace(settings, coordinates=str(tmp_path / "c.txt")))
    assert [clip.frames for clip in index.clips] == [74]
    assert [entry.reason for entry in index.skipped] == ["coordinates_missing"]


def test_build_of_shipped_files_tracks_the_lips(grid: Path, tmp_path: Path) -> None:
    settings = BuildSettings(dataset="grid", root=str(grid), protocol="unseen", limit=2, min_frames=70)
    built = run_build(plan_build(settings, lambda _: None), settings, str(tmp_path), workers=0)
    assert {entry.reason for entry in built.skipped} <= {"face_missing"}
    samples = list(open_dataset(str(tmp_path)).samples())
    assert {sample.meta.split for sample in samples} == {"train", "val", "test"}
    for sample in samples:
        lips = np.array(sample.meta.lips)
        assert (lips.min(0) > (140, 190)).all()
        assert (lips.max(0) < (205, 235)).all()
        assert sample.roi.shape == (75, 90, 90)


def test_build_of_shipped_files_has_words_times_and_all_frames(grid: Path, tmp_path: Path) -> None:
    settings = BuildSettings(dataset="grid", root=str(grid), lip_box="180,200", min_frames=70)
    built = run_build(plan_build(settings, lambda _: None), settings, str(tmp_path), workers=0)
    assert built.skipped == []
    samples = {sample.key: sample for sample in open_dataset(str(tmp_path)).samples()}
    assert len(samples) == 18
    assert samples["main/s1/bbaf4p"].meta.words[0] == ("bin", 0.69, 0.9)
    assert samples["main/s1/srbb4n"].meta.frames == 74
    assert samples["main/s20/brbk7n"].text == "bin red by k seven now"
    assert samples["main/s20/brbk7n"].meta.words == []


def test_index_of_grid_takes_ready_made_wavs_by_speaker_and_name(tmp_path: Path) -> None:
    settings = corpus(tmp_path / "grid", "s1/video/bbaf2n.mpg", "s1/video/bbaf3n.mpg")
    corpus(tmp_path / "audio_25k", "s1/bbaf2n.wav", "s2/bbaf3n.wav")
    index = index_corpus(replace(settings, audio=str(tmp_path / "audio_25k")))
    assert [(clip.key, clip.audio) for clip in index.clips] == [("main/s1/bbaf2n", "s1/bbaf2n.wav")]
    assert [(entry.key, entry.reason) for entry in index.skipped] == [("main/s1/bbaf3n", "sound_missing")]
