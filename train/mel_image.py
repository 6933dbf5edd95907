"""Pictures of mels for the logbook.

The colours run from near-black over violet, red and orange to near-white, in even steps of CIE lightness: a step of the
mel looks equally large wherever it is, in grey print too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

MAGNIFIED = 2
GAP = 4

# sRGB at CIE L* 2, 11.5, 21, ... 97: hue 285 to 460 degrees of LCh, chroma as far as sRGB reaches
_COLOURS = np.array(
    [
        (0, 6, 31),
        (18, 19, 91),
        (87, 0, 113),
        (137, 1, 110),
        (184, 3, 106),
        (229, 22, 94),
        (245, 88, 85),
        (248, 137, 93),
        (243, 180, 127),
        (235, 217, 190),
        (250, 247, 231),
    ]
)


def mel_picture(mels: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Several mels one above the other, the first on top: low bands at the bottom of each, time to the right.

    Args:
        mels: each (n_mels, S) in the network's units; -1, silence, and what is below is darkest, 1 and what is above
            brightest. What is not a number is drawn as silence. S may differ: shorter ones end in the gap's colour.

    Returns:
        uint8 (3, H, W), red, green, blue: each value MAGNIFIED pixels wide and high, GAP light pixels between mels.

    Raises:
        ValueError: no mels, or an array that is none.
    """
    if not mels:
        raise ValueError("no mels to draw: expected one at least")
    for number, mel in enumerate(mels):
        if mel.ndim != 2 or not mel.size:
            raise ValueError(f"mel {number} has the shape {mel.shape}: expected (n_mels, frames)")
    width = MAGNIFIED * max(mel.shape[1] for mel in mels)
    rows = [np.full((3, GAP, width), 255, np.uint8)]
    for mel in mels:
        drawn = _coloured(mel).repeat(MAGNIFIED, axis=1).repeat(MAGNIFIED, axis=2)
        missing = width - drawn.shape[2]
        rows += [np.pad(drawn, ((0, 0), (0, 0), (0, missing)), constant_values=255), rows[0]]
    return np.concatenate(rows[1:-1], axis=1)


def _coloured(mel: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(n_mels, S) -> uint8 (3, n_mels, S), the lowest band in the last row."""
    level = np.nan_to_num(mel[::-1].astype(np.float64), nan=-1.0)
    anchors = np.linspace(-1, 1, len(_COLOURS))
    colours = [np.interp(level, anchors, channel) for channel in _COLOURS.T]  # beyond the ends: the ends' colours
    return np.stack(colours).round().astype(np.uint8)
