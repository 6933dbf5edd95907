"""Types and bounds of the fields in a dataset's stored files, which `runtime.stored_json` compares when it reads.

Names are checked since they become paths: of a shard's file, of files that an evaluation writes for a clip, of the
video that a clip was made from.
"""

from __future__ import annotations

import re
from typing import Annotated, TypedDict

import msgspec

from runtime.limits import (
    MAX_COORDINATE,
    MAX_FRAMES,
    MAX_KEY_LENGTH,
    MAX_PATH_LENGTH,
    MAX_SECONDS,
    MAX_SETTINGS,
    MAX_TRANSCRIPT_BYTES,
)
from runtime.stored_json import Count

_NOT_IN_KEYS = "\x00-\x20.\\\\\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # control, white space, dot
SET_PATTERN = f"[^/{_NOT_IN_KEYS}]+"
KEY_PATTERN = f"{SET_PATTERN}/[^{_NOT_IN_KEYS}]+"
"""Of a key: its set, a slash and its name, without dots (where WebDataset ends it), white space, control characters."""

SHARD_PATTERN = r"[\w-]+\.tar"
SPLIT_PATTERN = r"[\w-]+"

Frames = Annotated[int, msgspec.Meta(ge=1, le=MAX_FRAMES)]
Radius = Annotated[int, msgspec.Meta(ge=1, le=MAX_SETTINGS["crop_radius"])]
Pixel = Annotated[int, msgspec.Meta(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
Pixels = Annotated[float, msgspec.Meta(ge=0, le=MAX_COORDINATE)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)]
Key = Annotated[str, msgspec.Meta(pattern=rf"^{KEY_PATTERN}\Z", max_length=MAX_KEY_LENGTH)]
SetName = Annotated[str, msgspec.Meta(pattern=rf"^{SET_PATTERN}\Z", max_length=MAX_KEY_LENGTH)]
SplitName = Annotated[str, msgspec.Meta(pattern=rf"^{SPLIT_PATTERN}\Z", max_length=100)]
ShardName = Annotated[str, msgspec.Meta(pattern=rf"^{SHARD_PATTERN}\Z", max_length=200)]
Path = Annotated[str, msgspec.Meta(pattern=r"(?s)^(?!/)(?!(.*/)?\.\.(/|\Z))(?!.*\x00)", max_length=MAX_PATH_LENGTH)]
"""Below the corpus's root: not absolute, and not out of it."""

Text = Annotated[str, msgspec.Meta(max_length=MAX_TRANSCRIPT_BYTES)]
Setting = str | int | float | bool | None


class TimedWord(TypedDict):
    """A word in an index row, and when it is said, in seconds from frame 0."""

    word: Text
    start: Seconds
    end: Seconds


class IndexRow(TypedDict):
    """A row of the index, as it stands in the sidecar of its shard: columns as in `INDEX_SCHEMA`."""

    key: Key
    split: SplitName
    set: SetName
    shard: ShardName
    frames: Frames
    speaker: Text
    source: Path
    text: Text
    words: list[TimedWord]
    roi_member: str
    json_offset: Count
    json_size: Count
    mel_offset: Count
    mel_size: Count
    roi_offset: Count
    roi_size: Count
    txt_offset: Count
    txt_size: Count
    wav_offset: Count
    wav_size: Count


def is_key(key: str) -> bool:
    """Whether a key may stand in a dataset."""
    return len(key) <= MAX_KEY_LENGTH and re.fullmatch(KEY_PATTERN, key) is not None
