"""Find cuts: moments at which the picture changes at once and for good.

Frames are compared as thumbnails of their luma, without their mean, so that a change of exposure is no cut. A frame
without any contrast (gray where a decoder lost its way, white in a flash, black) is compared with nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

THUMBNAIL = 16
"""Fields a side of the thumbnails that are compared."""

_CUT = (7.0, 4.0)
"""A cut changes the picture by so many luma levels, and so many times as much as the frames before it changed. Talking
faces change by 1 level, joins of two speakers before one wall by 12; a moving camera changes every frame."""
_EARLY_CUT = (12.0, 4.0)
"""The same while it is not known how much frames change."""
_JUMP = (1.5, 3.0)
"""The same of a cut that leaves the background alone, which is one only if the face jumps, too."""
_SAME = 3.5
"""Levels up to which two frames show the same."""
_BLANK_CONTRAST = 8.0
"""Standard deviation of luma levels below which a frame shows nothing that could be compared."""
_RECENT, _FEWEST = 12, 5
"""Frames, at most and at least, that say how much the picture changes usually."""


@dataclass
class CutFinder:
    """Compares each frame with the one before it.

    Attributes:
        last: thumbnail of the last frame that had contrast.
        changed: luma levels by which the frame that was added last changed the picture.
        is_cut: whether the frame that was added last begins another shot.
        is_jump: whether it does if the face jumps.
    """

    last: Array | None = None
    changed: float = 0.0
    is_cut: bool = False
    is_jump: bool = False
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def add(self, thumbnail: Array) -> None:
        """Look at the next frame."""
        before, self.changed, self.is_cut, self.is_jump = self.last, 0.0, False, False
        if is_blank(thumbnail):
            return
        self.last = thumbnail
        if before is None:
            return
        self.changed = changed = change(before, thumbnail)
        usual = float(np.mean(self._recent or [0.0]))
        usual_is_known = len(self._recent) >= _FEWEST
        levels, times = _CUT if usual_is_known else _EARLY_CUT
        self.is_cut = changed >= levels and changed >= times * usual
        levels, times = _JUMP
        self.is_jump = usual_is_known and changed >= levels and changed >= times * usual
        self._recent.append(changed)


def change(one: Array, other: Array) -> float:
    """Mean difference of two thumbnails in luma levels, without that of their means."""
    difference = one.astype(np.float64) - other
    return float(np.abs(difference - difference.mean()).mean())


def is_blank(thumbnail: Array) -> bool:
    """Whether a frame has no contrast."""
    return float(thumbnail.std()) < _BLANK_CONTRAST


def shows_same(thumbnail: Array, before: Array) -> bool:
    """Whether a frame shows what another one did, so that a cut between them was none."""
    return not is_blank(thumbnail) and change(thumbnail, before) < _SAME
