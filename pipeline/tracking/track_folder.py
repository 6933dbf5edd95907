"""Track the lips of every video below a folder, with Ray, and write what `pipeline build` reads.

coordinates.txt            a line a video, as the published files: <path>:<x0>/<y0>/<x1>/<y1>/..., whole pixels
coordinates-face-2.txt     with `all_faces`: the same for the face of that number, left to right
tracks.parquet             a row a face and shot, and one a video that cannot be used: size, score, gaps, reason
"""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpora.listing import list_files
from pipeline.media.coordinates import VIDEO_EXTENSIONS
from pipeline.media.errors import ClipError
from pipeline.tracking.models import model_file
from pipeline.tracking.tracks import LipTrack, TrackSettings
from pipeline.tracking.video import Shot, track_video, whole_centers
from runtime.progress import JobProgress
from runtime.ray_jobs import job_runner
from shards import StorageError, Store
from shards.format.store import absolute_url

TRACKS_NAME = "tracks.parquet"
_VIDEOS_A_TASK = 8

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
    """What a worker is given: some videos of a folder."""

    root: str
    paths: tuple[str, ...]
    settings: TrackSettings
    all_faces: bool


@dataclass(frozen=True)
class TrackedVideo:
    """What a worker returns of a video: rows of tracks.parquet, and lines of coordinates by face, 0 the chosen one."""

    rows: list[dict[str, Any]]
    lines: dict[int, str]
    seconds: float


@dataclass(frozen=True)
class TrackedFolder:
    """What was tracked: videos, those with coordinates, why others have none, files written, speed in video-s a s."""

    videos: int
    usable: int
    reasons: Counter[str]
    files: list[str]
    speed: float


class TrackError(RuntimeError):
    """Some videos could not be read, or no video can be used."""


def track_folder(
    root: str,
    out: str,
    settings: TrackSettings,
    *,
    all_faces: bool = False,
    address: str | None = None,
    workers: int | None = None,
) -> TrackedFolder:
    """Track every video below `root`.

    Args:
        root: folder or fsspec URL.
        out: the file of coordinates to write; tracks.parquet goes beside it.
        settings: how.
        all_faces: also write the coordinates of every face.
        address, workers: as of `pipeline build`.

    Raises:
        ValueError: there are no videos, or the networks are not installed here.
        TrackError: videos could not be read.
        StorageError: the disk or network failed.
    """
    model_file("mesh")
    videos = [path for path in list_files(Store(root)) if path.rpartition(".")[2].lower() in VIDEO_EXTENSIONS]
    if not videos:
        raise ValueError(f"{root}: no videos here (known: {', '.join(VIDEO_EXTENSIONS)})")
    where = absolute_url(root)
    tasks = [
        TrackTask(where, tuple(videos[first : first + _VIDEOS_A_TASK]), settings, all_faces)
        for first in range(0, len(videos), _VIDEOS_A_TASK)
    ]
    tracked: dict[str, TrackedVideo] = {}
    failed: dict[str, Exception] = {}
    with job_runner(address, workers) as runner, JobProgress("track", len(videos)) as progress:
        for outcome in runner.map(track_videos, tasks, progress.update, retry_on=(StorageError,)):
            for path, video in zip(outcome.item.paths, outcome.result or (), strict=False):
                tracked[path] = video
                progress.add(int(0 in video.lines), video.seconds, int(0 not in video.lines))
            if outcome.error is not None:
                failed |= dict.fromkeys(outcome.item.paths, outcome.error)
            progress.update()
    if failed:
        path, error = next(iter(failed.items()))
        raise TrackError(f"{len(failed)} videos could not be tracked, {path} for one: {error}")
    usable = sum(0 in video.lines for video in tracked.values())
    files = _write(tracked, out)
    reasons = Counter(str(row["reason"]) for video in tracked.values() for row in video.rows if row["reason"])
    return TrackedFolder(len(videos), usable, reasons, files, progress.speed)


def track_videos(task: TrackTask) -> list[TrackedVideo]:
    """Track some videos.

    Raises:
        StorageError: one could not be read.
    """
    store = Store(task.root)
    return [_track_one(store.read(path), path, task) for path in task.paths]


def _track_one(content: bytes, path: str, task: TrackTask) -> TrackedVideo:
    try:
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
    lines = {}
    most = max(len(shot.tracks) for shot in shots) if task.all_faces else 0
    for face in (None, *range(1, most + 1)):
        centers = whole_centers(shots, face, video.tracker.fps)
        if centers is not None:
            lines[face or 0] = f"{path}:" + "/".join(map(str, centers.ravel().tolist()))
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


def _write(tracked: dict[str, TrackedVideo], out: str) -> list[str]:
    """Write the files; the coordinates last, since they are what a build looks for."""
    folder, name = posixpath.split(out)
    store = Store(folder or ".")
    videos = [tracked[path] for path in sorted(tracked)]
    stem, dot, ending = name.rpartition(".")
    names = [TRACKS_NAME]
    with store.create(TRACKS_NAME) as file:
        pq.write_table(pa.Table.from_pylist([row for video in videos for row in video.rows], SCHEMA), file)
    faces = sorted({face for video in videos for face in video.lines}, reverse=True)
    for face in faces:
        lines = [video.lines[face] for video in videos if face in video.lines]
        names.append(f"{stem or ending}-face-{face}{dot}{ending if dot else ''}" if face else name)
        store.write(names[-1], ("\n".join(lines) + "\n").encode())
    return [store.path(written) for written in names]
