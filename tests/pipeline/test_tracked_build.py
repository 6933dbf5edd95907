"""Builds without coordinates: lips are tracked within the one decode, and cut in proportion to the face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.build import Built, plan_build, run_build
from pipeline.cli import main
from pipeline.config import BuildSettings
from pipeline.media import spool
from pipeline.media.decode import decode_video
from pipeline.plan import Plan
from shards import Sample, open_dataset
from tests.corpora import click_track, coordinate_line, pictures, write_video
from tests.faces import on_canvas, resized, talking_face

Array = np.ndarray[Any, Any]


def videos_of(folder: Path, **clips: Array) -> BuildSettings:
    for name, frames in clips.items():
        write_video(folder / "a" / f"{name}.mp4", frames, click_track(len(frames) / 25, 0.1))
    return BuildSettings(dataset="folder", root=str(folder), transcripts="optional")


def build(settings: BuildSettings, out: Path) -> tuple[Built, dict[str, Sample]]:
    built = run_build(plan_build(settings, print), settings, str(out), workers=0)
    return built, {sample.key.rpartition("/")[2]: sample for sample in open_dataset(str(out)).samples("all")}


def mean_difference(one: Array, other: Array) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def test_build_without_coordinates_cuts_what_coordinates_would(tmp_path: Path) -> None:
    frames, centers = talking_face(2, 12)
    settings = videos_of(tmp_path / "videos", clip=frames)
    tracked = build(settings, tmp_path / "tracked")[1]["clip"]
    line = "a/clip.mp4:" + "/".join(map(str, np.rint(centers).astype(int).ravel()))
    (tmp_path / "c.txt").write_text(line)
    given = build(replace(settings, coordinates=str(tmp_path / "c.txt")), tmp_path / "given")[1]["clip"]
    assert tracked.roi.shape == given.roi.shape == (12, 90, 90)
    # the square is as large as this face is, not 80 pixels
    assert tracked.meta.lip_square is not None
    assert 70 < tracked.meta.lip_square < 95
    square = tracked.meta.lip_square
    scaled = [crop_as(picture, center, square) for picture, center in zip(frames, tracked.meta.lips, strict=True)]
    assert mean_difference(tracked.roi, np.stack(scaled)) < 6
    assert np.abs(np.array(tracked.meta.lips) - centers).max() < 3
    assert given.meta.lip_square is None
    assert (tracked.wav == given.wav).all()


def crop_as(picture: Array, center: tuple[int, int], square: float) -> Array:
    """The region of one picture, by Pillow alone."""
    half = square * 90 / 80 / 2
    x, y = center
    gray = Image.fromarray(np.pad(np.asarray(Image.fromarray(picture).convert("L")), 40))
    box = (x - half + 40, y - half + 40, x + half + 40, y + half + 40)
    return np.asarray(gray.resize((90, 90), Image.Resampling.BILINEAR, box=box))


def test_build_shows_a_face_of_any_size_alike(tmp_path: Path) -> None:
    frames, _ = talking_face(2, 12)
    settings = videos_of(
        tmp_path / "videos",
        native=frames,
        wide=on_canvas(frames, 480, 160, 200, 0),
        large=on_canvas(frames, 1280, 720, 300, 100, side=560),
    )
    samples = build(settings, tmp_path / "out")[1]
    native = samples["native"]
    for name, times in (("wide", 1.0), ("large", 3.5)):
        other = samples[name].meta.lip_square
        assert other is not None
        assert native.meta.lip_square is not None
        assert other / native.meta.lip_square == pytest.approx(times, rel=0.04)
        # but for what lies beyond the edges of the smaller picture
        assert mean_difference(samples[name].roi[:, :70, 10:80], native.roi[:, :70, 10:80]) < 6, name


def test_build_decodes_a_tracked_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return decode_video(*arguments, **named)

    monkeypatch.setattr("pipeline.lip_regions.decode_video", counted)
    build(videos_of(tmp_path / "videos", clip=talking_face(2, 12)[0]), tmp_path / "out")
    assert len(calls) == 1


def test_build_of_tracked_lips_gives_the_same_bytes_again(tmp_path: Path) -> None:
    settings = videos_of(tmp_path / "videos", clip=talking_face(2, 12)[0])
    for out in ("one", "two"):
        build(settings, tmp_path / out)
    assert (tmp_path / "one/all-000000.tar").read_bytes() == (tmp_path / "two/all-000000.tar").read_bytes()
    assert main(["verify", str(tmp_path / "one"), "--workers", "0"]) == 0


def cut_clip(folder: Path) -> BuildSettings:
    """Twelve frames of one face, then as many of another; words with times across both."""
    settings = videos_of(folder, cut=np.concatenate([talking_face(2, 12)[0], talking_face(1, 12)[0]]))
    words = "BLUE 0.05 0.30 9\nRED 0.55 0.80 9"
    (folder / "a/cut.txt").write_text(f"Text:  BLUE RED\nConf:  1\n\nWORD START END ASDSCORE\n{words}\n")
    return settings


def test_build_skips_a_video_with_a_cut(tmp_path: Path) -> None:
    settings = cut_clip(tmp_path / "videos")
    write_video(tmp_path / "videos/a/good.mp4", talking_face(2, 12)[0], click_track(0.5, 0.1))
    built, samples = build(settings, tmp_path / "out")
    assert list(samples) == ["good"]
    assert [(entry.key, entry.stage, entry.reason) for entry in built.skipped] == [
        ("main/a/cut", "tracking", "scene_cut")
    ]


def test_build_splits_a_video_at_its_cut(tmp_path: Path) -> None:
    settings = replace(cut_clip(tmp_path / "videos"), scene_cuts="split")
    samples = build(settings, tmp_path / "out")[1]
    assert sorted(samples) == ["cut-shot1", "cut-shot2"]
    first, second = samples["cut-shot1"], samples["cut-shot2"]
    assert (first.meta.frames, second.meta.frames) == (12, 12)
    assert (first.text, second.text) == ("blue", "red")
    assert np.allclose(second.meta.words[0][1:], (0.07, 0.32))
    assert first.meta.source_start is None
    assert second.meta.source_start == pytest.approx(0.48)
    assert np.abs(first.wav[1600:1632]).max() > 10_000  # the click, at 0.1 s of the video
    assert np.abs(second.wav).max() < 2_000
    assert "shot 2 of 2, frames 12 to 23" in second.meta.notes


def test_build_reports_a_shot_that_shows_no_face(tmp_path: Path) -> None:
    frames = np.concatenate([talking_face(2, 12)[0], pictures(40)])
    settings = replace(videos_of(tmp_path / "videos", cut=frames), scene_cuts="split")
    built, samples = build(settings, tmp_path / "out")
    assert list(samples) == ["cut-shot1"]
    assert [(entry.key, entry.reason) for entry in built.skipped] == [("main/a/cut-shot2", "face_missing")]


def test_build_turns_the_square_with_the_head_if_asked(tmp_path: Path) -> None:
    frames, _ = talking_face(2, 12)
    leaning = np.stack([np.asarray(Image.fromarray(frame).rotate(20, Image.Resampling.BICUBIC)) for frame in frames])
    settings = videos_of(tmp_path / "videos", upright=frames, leaning=leaning)
    middle = slice(25, 65)
    differences = []
    for rotate in (False, True):
        samples = build(replace(settings, rotate=rotate), tmp_path / f"out-{rotate}")[1]
        upright, other = samples["upright"].roi[:, middle, middle], samples["leaning"].roi[:, middle, middle]
        differences.append(mean_difference(upright, other))
    assert differences[1] < 0.6 * differences[0]


def test_build_takes_the_face_of_a_number(tmp_path: Path) -> None:
    both = np.concatenate([talking_face(2, 12)[0], talking_face(1, 12)[0]], axis=2)
    settings = videos_of(tmp_path / "videos", both=both)
    for face in (1, 2):
        sample = build(replace(settings, face=face), tmp_path / str(face))[1]["both"]
        assert (sample.meta.lips[0][0] > 160) == (face == 2)


def test_plan_of_given_coordinates_names_no_setting_of_tracking(tmp_path: Path) -> None:
    tracked = videos_of(tmp_path / "videos", clip=talking_face(2, 12)[0])
    (tmp_path / "c.txt").write_text(coordinate_line("a/clip", 12))
    given = replace(tracked, coordinates=str(tmp_path / "c.txt"))
    names = {"face", "scene_cuts", "square_eye_distances", "rotate", "tracking"}

    def named(plan: Plan) -> set[str]:
        return names & set(plan.settings)

    assert (named(plan_build(tracked, print)), named(plan_build(given, print))) == (names, set())


def test_build_without_face_networks_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = videos_of(tmp_path / "videos", clip=pictures(12))
    monkeypatch.setattr(metadata, "files", lambda name: [])
    arguments: Sequence[str] = ["build", "--dataset", "folder", "--root", settings.root, "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "pip install --no-deps mediapipe==" in capsys.readouterr().err


def test_build_of_grid_as_it_comes_is_tracked(grid: Path, tmp_path: Path) -> None:
    settings = BuildSettings(dataset="grid", root=str(grid), limit=2)
    built = run_build(plan_build(settings, print), settings, str(tmp_path / "out"), workers=0)
    assert built.manifest.totals["clips"] > 0
    dataset = open_dataset(str(tmp_path / "out"))
    sample = dataset.sample(dataset.index.column("key").to_pylist()[0])
    assert sample.roi.shape[1:] == (90, 90)
    assert sample.meta.lip_square is not None


def test_preview_shows_whole_frames_with_the_lip_square(tmp_path: Path) -> None:
    frames, _ = talking_face(2, 12)
    settings = videos_of(tmp_path / "videos", clip=resized_all(frames, 320))
    build(settings, tmp_path / "out")
    page = tmp_path / "page.html"
    assert main(["preview", str(tmp_path / "out"), "--html", str(page), "--root", settings.root]) == 0
    assert page.read_text().count('<img class="frame"') == 1
    assert main(["preview", str(tmp_path / "out"), "--html", str(page)]) == 0
    assert '<img class="frame"' not in page.read_text()
    assert main(["preview", str(tmp_path / "out"), "--html", str(page), "--root", str(tmp_path)]) == 2


def test_preview_of_a_source_that_leads_out_of_the_root_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, _ = talking_face(2, 12)
    settings = videos_of(tmp_path / "videos", clip=frames)
    build(settings, tmp_path / "out")
    video = tmp_path / "videos/a/clip.mp4"
    video.rename(tmp_path / "elsewhere")
    video.symlink_to(tmp_path / "elsewhere")
    arguments = [str(tmp_path / "out"), "--html", str(tmp_path / "page.html"), "--root", settings.root]
    assert main(["preview", *arguments]) == 2
    assert f"{video}: a link that leads out" in capsys.readouterr().err


def resized_all(frames: Array, side: int) -> Array:
    return np.stack([resized(frame, side, side) for frame in frames])


def test_build_of_tracked_lips_is_the_same_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = videos_of(tmp_path / "videos", clip=talking_face(2, 12)[0])
    in_memory = build(settings, tmp_path / "memory")[1]["clip"]
    monkeypatch.setattr(spool, "MEMORY_BYTES", 50_000)  # two frames
    assert (build(settings, tmp_path / "disk")[1]["clip"].roi == in_memory.roi).all()
