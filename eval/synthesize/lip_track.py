"""Lip crops of any video whose lips are tracked, while it is decoded; or of pictures that are there already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from eval.synthesize.lip_crop import MAX_SECONDS, LipCrops, check_length, crops_at_25
from eval.synthesize.part_times import DECODING, LIPS, PartTimes
from eval.synthesize.video_info import VideoInfo
from model.transforms import TransformSettings
from pipeline.media.crop import UPRIGHT, Orientation
from pipeline.media.decode import decode_plain
from pipeline.media.errors import ClipError
from pipeline.media.picture import Picture
from pipeline.media.sound_runs import SoundRun
from pipeline.tracking.face_crops import FaceCrops
from pipeline.tracking.lip_tracks import TrackSettings
from pipeline.tracking.video_tracker import VideoTracker

Array = np.ndarray[Any, Any]

_CLOCK = Fraction(1, 1000)
"""Of pictures that are there already: milliseconds."""


class LipTracking:
    """Tracks lips in the frames that it is given, one after the other; after a cut they are tracked anew.

    Args:
        settings: how; cuts are to split.
        pictures: what the network was trained on.
        times: that count what is taken.
        frames: that are expected, for progress; 0: not known.
    """

    def __init__(
        self, settings: TrackSettings, pictures: TransformSettings, times: PartTimes | None = None, frames: int = 0
    ) -> None:
        side = pictures.stored_side
        self._settings, self._times, self._frames = settings, times or PartTimes(), frames
        self._crops = FaceCrops(side, settings.square_eye_distances * side / (2 * pictures.crop_radius))
        self._tracker = VideoTracker(settings, self._crops)

    def __call__(self, number: int, frame: av.VideoFrame, orientation: Orientation) -> Array:
        """Look at the next frame, as a `Crop`; nothing is kept in its place."""
        with self._times.timed(LIPS):
            nothing = self._tracker(number, frame, orientation)
        self._times.progress(LIPS, min(1.0, (number + 1) / self._frames) if self._frames else None)
        return nothing

    def lips(self, video: Path, picture: Picture, runs: list[SoundRun], most: float = MAX_SECONDS) -> LipCrops:
        """The lip crops of all frames so far.

        Args:
            video: for messages.
            picture: the frames' times.
            runs: the sound beside them.
            most: seconds.

        Raises:
            ValueError: a shot shows no face, or there are too few frames or too many.
        """
        with self._times.timed(LIPS):
            return self._lips(video, picture, runs, most)

    def _lips(self, video: Path, picture: Picture, runs: list[SoundRun], most: float) -> LipCrops:
        try:
            shots = self._tracker.shots()
        except ClipError as error:
            raise ValueError(f"{video}: {error.detail}") from error
        notes: list[str] = []
        regions, squares = [], []
        for shot in shots:
            where = f"frames {shot.first} to {shot.end - 1}: " if len(shots) > 1 else ""
            if shot.chosen is None:
                why = shot.error.detail if shot.error is not None else "no face was found"
                raise ValueError(
                    f"{video}: {where}{why}: --lip-box X,Y,SIZE or --coordinates FILE says where the lips are"
                )
            track = shot.chosen
            x, y = track.centers.mean(axis=0)
            square = self._settings.square_eye_distances * track.scale
            notes.append(f"{where}lips found around {x:.0f},{y:.0f}, in a square of {square:.0f} pixels")
            notes += shot.notes
            if track.missing:
                notes.append(f"the face was not seen in {track.missing} of {len(track.centers)} frames: interpolated")
            regions += [self._crops.region(track, number, rotate=False) for number in range(len(track.centers))]
            squares += [(x, y, square) for x, y in track.centers.tolist()]
        if len(shots) > 1:
            cuts = ", ".join(str(shot.first) for shot in shots[1:])
            notes.insert(0, f"cuts before frames {cuts}: lips tracked anew")
        lips = crops_at_25(video, picture, regions.__getitem__, squares.__getitem__, runs, most)
        return replace(lips, notes=notes + lips.notes)


def track_lips(
    video: Path,
    info: VideoInfo,
    settings: TrackSettings,
    pictures: TransformSettings,
    times: PartTimes | None = None,
    *,
    with_sound: bool = False,
    most: float = MAX_SECONDS,
) -> LipCrops:
    """Decode a video, track its lips and cut them out, at 25 frames a second. After a cut they are tracked anew.

    Args:
        video: the file as its user knows it, for messages.
        info: what is decoded, and what it shows.
        settings: how; cuts are to split.
        pictures: what the network was trained on.
        times: that count what is taken.
        with_sound: whether its sound is decoded, too.
        most: seconds that the video may last.

    Raises:
        OddVideoError: the video is to be normalized first.
        OSError: the video cannot be read.
        ValueError: it is damaged, too short or too long, a shot of it shows no face, or the face networks are not
            installed.
    """
    check_length(video, info.seconds, most)
    times = times or PartTimes()
    tracking = LipTracking(settings, pictures, times, info.frames)
    try:
        with times.timed(DECODING):
            picture, runs = decode_plain(info.path, tracking, with_sound, most)
    except ClipError as error:
        if error.reason == "too_long":  # its header said less, or nothing
            check_length(video, np.inf, most)
        raise ValueError(f"{video}: {error.detail}") from error
    return tracking.lips(video, picture, runs, most)


def find_lips(
    frames: Iterable[Array], fps: float, pictures: TransformSettings, settings: TrackSettings | None = None
) -> LipCrops:
    """The lip crops of pictures of a face, uint8 (height, width, 3), RGB, `fps` of them a second (ValueError: no face).

    They are what `Synthesizer.speak` takes at 25 a second, whatever `fps` was.
    """
    picture = Picture(_CLOCK, duration=Fraction(1000) / Fraction(fps))
    tracking = LipTracking(settings or TrackSettings(scene_cuts="split"), pictures)
    for number, frame in enumerate(frames):
        tracking(number, video_frame(frame, round(number * 1000 / fps)), UPRIGHT)
        picture.ticks.append(round(number * 1000 / fps))
    if not picture.ticks:
        raise ValueError("frames: none, and pictures of a face were expected")
    return tracking.lips(Path("frames"), picture, [])


def video_frame(rgb: Array, milliseconds: int) -> av.VideoFrame:
    """A picture, uint8 (height, width, 3), as a decoded frame."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = milliseconds, _CLOCK
    return frame
