"""Pictures for a page: sheets and strips of a lip region, and mels in colour, as data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]

TILE = 96
"""Pixels of a frame in a page; a multiple of 8, so that no JPEG block spans two frames of a sheet."""
COLUMNS = 10
"""Frames in a row of a sheet."""
COLOURS = [(8, 10, 26), (36, 30, 86), (38, 76, 128), (22, 126, 137), (62, 172, 118), (160, 208, 92), (252, 244, 190)]
"""Anchors of the mel's colour map, about evenly apart in CIE lightness: it reads the same in print and to every eye."""


def make_tiles(roi: Array) -> Array:
    """uint8 (T, R, R) -> (T, TILE, TILE)."""
    return np.stack([np.asarray(Image.fromarray(frame).resize((TILE, TILE))) for frame in roi])


def sheet(tiles: Array) -> Array:
    """Frames (T, TILE, TILE) laid out in rows of `COLUMNS`, read like a text."""
    rows = -(-len(tiles) // COLUMNS)
    grid = np.zeros((rows * COLUMNS, TILE, TILE), np.uint8)
    grid[: len(tiles)] = tiles
    return grid.reshape(rows, COLUMNS, TILE, TILE).swapaxes(1, 2).reshape(rows * TILE, COLUMNS * TILE)


def strip(tiles: Array, count: int) -> Array:
    """The middle frames of `count` equal stretches of time, side by side, so that the strip is its own time axis."""
    middles = (2 * np.arange(count) + 1) * len(tiles) // (2 * count)
    return np.hstack(list(tiles[middles]))


def jpeg(picture: Array) -> str:
    """A data URI of a grey picture."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=80, optimize=True)
    return data_uri("image/jpeg", buffer.getvalue())


def colour_map() -> Array:
    """uint8 (256, 3), RGB from silence to loud."""
    anchors, levels = np.array(COLOURS), np.linspace(0, len(COLOURS) - 1, 256)
    channels = [np.interp(levels, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def mel_picture(mel: Array) -> str:
    """A pixel a band and mel frame, low frequencies at the bottom, -1 to 1 over the colour map whatever the clip."""
    levels = ((mel.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(levels[::-1]))
    picture.putpalette(colour_map().tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return data_uri("image/png", buffer.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """`content` as something a page can hold, of media type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
