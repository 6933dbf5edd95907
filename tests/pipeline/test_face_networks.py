"""The face networks on drawn faces: found wherever they are and however large, and lips where they were drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.media.crop import UPRIGHT, Orientation
from pipeline.tracking.face_networks import WHEEL, MissingModelsError, model_file
from pipeline.tracking.face_search import find_faces
from pipeline.tracking.face_tracker import FaceTracker
from pipeline.tracking.frame import Frame, Square
from pipeline.tracking.lip_tracks import tracks_of
from tests.faces import on_canvas, resized, talking_face

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[2]


def frame_of(picture: Array, form: str = "yuv420p") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=form)


def tracked(pictures: Iterable[Array], orientation: Orientation = UPRIGHT) -> FaceTracker:
    tracker = FaceTracker()
    for picture in pictures:
        tracker.add(Frame(frame_of(picture), orientation))
    tracker.finish()
    return tracker


def assert_lips_at(tracker: FaceTracker, centers: Array, within: float) -> None:
    assert tracker.cuts == []
    (track,) = tracks_of(tracker, 0)
    assert track.missing == 0
    assert np.abs(track.centers - centers).mean(axis=0).max() < within


def test_picture_sample_of_the_whole_frame_is_the_frame() -> None:
    picture = talking_face(0, 10)[0][0]
    for form in ("yuv444p", "yuv420p", "rgb24", "yuv420p10le"):
        sample = Frame(frame_of(picture, form)).sample(Square(80, 80, 160), 160)
        assert np.abs(sample.astype(int) - picture).mean() < 4, form


@pytest.mark.parametrize("turned", [Orientation(True, 1, -1), Orientation(True, -1, 1), Orientation(False, -1, -1)])
def test_picture_is_sampled_as_shown(turned: Orientation) -> None:
    stored = talking_face(1, 10)[0][0][:, 20:120]
    shown = (stored.transpose(1, 0, 2) if turned.transposed else stored)[:: turned.down, :: turned.across]
    picture = Frame(frame_of(stored, "yuv444p"), turned)
    assert (picture.width, picture.height) == shown.shape[1::-1]
    sample = picture.sample(Square(40, 60, 40), 40)
    assert np.abs(sample.astype(int) - shown[40:80, 20:60]).mean() < 4


def test_picture_beyond_its_edge_goes_on_or_is_black() -> None:
    white = Frame(frame_of(np.full((32, 32, 3), 255, np.uint8)))
    assert white.sample(Square(0, 0, 20), 20).min() > 250
    assert white.sample(Square(0, 0, 20), 20, beyond=False)[:8, :8].max() < 5
    assert white.sample(Square(-300, 300, 20), 20).min() > 250
    assert white.sample(Square(0, 0, 4000), 20, beyond=False).mean() < 10


def test_lips_of_drawn_faces_are_found() -> None:
    for speaker in range(3):
        pictures, centers = talking_face(speaker, 10)
        assert_lips_at(tracked(pictures), centers, 2)


def test_lips_are_found_in_a_frame_three_times_wider() -> None:
    pictures, centers = talking_face(0, 10)
    assert_lips_at(tracked(on_canvas(pictures, 480, 160, 300, 0)), centers + np.array([300, 0]), 2)


def test_lips_are_found_in_1080p() -> None:
    pictures, centers = talking_face(2, 10)
    large = on_canvas(pictures[:4], 1920, 1080, 500, 0, side=1080)
    assert_lips_at(tracked(large), centers[:4] * 6.75 + [500, 0], 2 * 6.75)
    small = on_canvas(pictures[:4], 1920, 1080, 1500, 700, side=100)
    assert_lips_at(tracked(small), centers[:4] * 0.625 + [1500, 700], 2)


def test_lips_are_found_in_a_mirrored_and_in_a_turned_file() -> None:
    pictures, centers = talking_face(1, 10)
    assert_lips_at(tracked(pictures[:, :, ::-1]), np.array([160, 0]) + centers * np.array([-1, 1]), 2.5)
    stored = [np.rot90(picture) for picture in pictures]
    assert_lips_at(tracked(stored, Orientation(True, 1, -1)), centers, 2.5)


@pytest.mark.parametrize("speaker", [1, 2, 5])
def test_lips_are_found_where_mouth_and_nose_fill_the_frame(speaker: int) -> None:
    pictures, centers = talking_face(speaker, 10)
    tight = pictures[:, 72:140, 50:118]
    assert_lips_at(tracked(tight), centers - [50, 72], 3)
    enlarged = [resized(picture, 340, 340) for picture in tight]
    assert_lips_at(tracked(enlarged), (centers - [50, 72]) * 5, 15)


def test_lips_of_two_faces_side_by_side_are_told_apart() -> None:
    (one, left), (other, right) = talking_face(0, 10), talking_face(1, 10)
    tracks = tracks_of(tracked(np.concatenate([one, other], axis=2)), 0)
    assert [track.face for track in tracks] == [1, 2]
    assert np.abs(tracks[0].centers - left).mean() < 2
    assert np.abs(tracks[1].centers - right - [160, 0]).mean() < 2.5


def test_lips_are_tracked_anew_after_a_cut() -> None:
    (one, first), (other, second) = talking_face(0, 10), talking_face(1, 10)
    tracker = tracked([*one, *other])
    assert tracker.cuts == [10]
    for shot, centers in enumerate((first, second)):
        (track,) = tracks_of(tracker, shot)
        assert np.abs(track.centers - centers).mean() < 2.5


def test_faces_are_not_seen_where_there_are_none() -> None:
    random = np.random.default_rng(0)
    for cells in (2, 5, 20, 160):
        coarse = random.integers(0, 255, (cells, cells, 3)).astype(np.uint8)
        assert find_faces(Frame(frame_of(resized(coarse, 320, 320))), [], True) == []
    assert find_faces(Frame(frame_of(np.full((160, 160, 3), 128, np.uint8))), [], True) == []


def test_face_networks_that_are_missing_are_named_with_the_command_that_brings_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata, "files", lambda name: [])
    with pytest.raises(MissingModelsError) as error:
        model_file("mesh")
    assert f"{sys.executable} -m pip install --no-deps {WHEEL}" in str(error.value)


def test_face_networks_are_found_without_importing_their_package() -> None:
    assert model_file("mesh").is_file()
    assert "mediapipe" not in sys.modules


def test_face_networks_come_from_the_wheel_that_make_installs() -> None:
    assert f"\n{WHEEL}\n" in (ROOT / "constraints.txt").read_text()


@pytest.mark.parametrize("clips", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_lips_of_real_faces_are_where_the_corpus_says(footage: Path, clips: int) -> None:
    lines = dict(line.split(":") for line in (footage / "LRS2_crop/preprocess_main.txt").read_text().splitlines())
    names = (footage / "test_unseen.txt").read_text().split() + (footage / "test.txt").read_text().split()
    apart = []
    for name in names[:clips]:
        stored = np.array(lines[f"{name}.mp4"].split("/"), int).reshape(-1, 2)
        tracker = FaceTracker()
        with av.open(str(footage / f"LRS2-BBC/main/{name}.mp4")) as container:
            for frame in container.decode(video=0):
                tracker.add(Frame(frame))
        (track,) = tracks_of(tracker, 0)
        assert track.missing == 0, name
        apart.append(np.rint(track.centers) - stored[: tracker.count])
    assert np.abs(np.concatenate(apart)).mean(axis=0).max() <= 0.6
