"""Turn what was seen of faces into tracks: gaps filled, lips smoothed, one size each; choose the face that talks.

Of several faces the one that talks is the one seen longest; of those seen about as long, the one whose lips move most.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from pipeline.media.errors import ClipError
from pipeline.tracking.face_tracker import FaceLog, FaceTracker

Array = np.ndarray[Any, Any]

SQUARE_EYE_DISTANCES = 2.07
"""Side of the lip square, over the eye distance: the published crops see 80 pixels of faces as large as these
(`pipeline track --calibrate`)."""

MOST_MISSING = 0.1
"""Of a clip's frames: where the face is missing in more, the clip is skipped."""

_GAP_SECONDS = 1.0
"""A face may be missing for so long at once."""
_SMOOTHING_SECONDS = 0.2
"""Lip centers are means over so long: 5 frames of 25 a second, as the published ones."""
_ABOUT_AS_LONG = 0.8
"""Of the longest face's frames."""
_LEAST_MEAN_SCORE = 0.85
"""Faces score 1.0 nearly always, those of which half is outside 0.9, one that stands on its head 0.8."""
_CLOSE = 0.7
"""Of the chosen face's motion: another face whose lips move that much may be the one that talks."""


@dataclass(frozen=True)
class TrackSettings:
    """How lips are tracked.

    Attributes:
        face: the number of the face to take where there are several, from 1, left to right; None: the one that talks.
        scene_cuts: what becomes of a video with a cut in it: `skip`, or `split`, where each shot is a clip of its own.
        square_eye_distances: side of the lip square in eye distances; the default fits networks trained on LRS2.
    """

    face: int | None = None
    scene_cuts: Literal["skip", "split"] = "skip"
    square_eye_distances: float = SQUARE_EYE_DISTANCES

    def __post_init__(self) -> None:
        if not 0.5 <= self.square_eye_distances <= 10:
            found = self.square_eye_distances
            raise ValueError(f"square_eye_distances: {found} is no lip square, 0.5 to 10 was expected")
        if self.face is not None and self.face < 1:
            raise ValueError(f"face: {self.face} is no face, numbers from 1 were expected, left to right")


@dataclass(frozen=True)
class LipTrack:
    """The lips of one face through one shot of N frames.

    Attributes:
        face: its number among the shot's faces, from 1, left to right.
        first: the shot's first frame in the video.
        centers: float64 (N, 2), lip center x, y in pixels of the picture as shown.
        angles: float64 (N,), radians that the eyes are turned from level, clockwise as seen.
        scale: the eye distance seen from the front, pixels: the median over the shot.
        score: the mesh's mean score, 0 to 1.
        motion: how much the lips move: mean change of their opening from frame to frame, in eye distances.
        gaps: (first frame in the shot, frames) of each stretch in which the face was not seen.
        log: what was seen.
    """

    face: int
    first: int
    centers: Array
    angles: Array
    scale: float
    score: float
    motion: float
    gaps: tuple[tuple[int, int], ...]
    log: FaceLog

    @property
    def missing(self) -> int:
        """Frames in which the face was not seen."""
        return sum(frames for _, frames in self.gaps)


def shots_of(tracker: FaceTracker) -> list[tuple[int, int]]:
    """(first frame, end) of each shot of a video."""
    edges = [0, *tracker.cuts, tracker.count]
    return list(pairwise(edges))


def tracks_of(tracker: FaceTracker, shot: int) -> list[LipTrack]:
    """A track for every face of a shot, left to right; faces seen for less than a tenth of it are left away."""
    first, end = shots_of(tracker)[shot]
    logs = [log for log in tracker.faces if log.shot == shot and len(log.seen) >= MOST_MISSING * (end - first)]
    logs.sort(key=lambda log: float(np.mean([face.lips[0] for face in log.seen.values()])))
    return [_track(log, number, first, end, tracker.fps) for number, log in enumerate(logs, 1)]


