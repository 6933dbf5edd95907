"""Draw images: sheets and strips of gray frames and mels, as data URIs for a page or an array for TensorBoard.

A mel's colors run from near-black over violet, red and orange to near-white, in even steps of CIE lightness: a step of
the mel looks equally large wherever it is, in gray print too.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from einops import rearrange
from PIL import Image

Array = np.ndarray[Any, Any]

TILE = 96
"""Pixels of a frame in a page; a multiple of 8, so that no JPEG block spans two frames of a sheet."""
COLUMNS = 10
"""Frames in a row of a sheet."""
MAGNIFIED, GAP = 2, 4
"""Of `stack_mels`, pixels: a value's width and height, and what lies between two mels."""

# sRGB at CIE L* 2, 11.5, 21, ... 97: hue 285 to 460 degrees of LCh, chroma as far as sRGB reaches
COLORS = [
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
"""Anchors of the color map, evenly apart."""


def make_tiles(roi: Array) -> Array:
    """uint8 (T, R, R) -> (T, TILE, TILE)."""
    return np.stack([np.asarray(Image.fromarray(frame).resize((TILE, TILE))) for frame in roi])


def sheet(tiles: Array) -> Array:
    """Frames (T, TILE, TILE) laid out in rows of `COLUMNS`, read like a text."""
    rows = -(-len(tiles) // COLUMNS)
    grid = np.zeros((rows * COLUMNS, TILE, TILE), np.uint8)
    grid[: len(tiles)] = tiles
    return rearrange(grid, "(rows columns) h w -> (rows h) (columns w)", columns=COLUMNS)


def strip(tiles: Array, count: int) -> Array:
    """The middle frames of `count` equal stretches of time, side by side, so that the strip is its own time axis."""
    middles = (2 * np.arange(count) + 1) * len(tiles) // (2 * count)
    return np.hstack(list(tiles[middles]))


def jpeg(picture: Array) -> str:
    """A data URI of a picture, gray or RGB."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=80, optimize=True)
    return data_uri("image/jpeg", buffer.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """`content` as something a page can hold, of media type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@lru_cache
def color_map() -> Array:
    """uint8 (256, 3), RGB from silence to loud."""
    anchors, levels = np.array(COLORS), np.linspace(0, len(COLORS) - 1, 256)
    channels = [np.interp(levels, np.arange(len(anchors)), channel) for channel in anchors.T]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def mel_levels(mel: Array) -> Array:
    """(n_mels, S) in the network's units -> uint8 (n_mels, S), rows of `color_map`, the lowest band in the last row.

    -1, silence, what is below and what is not a number is 0; 1 and what is above is 255, whatever the clip.
    """
    return ((np.nan_to_num(mel[::-1], nan=-1.0).clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)


def mel_data_uri(mel: Array) -> str:
    """(n_mels, S) -> a PNG for a page, as a data URI: a pixel a band and mel frame."""
    picture = Image.fromarray(mel_levels(mel))
    picture.putpalette(color_map().tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return data_uri("image/png", buffer.getvalue())


def stack_mels(mels: Sequence[Array]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Several mels one above the other, the first on top: low bands at the bottom of each, time to the right.

    Args:
        mels: each (n_mels, S), as `mel_levels`. S may differ: shorter ones end in the gap's color.

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
        drawn = color_map()[mel_levels(mel)].transpose(2, 0, 1).repeat(MAGNIFIED, axis=1).repeat(MAGNIFIED, axis=2)
        missing = width - drawn.shape[2]
        rows += [np.pad(drawn, ((0, 0), (0, 0), (0, missing)), constant_values=255), rows[0]]
    return np.concatenate(rows[1:-1], axis=1)
