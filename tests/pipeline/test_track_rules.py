"""Rules of tracking, with networks that say what a test wants: when faces are looked for, gaps, cuts, the choice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from pipeline.media.errors import ClipError
from pipeline.tracking.face_tracker import FaceTracker
from pipeline.tracking.frame import Square
from pipeline.tracking.lip_tracks import LipTrack, TrackSettings, choose_track, tracks_of
from pipeline.tracking.mesh import Face, face_of, face_scale
from pipeline.tracking.video_tracker import VideoTracker, whole_centers

Array = np.ndarray[Any, Any]

SCENES = np.random.default_rng(0).integers(0, 255, (3, 16, 16)).astype(np.uint8)
GRAY = np.full((16, 16), 128, np.uint8)


def face(x: float, y: float = 100, scale: float = 40, opening: float = 0, score: float = 1) -> Face:
    return Face((x, y), (x, y - 48), scale, opening, 0.0, score, Square(x, y - 20, 4 * scale))


NOTHING = face(0, score=0)


@dataclass
class Frame:
    """A picture without pixels: the faces in it, and its thumbnail."""

    faces: Sequence[Face] = ()
    scene: Array = field(default_factory=lambda: SCENES[0])

    def thumbnail(self, side: int) -> Array:
        return self.scene


def find(picture: Frame, known: Sequence[Face], thorough: bool) -> list[Face]:
    return [found for found in picture.faces if found not in known]


def mesh(picture: Frame, square: Square) -> Face:
    """The nearest face whose square overlaps the one asked for."""
    near = [found for found in picture.faces if math.dist((found.square.x, found.square.y), (square.x, square.y)) < 60]
    return min(near, key=lambda found: abs(found.square.x - square.x), default=NOTHING)


def track(frames: Iterable[Frame]) -> FaceTracker:
    tracker = FaceTracker(find=find, mesh=mesh)
    for frame in frames:
        tracker.add(frame)
    tracker.finish()
    return tracker


def only_track(frames: Iterable[Frame]) -> LipTrack:
    (found,) = tracks_of(track(frames), 0)
    return found


def test_track_looks_for_faces_at_first_after_a_loss_and_once_a_second() -> None:
    asked: list[int] = []
    tracker = FaceTracker(mesh=mesh)

    def counted(picture: Frame, known: Sequence[Face], thorough: bool) -> list[Face]:
        asked.append(tracker.count - 1)
        return find(picture, known, thorough)

    tracker.find = counted
    for number in range(70):
        tracker.add(Frame([] if number in (30, 31) else [face(80)]))
    assert asked == [0, 25, 30, 31, 32, 57]


def test_track_centers_are_means_of_five_frames() -> None:
    xs = np.random.default_rng(1).normal(80, 3, 20)
    centers = only_track(Frame([face(x)]) for x in xs).centers[:, 0]
    assert centers[10] == pytest.approx(xs[8:13].mean())
    assert centers[0] == pytest.approx(xs[:3].mean())
    assert centers[19] == pytest.approx(xs[17:].mean())


def test_track_interpolates_gaps_and_holds_the_ends() -> None:
    xs = np.linspace(60, 100, 81)  # half a pixel a frame
    missing = {0, 1, 40, 41, 42, 80}
    found = only_track(Frame([] if n in missing else [face(x)]) for n, x in enumerate(xs))
    assert found.gaps == ((0, 2), (40, 3), (80, 1))
    assert found.missing == 6
    assert np.abs(found.centers[36:46, 0] - xs[36:46]).max() < 1e-9
    assert found.centers[0, 0] == pytest.approx(xs[2])


def test_track_refuses_a_face_that_is_missing_in_over_a_tenth() -> None:
    frames = [Frame([face(80)] if n % 8 else []) for n in range(80)]
    with pytest.raises(ClipError, match="missing in 10 of 80 frames") as error:
        choose_track([only_track(frames)], None, 25)
    assert (error.value.stage, error.value.reason) == ("tracking", "face_missing")


def test_track_refuses_a_face_that_is_missing_for_over_a_second() -> None:
    found = only_track(Frame([] if 200 <= n < 230 else [face(80)]) for n in range(600))
    with pytest.raises(ClipError, match=r"1\.2 s from frame 200") as error:
        choose_track([found], None, 25)
    assert error.value.reason == "face_missing"


def test_track_refuses_no_face() -> None:
    with pytest.raises(ClipError, match="no face") as error:
        choose_track(tracks_of(track([Frame()] * 40), 0), None, 25)
    assert error.value.reason == "face_missing"


def test_track_begins_anew_at_a_cut_and_smooths_nothing_across_it() -> None:
    tracker = track([Frame([face(60)], SCENES[0])] * 30 + [Frame([face(90)], SCENES[1])] * 40)
    assert tracker.cuts == [30]
    before, after = tracks_of(tracker, 0)[0], tracks_of(tracker, 1)[0]
    assert (set(before.centers[:, 0]), set(after.centers[:, 0])) == ({60.0}, {90.0})
    assert (after.first, len(after.centers)) == (30, 40)


def test_track_begins_anew_where_a_face_jumps_before_the_same_background() -> None:
    moved = np.clip(SCENES[0].astype(int) + np.random.default_rng(2).integers(-4, 5, (16, 16)), 0, 255).astype(np.uint8)
    tracker = track([Frame([face(60)])] * 30 + [Frame([face(95)], moved)] * 30)
    assert tracker.cuts == [30]


def test_track_takes_gray_frames_and_flashes_for_no_cut() -> None:
    white = np.full((16, 16), 255, np.uint8)
    odd = {0: GRAY, 1: GRAY, 30: white, 50: GRAY, 60: SCENES[2], 61: SCENES[2]}
    tracker = track(Frame([] if n in odd else [face(80)], odd.get(n, SCENES[0])) for n in range(100))
    assert tracker.cuts == []
    assert tracks_of(tracker, 0)[0].missing == 6


def test_track_takes_a_blank_beginning_for_missing_frames() -> None:
    tracker = track([Frame([], SCENES[1])] * 10 + [Frame([face(80)])] * 100 + [Frame([], SCENES[2])] * 5)
    assert tracker.cuts == []
    assert tracks_of(tracker, 0)[0].gaps == ((0, 10), (110, 5))


def test_track_takes_a_moving_camera_for_no_cut() -> None:
    pan = np.random.default_rng(3).integers(0, 255, (16, 20)).repeat(5, axis=1).astype(np.uint8)
    assert track(Frame([face(80)], pan[:, n : n + 16]) for n in range(60)).cuts == []


def two_faces(still: Sequence[int] = (), frames: int = 50) -> list[Frame]:
    """Two faces; those numbered in `still` do not talk."""
    openings = [0.0 if number in still else 8.0 for number in range(2)]
    return [
        Frame([face(200 * (1 + k), opening=openings[k] * (1 + math.sin(n + k))) for k in range(2)])
        for n in range(frames)
    ]


@pytest.mark.parametrize("still", [0, 1])
def test_track_chooses_the_face_whose_lips_move(still: int) -> None:
    chosen, notes = choose_track(tracks_of(track(two_faces([still])), 0), None, 25)
    assert (chosen.face, notes) == (2 - still, [])


def test_track_notes_a_close_runner_up() -> None:
    _, notes = choose_track(tracks_of(track(two_faces()), 0), None, 25)
    assert len(notes) == 1
    assert "face" in notes[0]


def test_track_chooses_the_longest_face_before_the_liveliest() -> None:
    frames = two_faces([0])
    shorter = [Frame(frame.faces[: 1 + (n < 30)]) for n, frame in enumerate(frames)]
    assert choose_track(tracks_of(track(shorter), 0), None, 25)[0].face == 1


def test_track_takes_the_face_of_a_number() -> None:
    tracks = tracks_of(track(two_faces([1])), 0)
    assert choose_track(tracks, 2, 25)[0].centers[0, 0] == 400
    with pytest.raises(ClipError, match="face 3") as error:
        choose_track(tracks, 3, 25)
    assert error.value.reason == "face_missing"
    with pytest.raises(ValueError, match="face: 0"):
        TrackSettings(face=0)


def tracked(frames: Iterable[Frame], cuts: Any) -> VideoTracker:
    return VideoTracker(TrackSettings(scene_cuts=cuts), tracker=track(frames))


def test_track_skips_a_clip_with_a_cut_or_splits_it() -> None:
    frames = [Frame([face(60)])] * 30 + [Frame([], SCENES[1])] * 40 + [Frame([face(90)], SCENES[2])] * 30
    with pytest.raises(ClipError, match=r"2 cuts, at 1\.20, 2\.80 s") as error:
        tracked(frames, "skip").shots()
    assert error.value.reason == "scene_cut"
    shots = tracked(frames, "split").shots()
    assert [(shot.first, shot.end, shot.chosen is not None) for shot in shots] == [
        (0, 30, True),
        (30, 70, False),
        (70, 100, True),
    ]
    centers = whole_centers(shots)
    assert centers is not None
    assert (centers.shape, centers[0, 0], centers[99, 0]) == ((100, 2), 60, 90)


def test_track_has_one_scale_the_median() -> None:
    scales = [40.0] * 30 + [80.0] * 9
    assert only_track(Frame([face(80, scale=scale)]) for scale in scales[:31]).scale == 40


def canonical_points(yaw: float, pitch: float) -> Array:
    """Landmarks of a flat face with its eyes 40 apart and its mouth 50 below them, turned and nodded."""
    points = np.zeros((468, 2))
    points[[33, 133]], points[[362, 263]] = (-20, 0), (20, 0)
    points[[61, 291]] = (0, 50)
    return points * (math.cos(yaw), math.cos(pitch))


def test_track_scale_is_fooled_neither_by_a_turned_head_nor_by_a_nod() -> None:
    from_front = face_of(canonical_points(0, 0), 1).scale
    assert from_front == pytest.approx(40)
    assert face_of(canonical_points(1.0, 0), 1).scale == pytest.approx(from_front)
    assert face_of(canonical_points(0, 0.8), 1).scale == pytest.approx(from_front)
    assert face_scale(30, 10) == 30
