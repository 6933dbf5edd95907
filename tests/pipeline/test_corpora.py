"""Indexes of corpora: each is read as its owners ship it, and what is missing is named."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import BuildSettings
from pipeline.corpora import index_corpus
from pipeline.corpora.clips import CorpusClip, make_key, separate_keys
from pipeline.media.coordinates import fit_coordinates, parse_coordinates
from shards.format.schema import is_key
from tests.corpora import coordinate_line


def touch(path: Path, content: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def lrs2(folder: Path, lists: dict[str, list[str]], clips: list[str], **changes: object) -> BuildSettings:
    """A corpus of empty videos: what an index needs."""
    for clip in clips:
        touch(folder / "LRS2-BBC" / f"{clip}.mp4")
        touch(folder / "LRS2-BBC" / f"{clip}.txt", "Text:  HI\n")
    for set_name in ("main", "pretrain"):
        lines = [coordinate_line(clip.removeprefix(f"{set_name}/"), 30) for clip in clips if clip.startswith(set_name)]
        touch(folder / "LRS2_crop" / f"preprocess_{set_name}.txt", "\n".join(lines))
    for name, lines in lists.items():
        touch(folder / f"{name}.txt", "\n".join(lines) + "\n")
    return BuildSettings(dataset="lrs2", root=str(folder / "LRS2-BBC"), **changes)  # type: ignore[arg-type]


def test_index_reads_lrs2_in_its_published_layout(tmp_path: Path) -> None:
    settings = lrs2(
        tmp_path,
        {"train": ["a/1 NF", "a/2"], "val": ["b/1"], "test": ["c/1"], "pretrain": ["a/1"]},
        ["main/a/1", "main/a/2", "main/b/1", "main/c/1", "pretrain/a/1"],
    )
    index = index_corpus(settings)
    assert {(clip.key, clip.split, clip.speaker) for clip in index.clips} == {
        ("main/a/1", "train", "a"),
        ("main/a/2", "train", "a"),
        ("main/b/1", "val", "b"),
        ("main/c/1", "test", "c"),
        ("pretrain/a/1", "pretrain", "a"),
    }
    assert {clip.frames for clip in index.clips} == {30}
    assert (index.skipped, index.notices) == ([], [])


def test_index_reads_lrs3_in_its_published_layout(tmp_path: Path) -> None:
    for clip in ("trainval/x/50001", "pretrain/x/00001", "test/y/00002"):
        touch(tmp_path / "LRS3-TED" / f"{clip}.mp4")
        touch(tmp_path / "LRS3-TED" / f"{clip}.txt")
        touch(
            tmp_path / "LRS3_crop" / f"preprocess_{clip.split('/')[0]}.txt", coordinate_line(clip.split("/", 1)[1], 9)
        )
    touch(tmp_path / "lrs3_unseen_train.txt", "pretrain/x/00001\n")
    touch(tmp_path / "lrs3_unseen_val.txt", "x/50001\n")
    touch(tmp_path / "lrs3_unseen_test.txt", "y/00002\n")
    index = index_corpus(BuildSettings(dataset="lrs3", root=str(tmp_path / "LRS3-TED"), crop_radius=50))
    assert {(clip.key, clip.split) for clip in index.clips} == {
        ("pretrain/x/00001", "train"),
        ("trainval/x/50001", "val"),
        ("test/y/00002", "test"),
    }


def test_index_notices_a_published_list_that_is_missing(tmp_path: Path) -> None:
    index = index_corpus(lrs2(tmp_path, {"train": ["a/1"]}, ["main/a/1"]))
    assert len(index.clips) == 1
    assert [notice for notice in index.notices if "pretrain.txt: not there; split 'pretrain'" in notice]


def test_index_takes_further_splits_by_name(tmp_path: Path) -> None:
    settings = lrs2(tmp_path, {"train": ["a/1"], "unseen": ["b/1"]}, ["main/a/1", "main/b/1"])
    touch(tmp_path / "elsewhere" / "more.txt", "c/1\n")
    touch(tmp_path / "LRS2-BBC" / "main" / "c" / "1.mp4")
    settings = replace(settings, split=["test_unseen=unseen.txt", f"extra={tmp_path}/elsewhere/more.txt"])
    index = index_corpus(settings)
    assert {(clip.split, clip.key) for clip in index.clips} == {("train", "main/a/1"), ("test_unseen", "main/b/1")}
    assert [(entry.split, entry.reason) for entry in index.skipped] == [("extra", "coordinates_missing")]


def test_index_skips_listed_clips_without_video_or_coordinates_with_the_reason(tmp_path: Path) -> None:
    settings = lrs2(tmp_path, {"train": ["a/1", "a/gone", "a/nocrop"]}, ["main/a/1"])
    touch(tmp_path / "LRS2-BBC" / "main" / "a" / "nocrop.mp4")
    index = index_corpus(settings)
    assert {(entry.key, entry.stage, entry.reason) for entry in index.skipped} == {
        ("main/a/gone", "index", "video_missing"),
        ("main/a/nocrop", "index", "coordinates_missing"),
    }
    assert [clip.key for clip in index.clips] == ["main/a/1"]


def test_index_replaces_no_missing_clip_by_one_of_another_set(tmp_path: Path) -> None:
    settings = lrs2(tmp_path, {"train": ["a/1", "a/2"], "pretrain": ["a/2"]}, ["main/a/1", "pretrain/a/2"])
    index = index_corpus(settings)
    assert {(clip.split, clip.video) for clip in index.clips} == {
        ("train", "main/a/1.mp4"),
        ("pretrain", "pretrain/a/2.mp4"),
    }
    assert [(entry.key, entry.reason) for entry in index.skipped] == [("main/a/2", "video_missing")]


def test_index_refuses_a_name_that_several_sets_of_lrs3_have(tmp_path: Path) -> None:
    for clip in ("trainval/x/1", "pretrain/x/1"):
        touch(tmp_path / "LRS3-TED" / f"{clip}.mp4")
    touch(tmp_path / "lrs3_unseen_train.txt", "x/1\n")
    with pytest.raises(ValueError, match=r"'x/1'.*trainval/x/1\.mp4.*pretrain/x/1\.mp4"):
        index_corpus(BuildSettings(dataset="lrs3", root=str(tmp_path / "LRS3-TED")))


def test_index_takes_a_list_of_ones_own_for_the_published_one_with_a_notice(tmp_path: Path) -> None:
    settings = lrs2(tmp_path, {"train": ["a/1"], "mine": ["a/2"]}, ["main/a/1", "main/a/2"], split=["train=mine.txt"])
    index = index_corpus(settings)
    assert [clip.key for clip in index.clips] == ["main/a/2"]
    assert any("mine.txt: takes the place of train.txt" in notice for notice in index.notices)
    with pytest.raises(ValueError, match=r"split: 'x'.*mine\.txt.*train\.txt"):
        index_corpus(replace(settings, split=["x=mine.txt", "x=train.txt"]))


@pytest.mark.parametrize("root", ["LRS2-BBC", "./LRS2-BBC/", "."])
def test_index_of_a_relative_root_finds_lists_and_coordinates_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    settings = lrs2(tmp_path, {"train": ["a/1"]}, ["main/a/1"])
    monkeypatch.chdir(tmp_path / "LRS2-BBC" if root == "." else tmp_path)
    assert len(index_corpus(replace(settings, root=root)).clips) == 1


def test_list_files_follows_a_circular_link_once(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "clip.mp4")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path)
    index = index_corpus(BuildSettings(dataset="folder", root=str(tmp_path), lip_box="80,80"))
    assert [clip.video for clip in index.clips] == ["a/clip.mp4"]


def test_list_files_names_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"caf.*UTF-8"):
        index_corpus(BuildSettings(dataset="folder", root=str(tmp_path), lip_box="80,80"))


def test_index_refuses_a_list_that_names_nothing_found(tmp_path: Path) -> None:
    settings = lrs2(tmp_path, {"train": ["q/1", "q/2"]}, ["main/a/1"])
    with pytest.raises(ValueError, match=r"train\.txt: .*'q/1'.*--root"):
        index_corpus(settings)


@pytest.mark.parametrize("lists", [{}, {"train": []}])
def test_index_refuses_no_list_and_an_empty_list(tmp_path: Path, lists: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match=r"no split list here|the list is empty"):
        index_corpus(lrs2(tmp_path, lists, ["main/a/1"]))


def test_index_refuses_a_clip_in_two_splits_by_name(tmp_path: Path) -> None:
    settings = lrs2(tmp_path, {"train": ["a/1", "a/2"], "test": ["a/2"]}, ["main/a/1", "main/a/2"])
    with pytest.raises(ValueError, match=r"main/a/2\.mp4.*'train'.*'test'"):
        index_corpus(settings)


def test_index_has_a_clip_listed_twice_once_with_a_notice(tmp_path: Path) -> None:
    index = index_corpus(lrs2(tmp_path, {"train": ["a/1", "a/1"]}, ["main/a/1"]))
    assert len(index.clips) == 1
    assert any("lists a/1 twice" in notice for notice in index.notices)


def test_index_names_a_root_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        index_corpus(BuildSettings(dataset="lrs2", root=str(tmp_path / "nowhere")))


def test_list_files_refuses_an_unreadable_folder_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = lrs2(tmp_path, {"train": ["a/1"]}, ["main/a/1", "main/locked/1"])
    real_scandir = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real_scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ValueError, match=r"locked: .*Permission denied"):
        index_corpus(settings)


def test_index_takes_ready_made_wavs_and_names_a_missing_one(tmp_path: Path) -> None:
    settings = lrs2(tmp_path, {"train": ["a/1", "a/2"]}, ["main/a/1", "main/a/2"], audio=str(tmp_path / "audio"))
    touch(tmp_path / "audio" / "main" / "a" / "1.wav")
    index = index_corpus(settings)
    assert [clip.audio for clip in index.clips] == ["main/a/1.wav"]
    assert [(entry.key, entry.reason) for entry in index.skipped] == [("main/a/2", "sound_missing")]


def test_index_reads_any_folder_with_a_coordinate_file(tmp_path: Path) -> None:
    for name in ("ann/one.mp4", "ann/two.MOV", "bob.webm", "bob.txt", "notes.pdf", ".hidden/x.mp4"):
        touch(tmp_path / name)
    lines = "ann/one.mp4:1/2/3/4\nann/two.MOV,5/6\nnonsense\n"
    touch(tmp_path / "coordinates.txt", lines)
    index = index_corpus(BuildSettings(dataset="folder", root=str(tmp_path)))
    assert [(clip.key, clip.speaker, clip.split) for clip in index.clips] == [
        ("main/ann/one", "ann", "all"),
        ("main/ann/two", "ann", "all"),
    ]
    assert [(entry.source, entry.reason) for entry in index.skipped] == [("bob.webm", "coordinates_missing")]
    assert "line 3" in index.notices[0]


def test_index_keeps_keys_apart_that_differ_only_in_dots_and_spaces(tmp_path: Path) -> None:
    names = ["a.b.mp4", "a b.mp4", "a_b.mp4", "a_b.avi"]
    for name in names:
        touch(tmp_path / name)
    index = index_corpus(BuildSettings(dataset="folder", root=str(tmp_path), lip_box="80,80"))
    keys = [clip.key for clip in index.clips]
    assert len(set(keys)) == 4
    assert sorted(clip.video for clip in index.clips) == sorted(names)
    assert not any("." in key or " " in key for key in keys)


def test_index_shortens_keys_of_over_200_bytes_and_keeps_them_apart(tmp_path: Path) -> None:
    fits, accents = "f" * 195, "\N{LATIN SMALL LETTER E WITH ACUTE}" * 110
    names = [f"{fits}.mp4", f"{fits}1.mp4", f"{fits}2.mp4", f"{accents}.mp4", f"{'d' * 150}/{'c' * 150}.mp4"]
    same = [f"{'s' * 200}.a.mp4", f"{'s' * 200} a.mp4", f"{'s' * 200}_a.mp4"]
    for name in names + same:
        touch(tmp_path / name)
    clips = index_corpus(BuildSettings(dataset="folder", root=str(tmp_path), lip_box="80,80")).clips
    keys = {clip.video: clip.key for clip in clips}
    assert keys.keys() == {*names, *same}, "the path of the video stays whole"
    assert keys[f"{fits}.mp4"] == f"main/{fits}", "200 bytes are not too many"
    assert len(set(keys.values())) == len(keys)
    assert all(len(key.encode()) <= 200 and "." not in key and key.split() == [key] for key in keys.values())
    assert keys[f"{accents}.mp4"].startswith(f"main/{accents[:85]}")
    again = index_corpus(BuildSettings(dataset="folder", root=str(tmp_path), lip_box="80,80")).clips
    assert [clip.key for clip in again] == [clip.key for clip in clips]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1))
def test_make_key_makes_a_key_of_any_name(name: str) -> None:
    key = make_key("main", name)
    assert key.startswith("main/")
    assert len(key.encode()) <= 200
    assert "." not in key
    assert key.split() == [key]
    assert not any(ord(character) < 32 for character in key)
    assert is_key(key), "readers of datasets take it"


def clip_of(video: str) -> CorpusClip:
    key = make_key("main", video.removesuffix(".mp4"))
    return CorpusClip(key, "train", "main", "a", video, None, None, None, 25, (1, 0, 0))


def keys_of(*videos: str, **settings: Any) -> dict[str, str]:
    separated = separate_keys(map(clip_of, videos), BuildSettings(dataset="folder", **settings))
    return {clip.video: clip.key for clip in separated}


def test_keys_that_collide_even_with_a_hash_get_a_longer_one() -> None:
    hashed = keys_of("a b.mp4", "a_b.mp4")["a_b.mp4"]
    digest = hashlib.sha256(b"a_b.mp4").hexdigest()
    assert hashed == f"main/a_b-{digest[:8]}"
    longer = [f"a_b-{digest[:length]}.mp4" for length in (8, 16, 32, 64)]
    keys = keys_of("a b.mp4", *longer, "a_b.mp4")
    assert len(set(keys.values())) == 6
    assert keys["a b.mp4"] == "main/a_b"
    assert keys["a_b.mp4"] == hashed, "the first by path keeps it"
    assert keys_of(*reversed(["a b.mp4", *longer, "a_b.mp4"])) == keys


def test_key_of_a_part_is_given_to_no_other_clip() -> None:
    videos = ("a.mp4", "a-shot2.mp4", "a-part001.mp4", "a-shot1-part000.mp4", "b-shot2.mp4")
    whole = keys_of(*videos)
    assert whole["a-shot2.mp4"] == "main/a-shot2", "no video is split"
    for split in ({"scene_cuts": "split"}, {"long_clips": "split"}):
        keys = keys_of(*videos, **split)
        changed = {video for video in videos if keys[video] != whole[video]}
        assert changed == {"a-shot2.mp4", "a-part001.mp4", "a-shot1-part000.mp4"}
        assert len(set(keys.values())) == len(videos)


def test_index_refuses_a_folder_without_videos_or_the_coordinates_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no videos here"):
        index_corpus(BuildSettings(dataset="folder", root=str(tmp_path)))
    touch(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"none\.txt: no coordinate file"):
        index_corpus(BuildSettings(dataset="folder", root=str(tmp_path), coordinates=str(tmp_path / "none.txt")))


def test_index_of_a_folder_without_coordinates_leaves_lips_to_tracking(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    (clip,) = index_corpus(BuildSettings(dataset="folder", root=str(tmp_path))).clips
    assert (clip.coordinates, clip.frames) == (None, 75)


def test_index_of_a_folder_takes_split_lists(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        touch(tmp_path / name)
    touch(tmp_path / "train.txt", "a\nb.mp4\nlost\n")
    settings = BuildSettings(dataset="folder", root=str(tmp_path), lip_box="80,80", split=["train=train.txt"])
    index = index_corpus(settings)
    assert [(clip.key, clip.split) for clip in index.clips] == [("main/a", "train"), ("main/b", "train")]
    assert [(entry.source, entry.reason) for entry in index.skipped] == [("lost", "video_missing")]


@pytest.mark.parametrize("separator", [":", " ", ","])
def test_coordinate_file_may_separate_the_path_by_a_colon_a_space_or_a_comma(tmp_path: Path, separator: str) -> None:
    settings = lrs2(tmp_path, {"train": ["a/1"]}, ["main/a/1"])
    touch(tmp_path / "LRS2_crop" / "preprocess_main.txt", coordinate_line("a/1", 7, separator=separator))
    assert index_corpus(settings).clips[0].frames == 7


def test_parse_coordinates_gives_pairs_of_whole_pixels() -> None:
    np.testing.assert_array_equal(parse_coordinates("84/110/-3/111.0/"), [[84, 110], [-3, 111]])
    np.testing.assert_array_equal(parse_coordinates("84.4/110.6/-3.2/111."), [[84, 111], [-3, 111]])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("84/nan", "'nan' for y of frame 0"),
        ("84/110/8x/1", "'8x' for x of frame 1"),
        ("1/2/3", "3 numbers"),
        ("", "''"),
    ],
)
def test_parse_coordinates_quotes_what_is_no_coordinate(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_coordinates(text)


def test_fit_coordinates_mends_a_few_too_many_or_too_few_with_a_note() -> None:
    centers = np.arange(20).reshape(10, 2)
    fitted, note = fit_coordinates(centers, 8, 3)
    np.testing.assert_array_equal(fitted, centers[:8])
    assert note == "10 coordinates for 8 frames: dropped 2 surplus"
    fitted, note = fit_coordinates(centers, 12, 3)
    np.testing.assert_array_equal(fitted[10:], [[18, 19], [18, 19]])
    assert note == "10 coordinates for 12 frames: repeated the last for 2 missing"
    assert fit_coordinates(centers, 10, 0)[1] is None
    with pytest.raises(ValueError, match=r"10 coordinates.*14 frames"):
        fit_coordinates(centers, 14, 3)


def test_index_reads_the_corpus_of_real_footage_with_defaults(footage: Path) -> None:
    root = str(footage / "LRS2-BBC")
    index = index_corpus(BuildSettings(dataset="lrs2", root=root, split=["test_unseen=test_unseen.txt"]))
    assert len(index.clips) == 914
    assert index.skipped == []
    assert {clip.split for clip in index.clips} == {"train", "val", "test", "test_unseen"}


def test_index_skips_nothing_of_the_small_corpus(small_settings: BuildSettings) -> None:
    index = index_corpus(small_settings)
    assert (len(index.clips), index.skipped, index.notices) == (10, [], [])
