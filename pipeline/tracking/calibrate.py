"""Measure how large faces are in a corpus that has lip centers of its own, and how far tracked ones are from these.

Networks are trained on lip squares of a fixed number of pixels; `SQUARE_EYE_DISTANCES` says how many eye distances that
is, so that faces of other sizes are cut in the same proportion. It was measured so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from pipeline.media.errors import ClipError
from pipeline.media.source_store import SourceStore
from pipeline.source_file import video_file
from pipeline.tracking.lip_tracks import TrackSettings
from pipeline.tracking.video_tracker import track_video, whole_centers
from runtime.progress import JobProgress
from shards import StorageError, open_dataset


@dataclass(frozen=True)
class Calibration:
    """What was measured on a dataset.

    Attributes:
        clips, skipped: how many were tracked, and how many could not be.
        eye_distances: side of the lip square over the eye distance: median over clips, and its 5% and 95% quantiles.
        error: mean absolute differences of x and y between tracked and stored lip centers, pixels.
        bias: their mean differences.
    """

    clips: int
    skipped: int
    eye_distances: tuple[float, float, float]
    error: tuple[float, float]
    bias: tuple[float, float]


def calibrate(dataset_url: str, root: str, clips: int) -> Calibration:
    """Track clips of a dataset that was built with coordinates.

    Args:
        dataset_url: the dataset.
        root: the folder of its videos.
        clips: at most so many, spread over the dataset by a hash of their keys.

    Raises:
        ValueError: `clips` is below 1, no clip could be tracked, or the videos are not below `root`.
        DatasetError, StorageError: dataset or videos could not be read.
    """
    if clips < 1:
        raise ValueError(f"clips: {clips} cannot be tracked, at least 1 was expected")
    dataset, videos = open_dataset(dataset_url), SourceStore(root)
    keys = sorted(dataset.index.column("key").to_pylist(), key=lambda key: hashlib.sha256(key.encode()).digest())
    ratios: list[float] = []
    differences: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
    with JobProgress("calibrate", len(keys[:clips])) as progress:
        for key in keys[:clips]:
            meta = dataset.sample(key).meta
            try:
                with video_file(videos, meta.source, 0) as (content, _):
                    tracker = track_video(content, TrackSettings())
                shots = tracker.shots()
            except ClipError:
                shots = []
            except StorageError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
                raise ValueError(
                    f"{videos.path(meta.source)}: no such file: name the folder of the dataset's videos with --root"
                ) from error
            track = shots[0].chosen if shots else None
            progress.add(int(track is not None), meta.frames / meta.fps, int(track is None))
            progress.update()
            if track is None:
                continue
            ratios.append(2 * meta.crop_radius / track.scale)
            centers = whole_centers(shots)
            if centers is not None and len(centers) == meta.frames:
                differences.append((centers - np.array(meta.lips)).astype(np.float64))
    if not ratios:
        raise ValueError(f"{dataset_url}: in none of {len(keys[:clips])} clips could a face be tracked")
    middle, low, high = np.quantile(ratios, [0.5, 0.05, 0.95]).tolist()
    all_differences = np.concatenate([*differences, np.zeros((0, 2))])
    apart, bias = np.abs(all_differences).mean(axis=0).tolist(), all_differences.mean(axis=0).tolist()
    return Calibration(
        clips=len(ratios),
        skipped=len(keys[:clips]) - len(ratios),
        eye_distances=(middle, low, high),
        error=(apart[0], apart[1]),
        bias=(bias[0], bias[1]),
    )
