"""Track the lips of one video file: decode it, follow its faces, choose the one that talks in each shot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.media.crop import Orientation
from pipeline.media.decode import decode_video
from pipeline.media.errors import ClipError
from pipeline.tracking.face_crops import FaceCrops
from pipeline.tracking.face_networks import network
from pipeline.tracking.face_tracker import FaceTracker
from pipeline.tracking.frame import Frame
from pipeline.tracking.lip_tracks import LipTrack, TrackSettings, choose_track, fault_of, shots_of, tracks_of
from runtime.constants import FPS

Array = np.ndarray[Any, Any]

_NOTHING = np.empty(0, np.uint8)


@dataclass(frozen=True)
class Shot:
    """What was tracked between two cuts.

    Attributes:
        first, end: its frames in the video.
        tracks: all its faces, left to right.
        chosen: the track to use, or None.
        error: why there is none to use.
        notes: what was chosen between, in words.
    """

    first: int
    end: int
    tracks: list[LipTrack]
    chosen: LipTrack | None
    error: ClipError | None
    notes: list[str]


@dataclass
class VideoTracker:
    """Follows the faces of one video while it is decoded; `shots` then chooses among them.

    Attributes:
        settings: how.
        width, height: of the picture as shown.
        tracker: what was seen.
        crops: what is kept of each frame, if anything is.
    """

    settings: TrackSettings
    crops: FaceCrops | None = None
    width: int = 0
    height: int = 0
    tracker: FaceTracker = field(default_factory=FaceTracker)
    _began: float = 0.0

    def __call__(self, number: int, frame: av.VideoFrame, orientation: Orientation) -> Array:
        """Look at the next frame, as a `Crop`; what is kept of it is kept in `crops`."""
        if number == 0:
            self.tracker, self._began = FaceTracker(), frame.time or 0.0
            if self.crops is not None:
                self.crops.clear()
        picture = Frame(frame, orientation)
        self.width, self.height = picture.width, picture.height
        if frame.time is not None and frame.time > self._began:
            self.tracker.fps = number / (frame.time - self._began)
        seen = self.tracker.add(picture)
        if self.crops is not None:
            self.crops.keep(number, frame, orientation, seen, self.tracker.has_lost_a_face)
        return _NOTHING

    def shots(self) -> list[Shot]:
        """The tracks of each shot.

        Raises:
            ClipError: there is a cut, and the settings do not say to split.
        """
        self.tracker.finish()
        if self.tracker.cuts and self.settings.scene_cuts == "skip":
            seconds = ", ".join(f"{cut / self.tracker.fps:.2f}" for cut in self.tracker.cuts[:5])
            detail = f"{len(self.tracker.cuts)} cuts, at {seconds} s: `--scene-cuts split` makes a clip of each shot"
            raise ClipError("tracking", "scene_cut", detail)
        return [self._shot(number, *edges) for number, edges in enumerate(shots_of(self.tracker))]

    def _shot(self, number: int, first: int, end: int) -> Shot:
        tracks = tracks_of(self.tracker, number)
        try:
            chosen, notes = choose_track(tracks, self.settings.face, self.tracker.fps)
        except ClipError as error:
            return Shot(first, end, tracks, None, error, [])
        return Shot(first, end, tracks, chosen, None, notes)


def track_video(video: bytes | Path, settings: TrackSettings) -> VideoTracker:
    """Decode a video and follow its faces.

    Args:
        video: the content of the file, or its path.
        settings: how.

    Raises:
        ClipError: it cannot be decoded.
        MissingModelsError: the face networks are not installed.
        OSError: it cannot be read, or there is no room to normalize it.
    """
    network("mesh")  # that it is not installed is no fault of the video
    tracker = VideoTracker(settings)
    decode_video(video, tracker, with_sound=False)
    return tracker


def whole_centers(shots: list[Shot], face: int | None = None, fps: float = FPS) -> Array | None:
    """The lip centers of a whole video, shot after shot: those chosen, or of a face by its number where it can be used.

    In shots without it, they go straight from the one before to the one after.

    Returns:
        int64 (frames, 2), or None: there is none in any shot.
    """
    rows = np.full((shots[-1].end, 2), np.nan)
    for shot in shots:
        usable = [track for track in shot.tracks if track.face == face and fault_of(track, fps) is None]
        track = shot.chosen if face is None else next(iter(usable), None)
        if track is not None:
            rows[shot.first : shot.end] = track.centers
    known = np.flatnonzero(~np.isnan(rows[:, 0]))
    if not len(known):
        return None
    filled = [np.interp(np.arange(len(rows)), known, column[known]) for column in rows.T]
    centers: Array = np.rint(np.stack(filled, axis=1)).astype(np.int64)
    return centers
