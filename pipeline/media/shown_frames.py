"""Lip centers of the frames that a player shows, for a file that stores fewer: the ones between stay on for longer."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.media.picture import Picture

Array = np.ndarray[Any, Any]


def centers_of_stored(centers: Array, picture: Picture, tolerance: int) -> Array | None:
    """The lip center of each decoded frame, where centers are those of a video of constant rate.

    AVI leaves out frames that were dropped, mp4 of a variable rate those that are like the one before; who tracked the
    lips in what a player or a converter shows has centers of all of them.

    Args:
        centers: (n, 2) x, y.
        picture: what was decoded.
        tolerance: frames by which the numbers may differ.

    Returns:
        (N, 2), or None: the centers are those of the decoded frames, or of neither.
    """
    ticks = np.array(picture.ticks)
    if abs(len(centers) - len(ticks)) <= tolerance or len(ticks) < 2:
        return None
    frame = max(1.0, float(np.median(np.diff(ticks))))
    numbers = np.rint((ticks - ticks[0]) / frame).astype(np.int64)
    shown = int(numbers[-1]) + max(1, round(picture.duration / frame))
    if abs(len(centers) - shown) > tolerance:
        return None
    stored: Array = centers[np.minimum(numbers, len(centers) - 1)]
    return stored
