"""Lip crops of any video, cut as the networks were trained to see them.

Networks are trained on squares of 2 crop_radius native pixels of pictures of one size, LRS2's 160x160 faces say. Here
the square has any side: with what the shards keep around it, in proportion, it is cut out of each frame and shrunk or
grown to the side that shards store. From there all is as in training, so pictures of other sizes come out as sharp as
those that were learned from, and a square of 2 crop_radius pixels is that of the shards, pixel by pixel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.synthesize.video_info import VideoInfo
from model.segment_sampling import SegmentSettings
from model.transforms import TransformSettings
from pipeline.media.coordinates import (
    COORDINATE_TOLERANCE,
    OUTSIDE_SHARE,
    fit_coordinates,
    parse_coordinates,
    read_coordinate_file,
)
from pipeline.media.crop import CenterCrop
from pipeline.media.decode import decode_plain
from pipeline.media.errors import ClipError
from pipeline.media.picture import Picture
from pipeline.media.shown_frames import centers_of_stored
from pipeline.media.sound_runs import SoundRun
from pipeline.media.sync import frames_at_25, sound_at_16k
from pipeline.media.text_files import clean_path, read_text
from runtime.constants import FPS
from shards import Store

Array = np.ndarray[Any, Any]

_MIN_FRAMES = SegmentSettings().min_frames

MAX_SECONDS = 20 * 60
"""Seconds. A minute takes the vocoder about 120 MB: an hour would not fit into a common machine."""
_MOST_BYTES = 4 << 30
"""Of the regions cut out of a video, all of which are held in memory."""


@dataclass(frozen=True)
class LipSquares:
    """Where the lips are."""

    centers: Array  # (n, 2) x, y of the lip center in each frame of the video; of fixed squares (1, 2), that of all
    side: int  # of the lip square, in pixels of the video
    fixed: bool  # whether it is in the same place in every frame


@dataclass(frozen=True)
class LipCrops:
    """What a network is to read."""

    roi: Array  # uint8 (T, R, R) at 25 frames a second, R the stored side
    start: Fraction  # seconds at which the first frame is shown
    notes: list[str]  # what was mended, in words
    squares: Array  # (T, 3) of each the lip square: x, y of its center and its side, in pixels of the video
    sound: Array | None = None  # float32 (640 T,), 16 kHz, in step; None where there is none, or it was not decoded


def read_box(box: str) -> LipSquares:
    """`84,110,80` -> the same square in every frame, x and y of its center and its side; `ValueError` for anything
    else."""
    match = re.fullmatch(r"\s*(-?\d{1,6})\s*,\s*(-?\d{1,6})\s*,\s*(\d{1,6})\s*", box)
    if match is None:
        raise ValueError(
            f"--lip-box {box!r}: expected X,Y,SIZE in whole pixels of the video, the lip center and the side of the "
            "square around it, such as 320,290,160"
        )
    return LipSquares(np.array([[int(match[1]), int(match[2])]]), int(match[3]), fixed=True)


def read_coordinates(file: Path, video: Path, side: int) -> tuple[LipSquares, list[str]]:
    """The squares of `side` pixels from a file of lip centers, a corpus's, a line a clip, or the bare numbers of this
    video, and notices of lines that could not be used.

    Of several lines, the one is taken whose path the video's ends with, else the one of the same file name; a single
    line is taken whatever its path. `OSError` where the file cannot be read; `ValueError` where no line is the video's,
    several may be, or the numbers make no sense.
    """
    store = Store(str(file.absolute().parent))
    lines, notices = read_coordinate_file(store, file.name)
    if lines:
        numbers = _line_of(lines, file, video)
    else:
        numbers, notices = read_text(store, file.name).replace("\\", "/"), []
    try:
        return LipSquares(parse_coordinates(numbers), side, fixed=False), notices
    except ValueError as error:
        raise ValueError(f"{file}: {error}; expected x0/y0/x1/y1/..., a lip center for each frame") from error


def _line_of(lines: dict[str, str], file: Path, video: Path) -> str:
    if len(lines) == 1:
        return next(iter(lines.values()))
    this = clean_path(str(video.absolute()))
    whole = [path for path in lines if this.endswith(f"/{clean_path(path).lstrip('/')}")]
    named = whole or [path for path in lines if Path(clean_path(path)).name == Path(this).name]
    if not named:
        raise ValueError(
            f"{file}: none of its {len(lines)} lines is of {video.name}; the first is of {next(iter(lines))}"
        )
    longest = max(named, key=len)
    if not whole and len(named) > 1:
        raise ValueError(f"{file}: {len(named)} lines may be of {video}, those of {', '.join(named[:3])}; leave one")
    return lines[longest]


def read_lips(video: Path, info: VideoInfo, square: LipSquares, pictures: TransformSettings) -> LipCrops:
    """Decode a video and cut its lips out, at 25 frames a second, into the crops that the network was trained on.

    `video` is the file as its user knows it, for messages. `OddVideoError` where it is to be normalized first;
    `OSError` where it cannot be read; `ValueError` where it is damaged, too short or too long, its lips are outside the
    picture, or the coordinates are those of another video.
    """
    exact = square.side / 2 * (pictures.crop_radius + pictures.margin) / pictures.crop_radius
    radius = math.ceil(exact)
    _check(video, info, square, radius)
    last = len(square.centers) - 1
    pairs = [(x, y) for x, y in square.centers.tolist()]
    crop = CenterCrop(lambda frame: pairs[min(frame, last)], radius)
    try:
        picture, _ = decode_plain(info.path, crop, with_sound=False)
    except ClipError as error:
        raise ValueError(f"{video}: {error.detail}") from error
    decoded, notes = len(picture.regions), []
    if not square.fixed:
        stored = centers_of_stored(square.centers, picture, COORDINATE_TOLERANCE)
        if stored is not None:
            return read_lips(video, info, replace(square, centers=stored), pictures)
        try:
            _, note = fit_coordinates(square.centers, decoded, COORDINATE_TOLERANCE)
        except ValueError as error:
            raise ValueError(f"{video}: {error}: are they those of another video?") from error
        notes += [note] if note else []
    if crop.outside > OUTSIDE_SHARE * decoded:
        raise ValueError(f"{video}: lip center outside {_size(info)}, in {crop.outside} of {decoded} frames")
    lips = crops_at_25(
        video,
        picture,
        lambda frame: _resized(picture.regions[frame], exact, pictures.stored_side),
        lambda frame: (*pairs[min(frame, last)], square.side),
    )
    return replace(lips, notes=notes + lips.notes)


def crops_at_25(
    video: Path,
    picture: Picture,
    region: Callable[[int], Array],
    square: Callable[[int], tuple[float, float, float]],
    runs: Sequence[SoundRun] = (),
    most: float = MAX_SECONDS,
) -> LipCrops:
    """The lip crops to read, 25 a second, of those of the decoded frames.

    Args:
        video: for messages.
        picture: the frames' times.
        region: decoded frame -> uint8 (R, R).
        square: decoded frame -> x, y and side of its lip square.
        runs: the sound beside the picture.
        most: seconds.

    Raises:
        ValueError: they are too few or too many, or the times are broken.
    """
    try:
        frames = frames_at_25(picture)
    except ClipError as error:
        raise ValueError(f"{video}: {error.detail}") from error
    decoded, notes = len(picture.ticks), list(picture.notes)
    if len(frames) < _MIN_FRAMES:
        raise ValueError(f"{video}: {len(frames)} frames at 25 a second, and {_MIN_FRAMES} at least are needed")
    check_length(video, len(frames) / FPS, most)
    if len(frames) != decoded or (frames != np.arange(decoded)).any():
        notes.append(f"{decoded} frames were resampled to {len(frames)} at 25 a second")
    if picture.corrupt:
        notes.append(f"{picture.corrupt} frames were repaired by the decoder")
    sound = sound_at_16k(runs, float(picture.start), len(frames))[0] if runs else None
    return LipCrops(
        np.stack([region(frame) for frame in frames]),
        picture.start,
        notes,
        np.array([square(frame) for frame in frames], np.float64),
        sound if sound is not None and sound.any() else None,
    )


def _check(video: Path, info: VideoInfo, square: LipSquares, radius: int) -> None:
    """What can be known before a long video is decoded."""
    if square.side < 2:
        raise ValueError(f"a lip square of {square.side} pixels: expected 2 at least, and it is better to have 40")
    if square.side > 2 * max(info.width, info.height):
        raise ValueError(f"{video}: a lip square of {square.side} pixels is far larger than {_size(info)}")
    x, y = square.centers[0]
    if len(square.centers) == 1 and not (0 <= x < info.width and 0 <= y < info.height):
        raise ValueError(f"{video}: the lip center {x},{y} lies outside {_size(info)}")
    check_length(video, info.seconds, MAX_SECONDS)
    needed = info.frames * (2 * radius) ** 2
    if needed > _MOST_BYTES:
        raise ValueError(
            f"{video}: its {info.frames} lip squares of {2 * radius} pixels would take "
            f"{needed / (1 << 30):.1f} GiB of memory, and {_MOST_BYTES >> 30} are allowed: cut it into parts, or make "
            "the picture smaller"
        )


def check_length(video: Path, seconds: float, most: float = MAX_SECONDS) -> None:
    """Refuse a video that is too long to be synthesized at once (ValueError); infinity: how long is not known."""
    if seconds <= most:
        return
    allowed = f"{most / 60:g} minutes" if most >= 120 else f"{most:g} s"
    found = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.1f} s"
    found = f"longer than {allowed}" if seconds == math.inf else found
    raise ValueError(f"{video}: {found}, and {allowed} at most are synthesized at once: cut it into parts")


def _size(info: VideoInfo) -> str:
    return f"the picture, which is {info.width}x{info.height} pixels"


def _resized(region: Array, exact: float, side: int) -> Array:
    """The square of 2 `exact` pixels in the middle of a region, by Pillow, as the networks' own pictures are resized;
    where both sides are the same, nothing is changed."""
    radius = len(region) // 2
    box = (radius - exact, radius - exact, radius + exact, radius + exact)
    return np.asarray(Image.fromarray(region).resize((side, side), Image.Resampling.BILINEAR, box=box))