def choose_track(tracks: list[LipTrack], face: int | None, fps: float) -> tuple[LipTrack, list[str]]:
    """The track of the face that talks, or of that number, and notes on others that might.

    Raises:
        ClipError: there is none, or it is missing in too many frames or for too long.
    """
    if not tracks:
        raise ClipError("tracking", "face_missing", "no face was found")
    if face is not None:
        chosen = next((track for track in tracks if track.face == face), None)
        if chosen is None:
            raise ClipError("tracking", "face_missing", f"face {face} was asked for, and there are {len(tracks)}")
        notes = []
    else:
        longest = max(len(track.log.seen) for track in tracks)
        long = [track for track in tracks if len(track.log.seen) >= _ABOUT_AS_LONG * longest]
        chosen, *others = sorted(long, key=lambda track: -track.motion)
        notes = [
            f"face {chosen.face} of {len(tracks)} was taken, left to right; the lips of face {other.face} move as much"
            for other in others
            if other.motion >= _CLOSE * chosen.motion
        ]
    fault = fault_of(chosen, fps)
    if fault is not None:
        raise ClipError("tracking", "face_missing", fault)
    return chosen, notes


def fault_of(track: LipTrack, fps: float) -> str | None:
    """Why a track cannot be used: the face is missing too often or for too long, or hardly looks like one."""
    frames = len(track.centers)
    if track.missing > MOST_MISSING * frames:
        return f"the face is missing in {track.missing} of {frames} frames"
    if track.score < _LEAST_MEAN_SCORE:
        return f"what looks most like a face scores {track.score:.2f}: does it stand on its head?"
    for first, length in track.gaps:
        if 0 < first < frames - length and length > _GAP_SECONDS * fps:
            return f"the face is missing for {length / fps:.1f} s from frame {track.first + first} on"
    return None


def _track(log: FaceLog, number: int, first: int, end: int, fps: float) -> LipTrack:
    seen = np.array(list(log.seen)) - first
    faces = list(log.seen.values())
    lips = _filled(np.array([face.lips for face in faces]), seen, end - first)
    turns = np.array([(np.cos(face.angle), np.sin(face.angle)) for face in faces])
    cos, sin = _smoothed(_filled(turns, seen, end - first), fps).T
    openings, following = np.array([face.opening for face in faces]), np.diff(seen) == 1
    scale = float(np.median([face.scale for face in faces]))
    changes = np.abs(np.diff(openings))[following]
    return LipTrack(
        face=number,
        first=first,
        centers=_smoothed(lips, fps),
        angles=np.arctan2(sin, cos),
        scale=scale,
        score=float(np.mean([face.score for face in faces])),
        motion=float(changes.mean() / scale) if len(changes) else 0.0,
        gaps=_gaps(seen, end - first),
        log=log,
    )


def _filled(values: Array, seen: Array, frames: int) -> Array:
    """(n, d) at the frames `seen` -> (frames, d): gaps interpolated, the ends held."""
    return np.stack([np.interp(np.arange(frames), seen, column) for column in values.T], axis=1)


def _smoothed(values: Array, fps: float) -> Array:
    """Means over `_SMOOTHING_SECONDS` around each frame, over less at the ends. (N, d) -> (N, d)."""
    half = round(_SMOOTHING_SECONDS * fps) // 2
    window = np.ones(2 * half + 1)
    count = np.convolve(np.ones(len(values)), window)[half : half + len(values)]
    sums = [np.convolve(column, window)[half : half + len(values)] for column in values.T]
    return np.stack(sums, axis=1) / count[:, None]


def _gaps(seen: Array, frames: int) -> tuple[tuple[int, int], ...]:
    edges = np.concatenate([[-1], seen, [frames]])
    lengths = np.diff(edges) - 1
    return tuple((int(edge) + 1, int(length)) for edge, length in zip(edges, lengths, strict=False) if length)
