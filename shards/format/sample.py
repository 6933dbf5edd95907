"""One clip as stored: five members of a tar under one key, and the checks that they belong together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import msgspec
import numpy as np

from runtime.constants import FPS, MEL_FRAMES_PER_VIDEO_FRAME, N_MELS, ROI_MARGIN, SAMPLES_PER_FRAME
from runtime.limits import MAX_FRAMES
from runtime.stored_json import Count, Sha256
from shards.format.errors import DatasetError, unreadable
from shards.format.member_sizes import member_sizes
from shards.format.npy import decode_npy, encode_npy
from shards.format.roi import RoiCodec, decode_roi, encode_roi, roi_member
from shards.format.schema import (
    Frames,
    Path,
    Pixel,
    Pixels,
    Radius,
    Seconds,
    SetName,
    SplitName,
    Text,
    is_key,
)
from shards.format.stored import decode_stored
from shards.format.wav import decode_wav, encode_wav


def roi_side(crop_radius: int) -> int:
    """R, the side of the stored lip region in pixels, from h, the radius of the published crop."""
    return 2 * (crop_radius + ROI_MARGIN)


_STORED_NAMES = {"crop_radius": "half"}
"""Fields whose name in a sample's json is older than their name here: another would change every shard's bytes."""

_OPTIONAL = ("lip_square", "source_start")
"""Fields that are stored only where they say something."""


@dataclass(frozen=True)
class SampleMeta:
    """What the `.json` member says of a clip.

    Attributes:
        set: the corpus's own folder that the clip comes from (main, pretrain, trainval, test ...).
        split: the split it was built for.
        speaker: the speaker, or what the corpus has in its place (a broadcast, a channel).
        source: path of the video below the corpus's root.
        source_sha256: of the video file.
        frames: T.
        fps: frames per second of the stored lip region, always 25.
        crop_radius: h, half the side of the published crop in pixels; the stored region is 2 (h + 5) wide.
        lips: (T, 2) lip centre x, y of each stored frame, in pixels of the source picture.
        words: (word, start, end) in seconds from frame 0; empty where the corpus has no word times.
        sound: [first, last) sample of the stored sound that the source really had; silence was put around it.
        notes: what was mended on the way, in words.
        lip_square: side of the square in pixels of the source picture that was resized to 2 h, where the size of the
            face was tracked; None: it is 2 h, at native resolution.
        source_start: seconds of the source at which the clip begins, where it is one of its shots.
    """

    set: SetName
    split: SplitName
    speaker: Text
    source: Path
    source_sha256: Sha256
    frames: Frames
    fps: Annotated[int, msgspec.Meta(ge=FPS, le=FPS)]
    crop_radius: Radius
    lips: list[tuple[Pixel, Pixel]]
    words: list[tuple[Text, Seconds, Seconds]]
    sound: tuple[Count, Count]
    notes: list[Text]
    lip_square: Pixels | None = None
    source_start: Seconds | None = None


@dataclass(frozen=True)
class Sample:
    """One clip.

    Attributes:
        key: unique in the dataset, begins with the corpus's set, holds no dot and no white space.
        roi: uint8 (T, R, R), grey lip region at native resolution, R = 2 (h + 5).
        mel: float32 (80, 4T), the network's log-mel of the whole clip (docs/method.md, Audio).
        wav: int16 (640 T,), 16 kHz mono, in step with frame 0.
        text: the transcript, lower case; empty where there is none.
        meta: see SampleMeta.
    """

    key: str
    roi: np.ndarray[Any, Any]
    mel: np.ndarray[Any, Any]
    wav: np.ndarray[Any, Any]
    text: str
    meta: SampleMeta


def check_sample(sample: Sample) -> None:
    """Raise `DatasetError`, naming the key, unless the parts of `sample` have the shapes and types of the contract."""
    frames = sample.meta.frames
    side = roi_side(sample.meta.crop_radius)
    expected: list[tuple[str, np.ndarray[Any, Any], type, tuple[int, ...]]] = [
        ("roi", sample.roi, np.uint8, (frames, side, side)),
        ("mel", sample.mel, np.float32, (N_MELS, MEL_FRAMES_PER_VIDEO_FRAME * frames)),
        ("wav", sample.wav, np.int16, (SAMPLES_PER_FRAME * frames,)),
    ]
    for name, array, dtype, shape in expected:
        if array.dtype != dtype or array.shape != shape:
            raise DatasetError(
                f"{sample.key}: {name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}"
            )
    if not np.isfinite(sample.mel).all():
        raise DatasetError(f"{sample.key}: mel holds values that are not finite")
    if len(sample.meta.lips) != frames:
        raise DatasetError(f"{sample.key}: {len(sample.meta.lips)} lip centres for {frames} frames")
    if not sample.key.startswith(f"{sample.meta.set}/") or not is_key(sample.key):
        raise DatasetError(
            f"{sample.key}: a key begins with its set ({sample.meta.set}/), without dots, white space or controls"
        )


def encode_sample(sample: Sample, codec: RoiCodec) -> dict[str, bytes]:
    """The members of a sample, extension -> bytes, in the order in which they are stored.

    Raises:
        DatasetError: the sample does not keep the contract.
    """
    return {name: encode() for name, encode in member_encoders(sample, codec).items()}


def member_encoders(sample: Sample, codec: RoiCodec) -> dict[str, Callable[[], bytes]]:
    """`encode_sample`, each member of which is encoded when it is asked for: those of a long clip are large."""
    check_sample(sample)
    values = {_STORED_NAMES.get(name, name): value for name, value in vars(sample.meta).items()}
    for name in _OPTIONAL:
        if values[name] is None:  # as in shards from before there was tracking
            del values[name]
    encoders: dict[str, Callable[[], bytes]] = {
        "json": lambda: json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(),
        "mel.npy": lambda: encode_npy(sample.mel),
        roi_member(codec): lambda: encode_roi(sample.roi, codec, FPS),
        "txt": sample.text.encode,
        "wav": lambda: encode_wav(sample.wav),
    }
    return dict(sorted(encoders.items()))  # webdataset writes members sorted


def decode_sample(
    key: str, members: Mapping[str, bytes], *, crop_radius: int | None = None, frames: int | None = None
) -> Sample:
    """A sample from the bytes of its members.

    Args:
        key: of the clip.
        members: extension -> content.
        crop_radius, frames: what manifest and index say of it, if they are known: compared before anything is decoded.

    Raises:
        DatasetError: naming key and member, when one is missing, unreadable or does not fit the others.
    """
    roi_name = "roi.mkv" if "roi.mkv" in members else "roi.npy"
    missing = [name for name in (roi_name, "mel.npy", "wav", "txt", "json") if name not in members]
    if missing:
        raise DatasetError(f"{key}: member {', '.join(missing)} is missing (found: {', '.join(sorted(members))})")
    meta = decode_meta(members["json"], f"{key}.json")
    side = roi_side(meta.crop_radius)
    for name, (least, most) in member_sizes(meta.frames, side).items():
        if name in members and not least <= len(members[name]) <= most:
            raise DatasetError(
                f"{key}.{name}: {len(members[name])} bytes, expected {least} to {most} for {meta.frames} frames"
            )
    for what, found, expected in (("crop_radius", meta.crop_radius, crop_radius), ("frames", meta.frames, frames)):
        if expected is not None and found != expected:
            raise DatasetError(f"{key}.json: {what} is {found}, expected {expected}")
    with unreadable(f"{key}.txt: not UTF-8", UnicodeDecodeError):
        text = members["txt"].decode()
    sample = Sample(
        key=key,
        roi=decode_roi(members[roi_name], roi_name, meta.frames, side, f"{key}.{roi_name}"),
        mel=decode_npy(members["mel.npy"], f"{key}.mel.npy"),
        wav=decode_wav(members["wav"], f"{key}.wav"),
        text=text,
        meta=meta,
    )
    check_sample(sample)
    return sample


_TYPES = get_type_hints(SampleMeta, include_extras=True)
_StoredMeta = msgspec.defstruct(
    "_StoredMeta",
    [(field.name, _TYPES[field.name]) for field in fields(SampleMeta) if field.name not in _OPTIONAL]
    + [(name, _TYPES[name], None) for name in _OPTIONAL],
    rename=_STORED_NAMES,
    forbid_unknown_fields=True,
)
"""The schema of a `.json` member."""


def decode_meta(content: bytes, name: str) -> SampleMeta:
    """What a `.json` member says (`DatasetError`, naming `name`: it is no description of a clip)."""
    most = member_sizes(MAX_FRAMES, 1)["json"][1]
    stored = decode_stored(content, _StoredMeta, f"{name}: not the description of a clip", most)
    meta = SampleMeta(**msgspec.structs.asdict(stored))
    first, last = meta.sound
    if not 0 <= first < last <= SAMPLES_PER_FRAME * meta.frames:
        raise DatasetError(f"{name}: sound runs from sample {first} to {last} of {SAMPLES_PER_FRAME * meta.frames}")
    for word, start, end in meta.words:
        if start > end:
            raise DatasetError(f"{name}: words: {word!r} runs from {start} to {end} seconds")
    return meta
