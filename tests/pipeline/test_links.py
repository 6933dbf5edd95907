"""Links out of a corpus and what is no regular file are skipped at the index and refused at every read."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from pipeline.build import plan_build, run_build
from pipeline.config import BuildSettings
from pipeline.corpora import index_corpus
from pipeline.corpora.listing import list_files
from pipeline.media.source_store import OutsideError, SourceStore
from pipeline.tracking.lip_tracks import TrackSettings
from pipeline.tracking.track_folder import track_folder
from shards import open_dataset
from tests.corpora import Lrs2Corpus, click_track, pictures, write_video
from tests.irregular_files import a_socket, a_sparse_giant

SECRET = "Text:  THE SECRET\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET)
    return folder


def settings_of(root: Path, **changes: Any) -> BuildSettings:
    return BuildSettings("folder", str(root), **{"lip_box": "80,80"} | changes)


def skipped(settings: BuildSettings) -> dict[str, tuple[str, str]]:
    """Source -> stage and reason of the clips that the index skips."""
    return {entry.source: (entry.stage, entry.reason) for entry in index_corpus(settings).skipped}


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def links_to_each_other(path: Path) -> None:
    path.symlink_to("other")
    path.with_name("other").symlink_to(path.name)


@pytest.mark.parametrize("ending", ["mp4", "txt"])
@pytest.mark.parametrize("make", [a_fifo, a_socket, a_sparse_giant, a_link_to_itself, links_to_each_other])
def test_index_skips_what_is_no_regular_file(corpus: Path, make: Callable[[Path], None], ending: str) -> None:
    (corpus / f"a.{ending}").unlink()
    make(corpus / f"a.{ending}")
    assert skipped(settings_of(corpus)) == {"a.mp4": ("index", "not_regular")}


@pytest.mark.parametrize("ending", ["mp4", "txt"])
def test_index_skips_links_out_of_the_corpus(corpus: Path, outside: Path, ending: str) -> None:
    shutil.move(corpus / f"a.{ending}", outside / "secret")
    (corpus / f"a.{ending}").symlink_to(outside / "secret")
    index = index_corpus(settings_of(corpus))
    assert [(entry.source, entry.stage, entry.reason) for entry in index.skipped] == [
        ("a.mp4", "index", "outside_corpus")
    ]
    assert "--follow-links" in " ".join(index.notices)
    assert str(outside) not in index.skipped[0].detail  # which goes into the dataset
    assert skipped(settings_of(corpus, follow_links=True)) == {}


def test_links_inside_of_the_corpus_and_the_named_folders_are_read(corpus: Path, outside: Path, tmp_path: Path) -> None:
    (corpus / "c.mp4").symlink_to("a.mp4")
    (corpus / "d.mp4").symlink_to(corpus.absolute() / "b.mp4")
    shutil.copy(corpus / "a.mp4", outside / "e.mp4")
    (corpus / "e.mp4").symlink_to(outside / "e.mp4")
    linked = tmp_path / "linked"
    linked.symlink_to(corpus)
    assert skipped(settings_of(linked)) == {"e.mp4": ("index", "outside_corpus")}
    (outside / "list.txt").write_text("a\nc\nd\ne\n")
    named = settings_of(linked, split=[f"train={outside / 'list.txt'}"])
    assert skipped(named) == {}
    (outside / "other.mp4").symlink_to("/etc/passwd")
    (corpus / "e.mp4").unlink()
    (corpus / "e.mp4").symlink_to(outside / "other.mp4")  # a link to a link
    assert skipped(named) == {"e.mp4": ("index", "outside_corpus")}


def test_index_does_not_go_into_folders_outside(corpus: Path, outside: Path) -> None:
    (outside / "deep").mkdir()
    shutil.copy(corpus / "a.mp4", outside / "deep" / "x.mp4")
    (corpus / "speaker").symlink_to(outside / "deep", target_is_directory=True)
    listing = list_files(SourceStore(str(corpus)))
    assert "speaker/x.mp4" not in listing
    assert skipped(settings_of(corpus)) == {"speaker": ("index", "outside_corpus")}
    (corpus / "train.txt").write_text("a.mp4\nspeaker/x.mp4\n../outside/deep/x.mp4\n/etc/passwd\n")
    found = skipped(settings_of(corpus, split=["train=train.txt"]))
    assert found["speaker/x.mp4"] == ("index", "outside_corpus")
    assert found["../outside/deep/x.mp4"] == ("index", "video_missing")
    assert "speaker/x.mp4" in list_files(SourceStore(str(corpus), None))


def test_index_of_folders_that_link_to_each_other_ends(corpus: Path) -> None:
    folders = [corpus / f"f{number}" for number in range(8)]
    for folder in folders:
        folder.mkdir()
    for folder in folders:
        for other in folders:
            (folder / f"to-{other.name}").symlink_to(f"../{other.name}")
    (corpus / "up").symlink_to("..")
    write_video(folders[0] / "z.mp4", pictures(5), None)
    assert 3 <= sum(path.endswith(".mp4") for path in list_files(SourceStore(str(corpus)))) < 100


def test_lists_and_coordinates_are_not_read_through_links_out(corpus: Path, outside: Path) -> None:
    (corpus / "train.txt").symlink_to(outside / "secret.txt")
    with pytest.raises(OutsideError, match=r"train\.txt: a link that leads out"):
        index_corpus(settings_of(corpus, split=["train=train.txt"]))
    (corpus / "coordinates.txt").symlink_to(outside / "secret.txt")
    with pytest.raises(OutsideError, match=r"coordinates\.txt"):
        index_corpus(BuildSettings("folder", str(corpus)))
    (corpus / "coordinates.txt").unlink()
    os.mkfifo(corpus / "coordinates.txt")
    with pytest.raises(ValueError, match=r"coordinates\.txt: a FIFO"):
        index_corpus(BuildSettings("folder", str(corpus)))


def test_coordinates_of_lrs_are_not_read_through_links_out(tmp_path: Path, outside: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "lrs")
    corpus.add("a/1")
    corpus.finish()
    lines = corpus.crops / "preprocess_main.txt"
    shutil.move(lines, outside / "lines.txt")
    lines.symlink_to(outside / "lines.txt")
    with pytest.raises(OutsideError, match="preprocess_main"):
        index_corpus(BuildSettings("lrs2", str(corpus.root)))
    assert len(index_corpus(BuildSettings("lrs2", str(corpus.root), follow_links=True)).clips) == 1


def test_wavs_and_alignments_are_not_read_through_links_out(tmp_path: Path, corpus: Path, outside: Path) -> None:
    wavs = tmp_path / "wavs"
    wavs.mkdir()
    soundfile.write(outside / "x.wav", click_track(0.4, 0.1), 16_000)
    shutil.copy(outside / "x.wav", wavs / "b.wav")
    (wavs / "a.wav").symlink_to(outside / "x.wav")
    assert skipped(settings_of(corpus, audio=str(wavs))) == {"a.mp4": ("index", "outside_corpus")}
    grid = tmp_path / "grid"
    write_video(grid / "s1" / "bbaf2n.mp4", pictures(10), None)
    (grid / "s1" / "bbaf2n.align").symlink_to(outside / "secret.txt")
    assert skipped(BuildSettings("grid", str(grid), lip_box="80,80")) == {"s1/bbaf2n.mp4": ("index", "outside_corpus")}


@pytest.mark.parametrize("ending", ["mp4", "txt"])
def test_build_refuses_files_that_became_links_or_fifos_since_the_index(
    corpus: Path, outside: Path, tmp_path: Path, ending: str
) -> None:
    for other in ("mp4", "txt"):
        shutil.copy(corpus / f"a.{other}", corpus / f"c.{other}")
    settings = settings_of(corpus)
    plan = plan_build(settings, lambda line: None)
    (corpus / f"a.{ending}").unlink()
    (corpus / f"a.{ending}").symlink_to(outside / "secret.txt")
    (corpus / f"b.{ending}").unlink()
    os.mkfifo(corpus / f"b.{ending}")
    out = tmp_path / "out"
    run_build(plan, settings, str(out), workers=0)
    entries = map(json.loads, (out / "errors.jsonl").read_text().splitlines())
    assert {entry["key"]: entry["reason"] for entry in entries} == {
        "main/a": "outside_corpus",
        "main/b": "not_regular",
    }
    assert not any(b"SECRET" in path.read_bytes() for path in out.iterdir())
    assert len(open_dataset(str(out)).index) == 1


def test_tracking_skips_links_out_and_names_with_line_breaks(corpus: Path, outside: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    shutil.move(corpus / "a.mp4", outside / "x.mp4")
    (corpus / "a.mp4").symlink_to(outside / "x.mp4")
    (corpus / "b.mp4").rename(corpus / "b\nc.mp4")
    tracked = track_folder(str(corpus), str(tmp_path / "c.txt"), TrackSettings(), workers=0)
    assert tracked.usable == 0
    assert dict(tracked.reasons) == {"outside_corpus": 1, "video_unreadable": 1}


def test_source_store_keeps_its_roots_in_other_processes(corpus: Path, outside: Path) -> None:
    (corpus / "x").symlink_to(outside / "secret.txt")
    for store in (SourceStore(str(corpus)), pickle.loads(pickle.dumps(SourceStore(str(corpus))))):
        for read in (store.read, store.size, store.sha256):
            with pytest.raises(OutsideError):
                read("x")
        with pytest.raises(OutsideError):
            store.read_range("x", 0, 1)
        with pytest.raises(OutsideError):
            store.read("../outside/secret.txt")
    assert pickle.loads(pickle.dumps(SourceStore(str(corpus), None))).read("x") == SECRET.encode()
