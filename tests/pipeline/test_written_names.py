"""Names that people write in lists and coordinate files find their files, or the first that does not is quoted."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import BuildSettings
from pipeline.corpora import index_corpus
from pipeline.corpora.written_names import WrittenNames
from pipeline.media.text_files import clean_path, decode_text
from tests.corpora import coordinate_line

COMPOSED = unicodedata.normalize("NFC", "größe/4")
DECOMPOSED = unicodedata.normalize("NFD", "größe/4")
CLIPS = ["ann/1", "ann/2", COMPOSED]


@pytest.fixture
def videos(tmp_path: Path) -> BuildSettings:
    """Three empty videos with transcripts, as a Mac and Windows would leave them."""
    for name, ending in (("ann/1", "TXT"), ("ann/2", "txt"), (DECOMPOSED, "txt")):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(b"x")
        (tmp_path / "videos" / f"{name}.{ending}").write_text("hello world")
    return BuildSettings(dataset="folder", root=str(tmp_path / "videos"), lip_box="80,80", split=["train=train.txt"])


LISTS = {
    "utf-8": "\n".join(CLIPS).encode(),
    "mark": "\n".join(CLIPS).encode("utf-8-sig"),
    "utf-16": "\r\n".join(CLIPS).encode("utf-16"),
    "utf-16 big": "\n".join(CLIPS).encode("utf-16-be"),
    "utf-32": "\n".join(CLIPS).encode("utf-32"),
    "latin": "\r\n".join(CLIPS).encode("latin-1"),
    "old mac": "\r".join(CLIPS).encode(),
    "backslashes": "\r\n".join(CLIPS).replace("/", "\\").encode(),
    "dots": "".join(f"./{clip}.mp4\n" for clip in CLIPS).encode(),
    "up": "".join(f"../videos/{clip}.mp4\n" for clip in CLIPS).encode(),
    "from above": "".join(f"videos/{clip}.mp4\n" for clip in CLIPS).encode(),
    "drive": "".join(f"C:\\Users\\me\\Videos\\{clip}.MP4\n" for clip in CLIPS).replace("/", "\\").encode(),
    "other machine": "".join(f"/home/me/videos/{clip}.mp4\n" for clip in CLIPS).encode(),
    "moved": "".join(f"/scratch/me/corpus/{clip}.mp4\n" for clip in CLIPS).encode(),
    "extension": "".join(f"{clip}.MP4  \n\n" for clip in CLIPS).encode(),
    "case": "\n".join(CLIPS).upper().replace("SS", "ß").encode(),
    "quotes": "".join(f'"{clip}.mp4"\n' for clip in CLIPS).encode(),
    "pasted": b"\n".join(clip.encode("utf-8-sig") for clip in CLIPS),
    "comments": "\n".join(["# the clips", *CLIPS, "#end"]).encode(),
    "padded": "\n".join([*CLIPS, "\0\0\0\0"]).encode(),
    "decomposed": "\n".join([*CLIPS[:2], DECOMPOSED]).encode(),
}


@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS)
def test_index_reads_a_list_however_it_was_written(videos: BuildSettings, listed: bytes) -> None:
    (Path(videos.root) / "train.txt").write_bytes(listed)
    index = index_corpus(videos)
    assert {clip.key for clip in index.clips} == {"main/ann/1", "main/ann/2", f"main/{COMPOSED}"}
    assert index.skipped == []
    assert {clip.transcript for clip in index.clips} == {"ann/1.TXT", "ann/2.txt", f"{DECOMPOSED}.txt"}
    assert (index.skipped, index.notices) == ([], [])


def test_index_reads_a_list_of_absolute_paths_and_one_that_ends_in_capitals(videos: BuildSettings) -> None:
    (Path(videos.root) / "Train.TXT").write_text("".join(f"{videos.root}/{clip}.mp4\n" for clip in CLIPS))
    assert len(index_corpus(videos).clips) == 3


def test_index_quotes_the_first_name_that_is_not_there_and_the_nearest(videos: BuildSettings) -> None:
    listed = Path(videos.root) / "train.txt"
    listed.write_text("\n\nann/11\nann/12\n")
    with pytest.raises(ValueError, match=r"train\.txt: none of its 2 clips is there; line 3, 'ann/11' .* 'ann/1'"):
        index_corpus(videos)
    listed.write_text("ann/1\nann/22\n")
    index = index_corpus(videos)
    assert [entry.source for entry in index.skipped] == ["ann/22"]
    assert [notice for notice in index.notices if "1 of its 2 clips" in notice and "line 2, 'ann/22'" in notice]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
        lambda text: text.replace("/", "\\").encode(),
        lambda text: "".join(f"./{line}\n" for line in text.splitlines()).encode(),
        lambda text: "".join(f"D:\\videos\\{line}\n" for line in text.splitlines()).encode(),
        lambda text: text.replace(".mp4:", ".MP4 ").encode(),
        lambda text: text.replace(".mp4:", ":").encode(),
    ],
    ids=["utf-16", "crlf", "backslashes", "dots", "drive", "capitals", "no extension"],
)
def test_index_reads_coordinates_however_they_were_written(
    videos: BuildSettings, change: Callable[[str], bytes]
) -> None:
    lines = "".join(f"{coordinate_line(clip, 3)}\n" for clip in CLIPS)
    (Path(videos.root) / "coordinates.txt").write_bytes(change(lines))
    index = index_corpus(replace(videos, lip_box=None, split=[]))
    assert [clip.coordinates for clip in index.clips] == ["80/100/80/100/80/100"] * 3
    assert (index.skipped, index.notices) == ([], [])


def test_index_quotes_the_first_coordinates_that_are_of_no_video(videos: BuildSettings) -> None:
    (Path(videos.root) / "coordinates.txt").write_text(f"{coordinate_line('anna/1', 3)}\n")
    with pytest.raises(ValueError, match=r"coordinates\.txt: none of the 1 .*'anna/1\.mp4' .*'ann/1\.mp4'"):
        index_corpus(replace(videos, lip_box=None, split=[]))


def test_written_names_mean_one_file_or_none() -> None:
    names = WrittenNames({"Ann/1.mp4": "Ann/1.mp4", "ann/1.mp4": "ann/1.mp4", "a\\b.mp4": "a\\b.mp4"}, "videos")
    assert names.find("ann/1.MP4") == "ann/1.mp4"
    assert names.find("ANN/1.mp4") is None
    assert names.find("a\\b.mp4") == "a\\b.mp4"
    assert WrittenNames({}, "videos").nearest("x") is None


def test_written_names_may_leave_out_the_folder_of_a_list() -> None:
    names = WrittenNames({"main/a/1": "main/a/1.mp4"}, "/data/LRS2-BBC")
    assert names.find("a\\1", "main/") == "main/a/1.mp4"
    assert names.find("E:\\LRS2-BBC\\main\\a\\1", "main/") == "main/a/1.mp4"
    assert names.find("a/1") is None
    assert names.find("/elsewhere/main/a/1") == "main/a/1.mp4"
    assert names.find("/elsewhere/pretrain/a/1", "main/") is None


def test_written_names_follow_a_link_to_the_root(tmp_path: Path) -> None:
    (tmp_path / "videos_v2").mkdir()
    (tmp_path / "videos").symlink_to(tmp_path / "videos_v2")
    names = WrittenNames({"a/1.mp4": "a/1.mp4"}, str(tmp_path / "videos"))
    assert names.find(f"{tmp_path}/videos_v2/a/1.mp4") == "a/1.mp4"


def test_clean_path_writes_a_path_as_it_is_compared() -> None:
    assert clean_path(".\\ann\\..\\bob\\1.MP4") == "bob/1.mp4"
    assert clean_path("C:\\a\\b") == "/a/b"
    assert clean_path(DECOMPOSED) == COMPOSED


def test_decode_text_says_what_was_odd() -> None:
    assert decode_text("é".encode()) == ("é", None)
    assert decode_text("é".encode("utf-16"))[1] == "was UTF-16"
    assert decode_text("é".encode("cp1252")) == ("é", "was not UTF-8: read as Windows-1252")
