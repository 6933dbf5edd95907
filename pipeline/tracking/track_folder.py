"""Track the lips of every video below a folder, with Ray, and write what `pipeline build` reads.

coordinates.txt            a line a video, as the published files: <path>:<x0>/<y0>/<x1>/<y1>/..., whole pixels
coordinates-face-2.txt     with `all_faces`: the same for the face of that number, left to right
tracks.parquet             a row a face and shot, and one a video that cannot be used: size, score, gaps, reason
"""

from __future__ import annotations

import os
import posixpath
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpora.listing import list_files
from pipeline.media.coordinates import VIDEO_EXTENSIONS
from pipeline.media.source_store import SourceStore
from pipeline.tracking.face_networks import model_file
from pipeline.tracking.lip_tracks import TrackSettings
from pipeline.tracking.track_task import SCHEMA, TrackedVideo, TrackTask, read_result, track_videos
from runtime.progress import JobProgress
from runtime.ray_jobs import TASK_TIMEOUT, job_runner
from runtime.terminal import say
from shards import StorageError, Store
from shards.format.store import absolute_url

TRACKS_NAME = "tracks.parquet"
_VIDEOS_A_TASK = 8


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
    follow_links: bool = False,
    address: str | None = None,
    workers: int | None = None,
    task_timeout: float = TASK_TIMEOUT,
) -> TrackedFolder:
    """Track every video below `root`.

    Args:
        root: folder or fsspec URL.
        out: the file of coordinates to write; tracks.parquet goes beside it.
        settings: how.
        all_faces: also write the coordinates of every face.
        follow_links: read videos that links lead to outside of `root`.
        address, workers, task_timeout: as of `pipeline build`.

    Raises:
        ValueError: there are no videos, or the networks are not installed here.
        TrackError: videos could not be read.
        StorageError: the disk or network failed.
    """
    model_file("mesh")
    sizes = list_files(SourceStore(root, None if follow_links else ()))
    for notice in sizes.notices(root):
        say(f"notice: {notice}", sys.stderr)
    videos = [(path, size) for path, size in sizes.items() if path.rpartition(".")[2].lower() in VIDEO_EXTENSIONS]
    if not videos:
        raise ValueError(f"{root}: no videos here (known: {', '.join(VIDEO_EXTENSIONS)})")
    where, parts = absolute_url(root), absolute_url(f"{out}.parts")
    tasks = [
        TrackTask(where, parts, tuple(videos[first : first + _VIDEOS_A_TASK]), settings, all_faces, follow_links)
        for first in range(0, len(videos), _VIDEOS_A_TASK)
    ]
    failed: dict[str, Exception] = {}
    with job_runner(address, workers, task_timeout) as runner, JobProgress("track", len(videos)) as progress:
        for outcome in runner.map(track_videos, tasks, progress.update, retry_on=(StorageError,)):
            if outcome.result is not None:
                progress.add(*outcome.result)
            elif outcome.error is not None:
                failed |= {path: outcome.error for path, _ in outcome.item.videos}
            progress.update()
    if failed:
        path, error = next(iter(failed.items()))
        raise TrackError(
            f"{len(failed)} of {len(videos)} videos could not be tracked, {path} for one: {error}: mend the cause and "
            "run the same command: only what is missing is tracked"
        )
    found = [video for task in tasks for video in read_result(task) or ()]
    files = _write(found, out)
    _remove(Store(parts), tasks)
    reasons = Counter(str(row["reason"]) for video in found for row in video.rows if row["reason"])
    usable = sum("0" in video.lines for video in found)
    return TrackedFolder(len(videos), usable, reasons, files, progress.speed)


def _remove(parts: Store, tasks: list[TrackTask]) -> None:
    for task in tasks:
        parts.remove(task.name)
    if parts.is_local:
        with suppress(OSError):  # parts of other settings are in it
            os.rmdir(parts.path())


def _write(videos: list[TrackedVideo], out: str) -> list[str]:
    """Write the files; the coordinates last, since they are what a build looks for."""
    folder, name = posixpath.split(out)
    store = Store(folder or ".")
    stem, dot, ending = name.rpartition(".")
    names = [TRACKS_NAME]
    with store.create(TRACKS_NAME) as file:
        pq.write_table(pa.Table.from_pylist([row for video in videos for row in video.rows], SCHEMA), file)
    for face in sorted({face for video in videos for face in video.lines}, key=int, reverse=True):
        lines = [video.lines[face] for video in videos if face in video.lines]
        names.append(f"{stem or ending}-face-{face}{dot}{ending if dot else ''}" if face != "0" else name)
        store.write(names[-1], ("\n".join(lines) + "\n").encode())
    return [store.path(written) for written in names]
