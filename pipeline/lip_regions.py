"""Cut the lip regions out of one video while it is decoded: around given centers, or around lips that are tracked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import BuildSettings, parse_lip_box
from pipeline.corpora import CorpusClip
from pipeline.media.coordinates import OUTSIDE_SHARE, fit_coordinates, parse_coordinates
from pipeline.media.crop import CenterCrop
from pipeline.media.decode import decode_video
from pipeline.media.errors import ClipError
from pipeline.media.picture import Picture
from pipeline.media.shown_frames import centers_of_stored
from pipeline.media.sound_runs import SoundRun
from pipeline.media.spool import MEMORY_BYTES
from pipeline.tracking.face_crops import FaceCrops
from pipeline.tracking.face_networks import network
from pipeline.tracking.video_tracker import Shot, VideoTracker
from runtime.constants import ROI_MARGIN
from shards.format.sample import roi_side

Array = np.ndarray[Any, Any]

_FRAMES_AT_ONCE = 256


@dataclass(frozen=True)
class LipRegions:
    """The lips in N decoded frames that follow each other.

    Attributes:
        picture: the frames' times; of a shot of a video, those of its frames alone.
        first_seconds: from the first frame of the video to the first of these.
        centers: int64 (N, 2), lip center x, y in pixels of the picture as shown.
        regions: numbers of n frames, which do not decrease -> uint8 (n, R, R), R = 2 (crop_radius + 5).
        square: side of the lip square in pixels of the picture, where it was resized to 2 crop_radius.
        notes: what was found, in words.
    """

    picture: Picture
    first_seconds: float
    centers: Array
    regions: Callable[[Array], Array]
    square: float | None
    notes: list[str]


def is_tracked(clip: CorpusClip, settings: BuildSettings) -> bool:
    """Whether lips are to be tracked: nothing says where they are."""
    return clip.coordinates is None and settings.lip_box is None


def _longest(settings: BuildSettings) -> float | None:
    """Seconds that a video may have, if longer ones are not split."""
    return settings.max_minutes * 60 if settings.long_clips == "skip" else None


def given_regions(
    clip: CorpusClip, video: bytes | Path, settings: BuildSettings, with_sound: bool
) -> tuple[LipRegions, list[SoundRun]]:
    """Lip regions around coordinates or a lip box, and the sound.

    Raises:
        ClipError: the file cannot be decoded, or the coordinates are not its own.
    """
    centers, center_of = _given_centers(clip, settings)
    crop = CenterCrop(center_of, settings.crop_radius + ROI_MARGIN)
    picture, runs = decode_video(video, crop, with_sound, _longest(settings))
    frames = len(picture.regions)
    stored = None if centers is None else centers_of_stored(centers, picture, settings.coordinate_tolerance)
    if centers is None:
        centers = np.tile(center_of(0), (frames, 1))
    elif stored is not None:
        picture.notes.append(f"{len(centers)} coordinates are of the frames shown, {frames} are stored")
        centers, notes_of_file = stored, picture.notes
        crop = CenterCrop(stored.tolist().__getitem__, crop.radius)
        picture, runs = decode_video(video, crop, with_sound)
        picture.notes = notes_of_file
    try:
        centers, note = fit_coordinates(centers, frames, settings.coordinate_tolerance)
    except ValueError as error:
        raise ClipError("coordinates", "coordinates_mismatch", str(error)) from error
    if crop.outside > OUTSIDE_SHARE * frames:
        detail = f"lip center outside of the picture in {crop.outside} of {frames} frames"
        raise ClipError("coordinates", "coordinates_outside", detail)
    notes = [note] if note else []
    return LipRegions(picture, 0.0, centers, picture.regions.take, None, notes), runs


def _given_centers(clip: CorpusClip, settings: BuildSettings) -> tuple[Array | None, Callable[[int], tuple[int, int]]]:
    """The coordinates of a clip, if it has any, and the lip center of its n-th frame."""
    if clip.coordinates is None:
        assert settings.lip_box is not None, "lips are tracked where there are neither coordinates nor a lip box"
        box = parse_lip_box(settings.lip_box)
        return None, lambda frame: box
    try:
        centers = parse_coordinates(clip.coordinates)
    except ValueError as error:
        raise ClipError("coordinates", "coordinates_invalid", str(error)) from error
    pairs = centers.tolist()
    return centers, lambda frame: pairs[min(frame, len(pairs) - 1)]


def tracked_regions(
    video: bytes | Path, settings: BuildSettings, with_sound: bool
) -> tuple[list[LipRegions | ClipError], list[SoundRun]]:
    """Lip regions of each shot of a video, or why a shot has none, and the sound of all of it.

    Raises:
        ClipError: the file cannot be decoded, or it has cuts and is not to be split.
        MissingModelsError: the face networks are not installed.
    """
    network("mesh")  # that it is not installed is no fault of the video
    side = roi_side(settings.crop_radius)
    track = settings.track_settings()
    crops = FaceCrops(side, track.square_eye_distances * side / (2 * settings.crop_radius))
    tracker = VideoTracker(track, crops)
    picture, runs = decode_video(video, tracker, with_sound, _longest(settings))
    shots = tracker.shots()
    parts: list[LipRegions | ClipError] = []
    for number, shot in enumerate(shots, 1):
        if shot.error is not None:
            parts.append(shot.error)
            continue
        notes = [f"shot {number} of {len(shots)}, frames {shot.first} to {shot.end - 1}"] if len(shots) > 1 else []
        parts.append(_shot_regions(shot, picture, crops, settings, notes))
    return parts, runs


def _shot_regions(
    shot: Shot, picture: Picture, crops: FaceCrops, settings: BuildSettings, notes: list[str]
) -> LipRegions:
    track = shot.chosen
    assert track is not None, "a shot without an error has a track"
    if track.missing:
        notes.append(f"the face was not seen in {track.missing} of {len(track.centers)} frames: interpolated")
    ticks = picture.ticks[shot.first : shot.end]
    is_last = shot.end == len(picture.ticks)
    return LipRegions(
        picture=replace(
            picture, ticks=ticks, duration=picture.duration if is_last else picture.ticks[shot.end] - ticks[-1]
        ),
        first_seconds=float((ticks[0] - picture.ticks[0]) * picture.time_base),
        centers=np.rint(track.centers).astype(np.int64),
        regions=lambda frames: np.stack([crops.region(track, frame, settings.rotate) for frame in frames]),
        square=round(settings.square_eye_distances * track.scale, 2),
        notes=notes + shot.notes,
    )


def regions_of(regions: Callable[[Array], Array], shown: Array) -> Array:
    """The lip regions of a clip from those of its decoded frames, `shown` one for each 25th of a second.

    Returns:
        uint8 (T, R, R); large ones are mapped from a temporary file, which goes with them.
    """
    first = regions(shown[:1])
    if len(shown) * first.nbytes <= MEMORY_BYTES:
        return regions(shown)
    with tempfile.TemporaryFile(prefix="regions-") as file:
        for begin in range(0, len(shown), _FRAMES_AT_ONCE):
            file.write(regions(shown[begin : begin + _FRAMES_AT_ONCE]).tobytes())
        file.flush()
        return np.memmap(file, np.uint8, "r", shape=(len(shown), *first.shape[1:]))
