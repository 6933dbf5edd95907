"""How many bytes each member of a clip may have, which follows from its frames: compared before memory is taken."""

from __future__ import annotations

from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, N_MELS, SAMPLES_PER_FRAME
from runtime.limits import MAX_ROI_BYTES, MAX_TRANSCRIPT_BYTES

LONGEST_HEADER = (1 << 16) - 1
"""Bytes before the numbers of a `.npy` or wav file; ours have 128 and 44."""

_JSON_BYTES, _JSON_BYTES_A_FRAME = 32 << 20, 64
_VIDEO_BYTES = 1 << 20
_VIDEO_BYTES_A_PIXEL = 2


def payload_bytes(frames: int, side: int) -> dict[str, int]:
    """Extension -> bytes of the numbers in an array or wav of that many frames, of lip regions `side` pixels wide."""
    return {
        "roi.npy": frames * side * side,
        "mel.npy": 4 * N_MELS * MEL_FRAMES_PER_VIDEO_FRAME * frames,
        "wav": 2 * SAMPLES_PER_FRAME * frames,
    }


def member_sizes(frames: int, side: int) -> dict[str, tuple[int, int]]:
    """Extension -> the fewest and the most bytes that this member of a clip can have."""
    region = min(frames * side * side, MAX_ROI_BYTES)
    exact = payload_bytes(frames, side)
    return {
        **{name: (size + 1, size + LONGEST_HEADER) for name, size in exact.items()},
        "roi.npy": (region + 1, region + LONGEST_HEADER),
        "roi.mkv": (1, _VIDEO_BYTES + _VIDEO_BYTES_A_PIXEL * region),
        "txt": (0, MAX_TRANSCRIPT_BYTES),
        "json": (2, _JSON_BYTES + _JSON_BYTES_A_FRAME * frames),
    }
