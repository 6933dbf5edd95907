"""Texts of strangers: too large, binary, with control characters, absurd numbers, or made to keep a parser busy."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.build import plan_build, run_build
from pipeline.config import BuildSettings
from pipeline.corpora import index_corpus
from pipeline.corpora.grid_transcripts import parse_align
from pipeline.corpora.transcripts import parse_transcript
from pipeline.media import text_files
from pipeline.media.coordinates import parse_coordinates, read_coordinate_file
from pipeline.media.text_files import clean_path
from runtime.limits import MAX_TRANSCRIPT_BYTES
from shards import Store, open_dataset
from tests.corpora import Lrs2Corpus, pictures, write_video


def built(root: Path, out: Path, **changes: Any) -> dict[str, dict[str, str]]:
    """Skipped clips by key."""
    settings = BuildSettings("folder", str(root), **{"lip_box": "80,80"} | changes)
    run_build(plan_build(settings, lambda line: None), settings, str(out), workers=0)
    return {entry["key"]: entry for entry in map(json.loads, (out / "errors.jsonl").read_text().splitlines())}


@pytest.mark.parametrize(
    ("content", "found", "allowed"),
    [
        (b"x " * (3 << 20), "6,291,456", "4,194,304"),
        (b"x" * (2 << 20), "2,097,152", "1,048,576"),
        (b"\n" * 400_000 + b"x", "400,001", "300,000"),
    ],
)
def test_transcript_that_is_too_large_is_skipped_with_the_numbers(
    corpus: Path, tmp_path: Path, content: bytes, found: str, allowed: str
) -> None:
    (corpus / "a.txt").write_bytes(content)
    skipped = built(corpus, tmp_path / "out")
    assert skipped["main/a"]["reason"] == "transcript_invalid"
    assert found in skipped["main/a"]["detail"]
    assert allowed in skipped["main/a"]["detail"]
    assert built(corpus, tmp_path / "other", transcripts="optional") == {}
    assert open_dataset(str(tmp_path / "other")).sample("main/a").text == ""


def test_words_of_a_table_are_bounded_as_its_text_is() -> None:
    table = "Text: X\n\nWORD START END ASDSCORE\n" + f"{'y' * 1000} 0.1 0.2 1\n" * (1 + MAX_TRANSCRIPT_BYTES // 1000)
    with pytest.raises(ValueError, match="bytes of its words"):
        parse_transcript(table.encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_transcript_is_cleaned_of_control_characters(encoding: str) -> None:
    text = f"Text:  {'LONG ' * 60}\x1b[2JHELLO\x07 \u202eWORLD\u2066 \x9bA\x00B \x85C\n\n"
    text += "WORD START END\n\x1b]0;HI\x07 0.1 0.2\n"
    transcript = parse_transcript(text.encode(encoding))
    assert transcript.text == f"{'long ' * 60}[2jhello world ab c"
    assert transcript.words == [("]0;hi", 0.1, 0.2)]
    assert transcript.note is not None
    assert "8 control characters removed" in transcript.note
    assert parse_align(b"0 100 b\x1bin\n100 200 blue\n200 300 at\n").text == "bin blue at"


def test_transcript_of_other_scripts_is_left_as_it_is() -> None:
    for text in ("größe \u200dनमस्\u200dते 你好", "שלום עולם", "👩\u200d👩\u200d👧 é"):
        transcript = parse_transcript(text.encode(), plain=True)
        assert (transcript.text, transcript.note) == (text, None)


@pytest.mark.parametrize("seed", range(5))
def test_transcript_that_is_binary_is_refused(seed: int) -> None:
    content = random.Random(seed).randbytes(5_000)
    with pytest.raises(ValueError, match="is no text"):
        parse_transcript(content, plain=True)
    with pytest.raises(ValueError, match="is no text"):
        parse_align(content)
    with pytest.raises(ValueError, match="is no text"):
        parse_transcript(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + content, plain=True)


@pytest.mark.parametrize(
    "times",
    [
        "nan 0.2",
        "0.1 inf",
        "-1 0.2",
        "0.3 0.2",
        "0.1 1e308",
        "0.1 1_0",
        "0.1 ١٢",
        "1e-400 1e400",
        "0x1 0x2",
        "0.1 -inf",
    ],
)
def test_word_times_that_are_none_are_refused(times: str) -> None:
    with pytest.raises(ValueError, match=r"cannot run|was expected to be WORD"):
        parse_transcript(f"Text: A\n\nWORD START END\nA {times}\n".encode())


@pytest.mark.parametrize("line", ["0 1_0 bin", "0 ١٢ bin", "0 1e3 bin", "5 1 bin", "-1 5 bin", f"0 {'9' * 5000} bin"])
def test_alignment_with_times_that_are_none_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"was expected to be START END|do not run forward"):
        parse_align(line.encode())


def test_word_times_beyond_the_clip_cost_the_clip(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a.txt").write_text("Text: A\n\nWORD START END\nA 0.1 1e99\n")
    assert built(corpus, tmp_path / "out")["main/a"]["reason"] == "transcript_invalid"


@pytest.mark.parametrize(
    "numbers", ["nan/1", "1/inf", "1e308/1", "1_0/2", "١٢/1", "1/2/3", f"{'9' * 400}/1", "1/ /2/2"]
)
def test_coordinates_that_are_no_pixels_are_refused(numbers: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number of pixels|are not pairs"):
        parse_coordinates(numbers)


def test_coordinates_of_millions_of_frames_cost_the_clip(corpus: Path, tmp_path: Path) -> None:
    (corpus / "coordinates.txt").write_text(f"a.mp4:{'80/80/' * 100_000}\nb.mp4:{'80/80/' * 10}\n")
    skipped = built(corpus, tmp_path / "out", lip_box=None)
    assert {key: entry["reason"] for key, entry in skipped.items()} == {"main/a": "coordinates_mismatch"}


@pytest.mark.parametrize(
    "line",
    ["a " + "1/1 " * 200_000 + "x", ": " * 500_000 + "x", " " * 500_000 + "x", "a " + "1" * 1_000_000, "/a" * 500_000],
)
def test_coordinate_line_that_could_keep_a_parser_busy_is_passed_over(tmp_path: Path, line: str) -> None:
    (tmp_path / "c.txt").write_text(f"a.mp4:1/1\n{line}\n")
    lines, notices = read_coordinate_file(Store(str(tmp_path)), "c.txt")
    assert lines == {"a.mp4": "1/1"}
    assert "1 lines passed over" in notices[0]


@pytest.mark.parametrize(
    ("line", "path", "numbers"),
    [
        ("a/b c:1/2/3/4", "a/b c", "1/2/3/4"),
        ("a:\t 1.5/2/", "a", "1.5/2/"),
        ("a 1/2/ 3/4", "a", "1/2/ 3/4"),
        ("a 1/b,-1/2", "a 1/b", "-1/2"),
        ("a;1\\2", "a", "1/2"),
    ],
)
def test_coordinate_line_without_an_extension_is_read(tmp_path: Path, line: str, path: str, numbers: str) -> None:
    (tmp_path / "c.txt").write_text(f"{line}\n")
    assert read_coordinate_file(Store(str(tmp_path)), "c.txt") == ({path: numbers}, [])


@pytest.mark.parametrize("name", ["coordinates.txt", "train.txt"])
def test_line_that_is_too_long_is_refused_before_it_is_in_memory(
    corpus: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "MAX_LIST_LINE_BYTES", 2 << 20)
    (corpus / name).write_bytes(b"a.mp4\n" + b"1" * (10 << 20) + b"\n")
    changes: dict[str, Any] = {} if name == "coordinates.txt" else {"split": ["train=train.txt"], "lip_box": "80,80"}
    with pytest.raises(ValueError, match=rf"{name}: line 2 has more than the 2,097,152 bytes"):
        index_corpus(BuildSettings("folder", str(corpus), **changes))


@pytest.mark.parametrize("line", ["/x" * 3_000, "e" + "\u0301\u0323" * 3_000])
def test_split_list_with_a_name_that_is_none_is_refused(corpus: Path, line: str) -> None:
    (corpus / "train.txt").write_text(f"a\n{line}\n")
    with pytest.raises(ValueError, match=r"train\.txt: line 2: characters: 6,00\d"):
        index_corpus(BuildSettings("folder", str(corpus), lip_box="80,80", split=["train=train.txt"]))


def test_split_list_of_nothing_but_missing_clips_is_bounded(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.corpora.splits.MAX_MISSING", 1000)
    (corpus / "train.txt").write_text("a\n" + "".join(f"x{number}\n" for number in range(1001)))
    with pytest.raises(ValueError, match=r"train\.txt: clips that are not there: 1,001"):
        index_corpus(BuildSettings("folder", str(corpus), lip_box="80,80", split=["train=train.txt"]))


def test_split_list_that_is_binary_is_refused(corpus: Path) -> None:
    (corpus / "train.txt").write_bytes((corpus / "a.mp4").read_bytes())
    with pytest.raises(ValueError, match=r"train\.txt: is no text"):
        index_corpus(BuildSettings("folder", str(corpus), lip_box="80,80", split=["train=train.txt"]))


def test_lists_name_nothing_above_the_root(tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "lrs")
    corpus.add("a/1")
    root = corpus.finish().root
    write_video(root.parent / "above.mp4", pictures(5), None)
    with (root.parent / "train.txt").open("a") as file:
        file.write("../../above\n/above\nmain/../../above\n" + str(root.parent / "above") + "\n")
    index = index_corpus(BuildSettings("lrs2", str(root)))
    assert [clip.video for clip in index.clips] == ["main/a/1.mp4"]
    assert {entry.reason for entry in index.skipped} == {"video_missing"}
    assert clean_path("a/../../b") == "../b"
