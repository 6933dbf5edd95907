"""Draw the lip square of a clip on a whole frame of its video, so that a wrong track is seen at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw

from pipeline.media.crop import Orientation
from pipeline.media.decode import decode_video
from pipeline.media.errors import ClipError
from pipeline.tracking.frame import Frame, Square
from runtime.constants import FPS
from shards import SampleMeta

Array = np.ndarray[Any, Any]

SIDE = 192
"""Pixels of a thumbnail."""

_LATEST_SECONDS = 4.0
"""Decoding ends here at the latest: a thumbnail of a long clip shows its beginning."""
_COLOR = (255, 210, 0)


class _Found(Exception):  # noqa: N818
    """Ends decoding where there is nothing more to decode."""

    def __init__(self, picture: Frame, seconds: float) -> None:
        super().__init__()
        self.picture = picture
        self.seconds = seconds


def draw_lip_square(video: bytes | Path, meta: SampleMeta) -> Array | None:
    """A frame of a clip, from its middle or near its beginning, with the square around the lips.

    Args:
        video: the content of its file, or its path.
        meta: of the clip.

    Returns:
        uint8 (SIDE, SIDE, 3), the frame as a player shows it with black around it; None: it cannot be decoded.
    """
    begins = meta.source_start or 0.0
    wanted = begins + min(meta.frames / FPS / 2, _LATEST_SECONDS)
    first = 0.0

    def look(number: int, frame: av.VideoFrame, orientation: Orientation) -> Array:
        nonlocal first
        time = number / FPS if frame.time is None else frame.time
        first = time if number == 0 else first
        if time - first >= wanted - 0.5 / FPS:
            raise _Found(Frame(frame, orientation), time - first)
        return np.empty(0, np.uint8)

    try:
        decode_video(video, look, with_sound=False)
    except _Found as found:
        number = min(round((found.seconds - begins) * FPS), meta.frames - 1)
        return _draw(found.picture, meta.lips[number], meta.lip_square or 2 * meta.crop_radius)
    except ClipError:
        pass
    return None


def _draw(picture: Frame, center: tuple[int, int], side: float) -> Array:
    longer = max(picture.width, picture.height)
    whole = Square(picture.width / 2, picture.height / 2, longer)
    image = Image.fromarray(picture.sample(whole, SIDE, beyond=False))
    scale = SIDE / longer
    x, y = ((value - middle) * scale + SIDE / 2 for value, middle in zip(center, (whole.x, whole.y), strict=True))
    half = side * scale / 2
    ImageDraw.Draw(image).rectangle((x - half, y - half, x + half, y + half), outline=_COLOR, width=2)
    return np.asarray(image)
