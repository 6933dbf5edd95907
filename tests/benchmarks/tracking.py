"""How fast lips are tracked beside decoding alone, in frames a core-second, and how far off their centers are."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from pipeline.media.coordinates import parse_coordinates
from pipeline.media.errors import ClipError
from pipeline.tracking.lip_tracks import TrackSettings
from pipeline.tracking.video_tracker import VideoTracker, track_video, whole_centers


def measure(settings: BuildSettings, clips: list[CorpusClip], runs: int) -> Iterator[str]:
    """Lines of the report."""
    contents = [(Path(settings.root) / clip.video).read_bytes() for clip in clips]
    decoding: list[float] = []
    tracking: list[float] = []
    for _ in range(runs + 1):  # the first is a warm-up
        began = time.process_time()
        frames = sum(decode_pictures(content) for content in contents)
        between = time.process_time()
        tracked = [track_video(content, TrackSettings()) for content in contents]
        decoding.append(between - began)
        tracking.append(time.process_time() - between)
    ratio = statistics.median([a / b for a, b in zip(decoding[1:], tracking[1:], strict=True)])
    yield "tracking, frames a core-second"
    yield f"  decode and track               {frames / statistics.median(tracking[1:]):6.0f}"
    yield f"  decode alone (PyAV)            {frames / statistics.median(decoding[1:]):6.0f}"
    yield f"  ratio                          {ratio:6.3f}"
    yield from compare(tracked, clips)


def compare(tracked: list[VideoTracker], clips: list[CorpusClip]) -> Iterator[str]:
    """Lines: frames without a face, further faces, and differences from the corpus's lip centers."""
    missing = faces = unusable = 0
    apart = []
    for video, clip in zip(tracked, clips, strict=True):
        faces += max(0, len(video.tracker.faces) - 1)
        missing += video.tracker.count - max((len(log.seen) for log in video.tracker.faces), default=0)
        try:
            centers = whole_centers(video.shots())
        except ClipError:
            centers = None
        unusable += centers is None
        if centers is not None:
            apart.append(centers - parse_coordinates(clip.coordinates or "")[: len(centers)])
    x, y = np.abs(np.concatenate(apart)).mean(axis=0)
    yield f"  {x:.2f} px in x and {y:.2f} px in y from the corpus's lip centers, on average"
    yield f"  {missing} frames without the face, {unusable} clips skipped for it, {faces} further faces"


def decode_pictures(content: bytes) -> int:
    """Demux and decode the picture on one thread; returns its frames."""
    with av.open(io.BytesIO(content), "r") as container:
        container.streams.video[0].thread_type = "NONE"
        return sum(1 for _ in container.decode(video=0))
