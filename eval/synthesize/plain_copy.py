"""Work on a video that may be odd: with a plain copy of it in its place, where the video itself turns out not to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from eval.synthesize.lip_crop import MAX_SECONDS
from pipeline.media.errors import ClipError
from pipeline.media.normalize import normalized
from pipeline.media.probe import OddVideoError

Result = TypeVar("Result")


def on_plain_copy(video: Path, work: Callable[[Path, list[str]], Result], most: float = MAX_SECONDS) -> Result:
    """What `work(file, notes)` gives for a video, or, where it raises `OddVideoError`, for a plain copy.

    Args:
        video: the file.
        work: is called once, or twice, the second time with what was odd.
        most: seconds; of a longer video, the copy is only a little longer than that.

    Raises:
        ValueError: the copy cannot be made; or whatever `work` raises.
        OSError: there is no room for the copy; or whatever `work` raises.
    """
    try:
        return work(video, [])
    except OddVideoError as odd:
        try:
            with normalized(video, odd, most) as (plain, note):
                return work(plain, [note])
        except ClipError as error:
            raise ValueError(f"{video}: {error.detail}") from error
