"""`pipeline track`: what it writes of a folder of videos, and what it says of those it cannot use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.build import plan_build, run_build
from pipeline.cli import main
from pipeline.config import BuildSettings
from pipeline.media.coordinates import parse_coordinates, read_coordinate_file
from pipeline.tracking import track_folder
from pipeline.tracking.lip_tracks import TrackSettings
from pipeline.tracking.video_tracker import VideoTracker, track_video
from shards import Store
from tests.corpora import click_track, pictures, write_video
from tests.faces import talking_face


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two talking faces, both side by side, one after the other, and a wall."""
    folder = tmp_path_factory.mktemp("videos")
    (one, _), (other, _) = talking_face(0, 10), talking_face(1, 10)
    sound = click_track(0.8, 0.2)
    write_video(folder / "a" / "1.mp4", one, sound)
    write_video(folder / "a" / "2.mp4", other, sound)
    write_video(folder / "b" / "both.mp4", np.concatenate([one, other], axis=2), sound)
    write_video(folder / "b" / "cut.mp4", np.concatenate([one, other]), sound)
    write_video(folder / "b" / "wall.mp4", pictures(10), sound)
    (folder / "b" / "torn.mp4").write_bytes(b"no video")
    return folder


def test_track_writes_coordinates_that_a_build_reads(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "coordinates.txt"
    assert main(["track", "--root", str(videos), "--out", str(out), "--workers", "0"]) == 0
    lines, notices = read_coordinate_file(Store(str(tmp_path)), out.name)
    assert (sorted(lines), notices) == (["a/1.mp4", "a/2.mp4", "b/both.mp4"], [])
    for path, speaker in (("a/1.mp4", 0), ("a/2.mp4", 1)):
        centers = parse_coordinates(lines[path])
        assert np.abs(centers - talking_face(speaker, 10)[1]).mean() < 2.5
    settings = BuildSettings(dataset="folder", root=str(videos), coordinates=str(out), transcripts="optional")
    built = run_build(plan_build(settings, print), settings, str(tmp_path / "shards"), workers=0)
    assert built.manifest.totals["clips"] == 3


def test_track_says_of_each_video_what_was_seen(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", "--root", str(videos), "--out", str(tmp_path / "c.txt"), "--workers", "0"]) == 0
    output = capsys.readouterr()
    for part in ("1 skipped: scene_cut", "1 skipped: face_missing", "1 skipped: video_unreadable", "3 of 6 videos"):
        assert part in output.out
    assert "6/6 clips" in output.err
    rows = pq.read_table(tmp_path / "tracks.parquet").to_pylist()
    assert {row["path"]: row["reason"] for row in rows} == {
        "a/1.mp4": None,
        "a/2.mp4": None,
        "b/both.mp4": None,
        "b/cut.mp4": "scene_cut",
        "b/torn.mp4": "video_unreadable",
        "b/wall.mp4": "face_missing",
    }
    both = [row for row in rows if row["path"] == "b/both.mp4"]
    assert ([row["face"] for row in both], [row["chosen"] for row in both].count(True)) == ([1, 2], 1)
    assert all(70 < row["size"] < 95 and row["score"] > 0.9 and row["gaps"] == [] for row in both)


def test_track_splits_at_cuts_and_takes_every_face(videos: Path, tmp_path: Path) -> None:
    arguments = [
        "--out",
        str(tmp_path / "c.txt"),
        "--workers",
        "0",
        "--scene-cuts",
        "split",
        "--all-faces",
        "--face",
        "1",
    ]
    assert main(["track", "--root", str(videos / "b"), *arguments]) == 0
    rows = pq.read_table(tmp_path / "tracks.parquet").to_pylist()
    assert [(row["shot"], row["first_frame"], row["frames"]) for row in rows if row["path"] == "cut.mp4"] == [
        (0, 0, 10),
        (1, 10, 10),
    ]
    chosen, _ = read_coordinate_file(Store(str(tmp_path)), "c.txt")
    first, _ = read_coordinate_file(Store(str(tmp_path)), "c-face-1.txt")
    second, _ = read_coordinate_file(Store(str(tmp_path)), "c-face-2.txt")
    assert (sorted(chosen), chosen, sorted(second)) == (["both.mp4", "cut.mp4"], first, ["both.mp4"])
    assert (parse_coordinates(second["both.mp4"])[:, 0] > 160).all()
    assert len(parse_coordinates(chosen["cut.mp4"])) == 20


def test_track_calibrates_on_a_dataset_with_coordinates(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for speaker in range(2):
        centers = np.rint(talking_face(speaker, 10)[1]).astype(int).ravel()
        lines.append(f"{speaker + 1}.mp4:" + "/".join(map(str, centers)))
    (tmp_path / "c.txt").write_text("\n".join(lines))
    root = str(videos / "a")
    settings = BuildSettings(
        dataset="folder", root=root, coordinates=str(tmp_path / "c.txt"), transcripts="optional", crop_radius=40
    )
    run_build(plan_build(settings, print), settings, str(tmp_path / "shards"), workers=0)
    assert main(["track", "--root", root, "--calibrate", str(tmp_path / "shards")]) == 0
    assert "lip square: 2.0" in capsys.readouterr().out
    assert main(["track", "--root", str(videos / "b"), "--calibrate", str(tmp_path / "shards")]) == 2
    assert "--root" in capsys.readouterr().err


def test_track_resumes_with_what_is_missing(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["track", "--root", str(videos), "--out", str(tmp_path / "c.txt"), "--workers", "0"]
    monkeypatch.setattr(track_folder, "_VIDEOS_A_TASK", 1)
    tracked: list[str] = []

    def stumble(content: bytes, settings: TrackSettings) -> VideoTracker:
        if len(tracked) == 4:
            raise KeyboardInterrupt
        tracked.append("")
        return track_video(content, settings)

    monkeypatch.setattr("pipeline.tracking.track_task.track_video", stumble)
    assert main(arguments) == 130
    assert len(list((tmp_path / "c.txt.parts").iterdir())) == 4
    monkeypatch.setattr("pipeline.tracking.track_task.track_video", track_video)
    assert main(arguments) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.txt", "tracks.parquet"]
    lines, _ = read_coordinate_file(Store(str(tmp_path)), "c.txt")
    assert sorted(lines) == ["a/1.mp4", "a/2.mp4", "b/both.mp4"]


def test_track_refuses_a_folder_without_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", "--root", str(tmp_path), "--workers", "0"]) == 2
    assert "no videos" in capsys.readouterr().err
