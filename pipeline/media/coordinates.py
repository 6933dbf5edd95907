"""Read coordinate files: one line a clip, `<path>.mp4:<x0>/<y0>/<x1>/<y1>/...`, a lip center in whole pixels per frame.

The character between path and numbers is a separator of width one: a colon, a space or a comma (docs/method.md).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from pipeline.media.text_files import find_text_file, read_lines
from runtime.limits import MAX_PATH_LENGTH
from shards import Store

VIDEO_EXTENSIONS = (
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "vob", "mts", "m2ts", "ts", "3gp", "flv", "wmv",
    "ogv", "dv",
)  # fmt: skip

COORDINATE_TOLERANCE = 3
"""Frames by which a clip's coordinates may be too many or too few, by default."""

OUTSIDE_SHARE = 0.1
"""Of a clip's frames: where more have their lip center outside of the picture, the coordinates are another video's."""

_LINE = re.compile(rf"(.+\.(?:{'|'.join(VIDEO_EXTENSIONS)}))(?:[: ,;\t])(.*)", re.IGNORECASE)
_PIXELS = r"\s*+-?[0-9]{1,6}(?:\.[0-9]{0,20})?\s*+"
_ALL_PIXELS = re.compile(f"{_PIXELS}(?:/{_PIXELS})*+")
_NUMBERS_BEGIN = re.compile(r"(?<![: ,;\t])[: ,;\t]\s*+(?=-?[0-9]++(?:\.[0-9]*+)?/)")
_OF_NUMBERS = "-0123456789./ "


def read_coordinate_file(store: Store, name: str) -> tuple[dict[str, str], list[str]]:
    r"""The lines of a coordinate file, by video path as it is written, their numbers not yet parsed.

    A path without its extension is read too, and numbers separated by `\`, as a list whose paths were turned has them.

    Returns:
        video path -> `x0/y0/x1/y1/...`, and notices of lines that could not be used.

    Raises:
        FileNotFoundError, StorageError: it cannot be read.
        ValueError: it is no text, no regular file, or too large; or a line is too long.
    """
    coordinates: dict[str, str] = {}
    unreadable: list[tuple[int, str]] = []
    repeated: list[str] = []
    for number, line in read_lines(store, find_text_file(store, name) or name).items():
        match = _LINE.fullmatch(line)
        path, numbers = (match[1], match[2]) if match is not None else _without_extension(line.replace("\\", "/"))
        if not 0 < len(path) <= MAX_PATH_LENGTH:
            unreadable.append((number, line))
            continue
        numbers = numbers.replace("\\", "/")
        if coordinates.setdefault(path, numbers) != numbers:
            repeated.append(path)
    notices = []
    if unreadable:
        number, line = unreadable[0]
        notices.append(
            f"{store.path(name)}: {len(unreadable)} lines passed over, the first is line {number}, {line[:80]!r}: "
            "<path>.mp4:<x0>/<y0>/... was expected"
        )
    if repeated:
        notices.append(
            f"{store.path(name)}: {len(repeated)} clips have two lines that differ, the first was used: {repeated[0]}"
        )
    return coordinates, notices


def _without_extension(line: str) -> tuple[str, str]:
    """Path and numbers of a line whose path has no extension, or nothing: what follows the first separator after which
    there are numbers alone. In time that grows with the line, where a regular expression's grows with its square."""
    numbers_from = len(line.rstrip(_OF_NUMBERS))
    for match in _NUMBERS_BEGIN.finditer(line, 1):
        if match.end() >= numbers_from:
            return line[: match.start()], line[match.end() :]
    return "", ""


def parse_coordinates(text: str) -> np.ndarray[Any, Any]:
    """`84/110/84/111` -> int64 (2, 2): x, y of each frame, rounded to whole pixels.

    Raises:
        ValueError: not numbers of pixels, or an odd count of them; the message quotes the first that is wrong.
    """
    text = text.strip().strip("/")
    fields = text.split("/")
    if not _ALL_PIXELS.fullmatch(text):
        position, entry = next(found for found in enumerate(fields) if not re.fullmatch(_PIXELS, found[1]))
        axis, frame = "xy"[position % 2], position // 2
        raise ValueError(f"{entry[:20]!r} for {axis} of frame {frame} is not a number of pixels")
    if len(fields) % 2:
        raise ValueError(f"{len(fields)} numbers are not pairs of x and y")
    return np.array([round(float(entry)) for entry in fields], np.int64).reshape(-1, 2)


def fit_coordinates(
    centers: np.ndarray[Any, Any], frames: int, tolerance: int
) -> tuple[np.ndarray[Any, Any], str | None]:
    """Give every frame of a video a lip center, where their numbers differ by a little.

    Surplus centers are dropped from the end; missing ones repeat the last: trackers stumble over the last frames.

    Args:
        centers: (n, 2) pixels.
        frames: decoded frames of the video.
        tolerance: the largest difference mended.

    Returns:
        (frames, 2), and a note of what was mended, or None.

    Raises:
        ValueError: the numbers differ by more than `tolerance`: these are another video's coordinates.
    """
    surplus = len(centers) - frames
    if abs(surplus) > tolerance:
        raise ValueError(f"{len(centers)} coordinates for {frames} frames: more than {tolerance} apart")
    if surplus == 0:
        return centers, None
    fitted = centers[:frames] if surplus > 0 else np.pad(centers, ((0, -surplus), (0, 0)), mode="edge")
    what = f"dropped {surplus} surplus" if surplus > 0 else f"repeated the last for {-surplus} missing"
    return fitted, f"{len(centers)} coordinates for {frames} frames: {what}"
