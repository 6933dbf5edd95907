"""Draw images for a page: contact sheets and strips of gray video frames, as JPEG data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from einops import rearrange
from PIL import Image

Array = np.ndarray[Any, Any]

TILE = 96
"""Pixels of a frame in a page; a multiple of 8, so that no JPEG block spans two frames of a sheet."""
COLUMNS = 10
"""Frames in a row of a sheet."""


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
    """A data URI of a gray picture."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=80, optimize=True)
    return data_uri("image/jpeg", buffer.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """`content` as something a page can hold, of media type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
