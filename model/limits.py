"""Limits of a checkpoint: sizes of its file, its parts and its settings, checked before memory is taken.

The published lip-to-speech network has 76 million weights; with optimizer and average its checkpoint takes 1.5 GB.
"""

from __future__ import annotations

MAX_FILE_BYTES = 8 << 30
MAX_DIRECTORY_BYTES = 16 << 20
"""Of the zip's own list of members, about 90 bytes each."""

MAX_STRUCTURE_BYTES = 16 << 20
"""Of `data.pkl`, which holds everything but the numbers of tensors; a tokenizer's bytes are most of it."""

MAX_VALUES = 1_000_000
"""Values that a file's dictionaries and lists hold, counted wherever they stand; also operations of `data.pkl`."""

MAX_DEPTH = 32
MAX_DIMENSIONS = 8
MAX_NAME_LENGTH = 300

MAX_SETTING = 65_536
"""Any whole number in a checkpoint's settings, but for these:"""

MAX_SETTINGS = {
    "layers": 256,
    "heads": 1024,
    "expansion": 64,
    "kernel": 4095,
    "sample_rate": 192_000,
    "n_mels": 1024,
    "n_fft": 16_384,
    "win_length": 16_384,
    "size": 1024,
    "crop_radius": 1024,
    "max_shift": 1024,
}
"""By the name of the setting."""

MAX_FRACTION = 1e6
"""Magnitude of any other number in a checkpoint's settings."""

MAX_STEP = 10**12


def check_limit(what: str, found: float, allowed: float) -> None:
    """Refuse a size above what is allowed.

    Raises:
        ValueError: naming what it is of, the number found and the number allowed.
    """
    if not found <= allowed:
        raise ValueError(f"{what}: {found:,}, and at most {allowed:,} is allowed")
