"""Lip crops of any video whose lips are tracked, while it is decoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from eval.synthesize.lip_crop import LipCrops, VideoInfo, check_length, crops_at_25
from model.transforms import TransformSettings
from pipeline.media.decode import decode_plain
from pipeline.media.errors import ClipError
from pipeline.tracking.face_crops import FaceCrops
from pipeline.tracking.lip_tracks import TrackSettings
from pipeline.tracking.video_tracker import VideoTracker


def track_lips(video: Path, info: VideoInfo, settings: TrackSettings, pictures: TransformSettings) -> LipCrops:
    """Decode a video, track its lips and cut them out, at 25 frames a second. After a cut they are tracked anew.

    Args:
        video: the file as its user knows it, for messages.
        info: what is decoded, and what it shows.
        settings: how; cuts are to split.
        pictures: what the network was trained on.

    Raises:
        OddVideoError: the video is to be normalized first.
        OSError: the video cannot be read.
        ValueError: it is damaged, too short or too long, a shot of it shows no face, or the face networks are not
            installed.
    """
    check_length(video, info.seconds)
    side = pictures.stored_side
    crops = FaceCrops(side, settings.square_eye_distances * side / (2 * pictures.crop_radius))
    tracker = VideoTracker(settings, crops)
    try:
        picture, _ = decode_plain(info.path, tracker, with_sound=False)
        shots = tracker.shots()
    except ClipError as error:
        raise ValueError(f"{video}: {error.detail}") from error
    notes: list[str] = []
    regions = []
    for shot in shots:
        where = f"frames {shot.first} to {shot.end - 1}: " if len(shots) > 1 else ""
        if shot.chosen is None:
            why = shot.error.detail if shot.error is not None else "no face was found"
            raise ValueError(f"{video}: {where}{why}: --lip-box X,Y,SIZE or --coordinates FILE says where the lips are")
        track = shot.chosen
        x, y = track.centers.mean(axis=0)
        square = settings.square_eye_distances * track.scale
        notes.append(f"{where}lips found around {x:.0f},{y:.0f}, in a square of {square:.0f} pixels")
        notes += shot.notes
        if track.missing:
            notes.append(f"the face was not seen in {track.missing} of {len(track.centers)} frames: interpolated")
        regions += [crops.region(track, number, rotate=False) for number in range(len(track.centers))]
    if len(shots) > 1:
        notes.insert(0, f"cuts before frames {', '.join(str(shot.first) for shot in shots[1:])}: lips tracked anew")
    lips = crops_at_25(video, picture, regions.__getitem__)
    return replace(lips, notes=notes + lips.notes)
