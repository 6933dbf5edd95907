"""Track some videos: the unit of work, of retrying and of resuming of `pipeline track`. Knows nothing of Ray.

Idempotent: what was found is written into a file of its own, and a task whose file is there is left as it is.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, astuple, dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.media.errors import ClipError
from pipeline.media.source_store import SourceStore
from pipeline.source_file import video_file
from pipeline.tracking.face_networks import WHEEL
from pipeline.tracking.lip_tracks import LipTrack, TrackSettings
from pipeline.tracking.video_tracker import Shot, track_video, whole_centers
from shards import Store

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("shot", pa.int32()),  # from 0
        ("first_frame", pa.int32()),  # of the shot in the video
        ("frames", pa.int32()),  # of the shot
        ("fps", pa.float32()),
        ("width", pa.int32()),  # of the picture as shown
        ("height", pa.int32()),
        ("face", pa.int32()),  # from 1, left to right; null: none was found
        ("chosen", pa.bool_()),  # whether coordinates.txt has it
        ("x", pa.float32()),  # mean lip center
        ("y", pa.float32()),
        ("scale", pa.float32()),  # eye distance in pixels, seen from the front
        ("size", pa.float32()),  # side of the lip square in pixels
        ("score", pa.float32()),  # mean, 0 to 1
        ("motion", pa.float32()),  # of the lips, eye distances a frame
        ("missing", pa.int32()),  # frames in which the face was not seen
        ("gaps", pa.list_(pa.list_(pa.int32()))),  # [first frame in the shot, frames] of each stretch of these
        ("reason", pa.string()),  # why nothing of the shot can be used
        ("detail", pa.string()),  # what was found, or noted
    ]
)
"""Columns of tracks.parquet."""


@dataclass(frozen=True)
class TrackTask:
    """What a worker is given.

    Attributes:
        root: folder of the videos.
        parts: folder that its file is written into.
        videos: (path below root, bytes) of each.
        settings: how.
        all_faces: whether coordinates of every face are wanted.
        follow_links: whether videos are read that links lead to outside of the root.
    """

    root: str
    parts: str
    videos: tuple[tuple[str, int], ...]
    settings: TrackSettings
    all_faces: bool
    follow_links: bool = False

    @property
    def name(self) -> str:
        """Of its file: a hash of all that decides what is in it."""
        decides = [self.videos, astuple(self.settings), self.all_faces, WHEEL]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32] + ".json"


@dataclass(frozen=True)
class TrackedVideo:
    """What is found in a video: rows of tracks.parquet, and lines of coordinates by face, "0" the chosen one."""

    rows: list[dict[str, Any]]
    lines: dict[str, str]
    seconds: float


class TrackResult(NamedTuple):
    """The small statistics that a worker returns: videos with coordinates, seconds, videos without, done before."""

    usable: int
    seconds: float
    skipped: int
    reused: bool


def track_videos(task: TrackTask) -> TrackResult:
    """Track some videos, unless that is done.

    Raises:
        StorageError: one could not be read, or what was found not be written.
    """
    store = SourceStore(task.root, None if task.follow_links else ())
    found = read_result(task)
    videos = found
    if videos is None:
        videos = [_track_one(store, path, size, task) for path, size in task.videos]
        content = json.dumps([asdict(video) for video in videos])
        Store(task.parts).write(task.name, content.encode())
    usable = sum("0" in video.lines for video in videos)
    seconds = sum(video.seconds for video in videos)
    return TrackResult(usable, seconds, len(videos) - usable, found is not None)


def read_result(task: TrackTask) -> list[TrackedVideo] | None:
    """What was found by a task, in the order of its videos; None: it is not done (`StorageError`)."""
    try:
        return [TrackedVideo(**video) for video in json.loads(Store(task.parts).read(task.name))]
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _track_one(store: SourceStore, path: str, size: int, task: TrackTask) -> TrackedVideo:
    try:
        if path.splitlines() != [path]:
            raise ClipError("index", "video_unreadable", "its name has line breaks, which a list of videos cannot hold")
        with video_file(store, path, size) as (content, _):
            video = track_video(content, task.settings)
    except ClipError as error:
        return TrackedVideo([_row(path, reason=error.reason, detail=error.detail)], {}, 0.0)
    about = {"fps": video.tracker.fps, "width": video.width, "height": video.height}
    seconds = video.tracker.count / video.tracker.fps
    try:
        shots = video.shots()
    except ClipError as error:
        row = _row(path, frames=video.tracker.count, reason=error.reason, detail=error.detail, **about)
        return TrackedVideo([row], {}, seconds)
    rows = [row for number, shot in enumerate(shots) for row in _rows(path, number, shot, about, task.settings)]
    lines: dict[str, str] = {}
    most = max(len(shot.tracks) for shot in shots) if task.all_faces else 0
    for face in (None, *range(1, most + 1)):
        centers = whole_centers(shots, face, video.tracker.fps)
        if centers is not None:
            lines[str(face or 0)] = f"{path}:" + "/".join(map(str, centers.ravel().tolist()))
    return TrackedVideo(rows, lines, seconds)


def _rows(path: str, number: int, shot: Shot, about: dict[str, Any], settings: TrackSettings) -> list[dict[str, Any]]:
    about = {"shot": number, "first_frame": shot.first, "frames": shot.end - shot.first, **about}
    about["reason"] = None if shot.error is None else shot.error.reason
    about["detail"] = "; ".join(shot.notes) or None if shot.error is None else shot.error.detail
    if not shot.tracks:
        return [_row(path, **about)]
    return [_row(path, chosen=track is shot.chosen, **about, **_columns(track, settings)) for track in shot.tracks]


def _columns(track: LipTrack, settings: TrackSettings) -> dict[str, Any]:
    x, y = track.centers.mean(axis=0).tolist()
    return {
        "face": track.face,
        "x": x,
        "y": y,
        "scale": track.scale,
        "size": settings.square_eye_distances * track.scale,
        "score": track.score,
        "motion": track.motion,
        "missing": track.missing,
        "gaps": [list(gap) for gap in track.gaps],
    }


def _row(path: str, **columns: Any) -> dict[str, Any]:
    return dict.fromkeys(SCHEMA.names) | {"path": path, "chosen": False} | columns
