"""The sidecar of a shard: written after its tar, it says that the tar is complete and what it holds.

Manifest, index and error list are merges of sidecars, so whoever finishes the last shard can finish the dataset, and a
dead driver loses nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec

from runtime.limits import MAX_SIDECAR_BYTES
from runtime.renamed import refuse_renamed
from runtime.stored_json import Count, Name, Sha256
from shards.format.errors import DatasetError
from shards.format.schema import IndexRow, ShardName, SplitName, Text
from shards.format.store import Store
from shards.format.stored import decode_stored, read_stored

FORMAT_VERSION = 1

Stage = Literal["index", "read", "decode", "tracking", "coordinates", "sound", "transcript"]
"""Where a clip can fall out."""

Reason = Literal[
    "not_regular",
    "outside_corpus",
    "too_large",
    "too_slow",
    "video_missing",
    "video_unreadable",
    "video_empty",
    "video_damaged",
    "video_truncated",
    "video_short",
    "times_broken",
    "face_missing",
    "scene_cut",
    "too_long",
    "coordinates_missing",
    "coordinates_invalid",
    "coordinates_mismatch",
    "coordinates_outside",
    "sound_missing",
    "sound_unreadable",
    "sound_silent",
    "transcript_missing",
    "transcript_unreadable",
    "transcript_invalid",
]
"""Why it can: to count by. The README explains each."""


@dataclass(frozen=True)
class SkippedClip:
    """A clip that is not in the dataset, and why.

    `source` is the path of its video below the corpus's root, `detail` what was found and what was expected.
    """

    key: Text
    split: SplitName
    source: Text
    stage: Stage
    reason: Reason
    detail: Text


@dataclass(frozen=True)
class Sidecar:
    """What is known of one finished shard.

    Attributes:
        plan: hash of the plan the shard belongs to.
        shard: name of the tar, of `split`.
        bytes, sha256: of the tar.
        rows: index rows of its clips, in the order in which they are stored.
        skipped: clips planned for it that could not be built.
        versions: of the libraries that made it.
    """

    plan: Name
    shard: ShardName
    split: SplitName
    bytes: Count
    sha256: Sha256
    rows: list[dict[str, Any]]
    skipped: list[SkippedClip]
    versions: dict[Name, Name]

    @cached_property
    def frames(self) -> int:
        """Video frames in the shard, over all its clips."""
        return sum(int(row["frames"]) for row in self.rows)


@dataclass(frozen=True)
class _Body(Sidecar):
    """What is read."""

    rows: list[IndexRow]  # type: ignore[assignment]


@dataclass(frozen=True)
class _Stored:
    format: int
    digest: Sha256
    sidecar: msgspec.Raw


def sidecar_name(shard: str) -> str:
    """`train-000000.tar` -> `train-000000.json`."""
    return shard.removesuffix(".tar") + ".json"


def encode_sidecar(sidecar: Sidecar) -> bytes:
    """One line of JSON: the format version, a sha256 of the rest, and the rest."""
    body, digest = _compact(asdict(sidecar))
    return f'{{"format":{FORMAT_VERSION},"digest":"{digest}","sidecar":{body}}}\n'.encode()


def _compact(body: dict[str, Any]) -> tuple[str, str]:
    """The JSON of a sidecar, and its sha256."""
    encoded = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return encoded, hashlib.sha256(encoded.encode()).hexdigest()


def read_sidecar(store: Store, shard: str) -> Sidecar:
    """The sidecar of a shard.

    Raises:
        FileNotFoundError: the shard has none: it was never finished.
        DatasetError: it is not readable, or of another format version.
    """
    where = store.path(sidecar_name(shard))
    what = f"{where}: not the sidecar of a shard"
    stored = decode_stored(read_stored(store, sidecar_name(shard), MAX_SIDECAR_BYTES), _Stored, what, MAX_SIDECAR_BYTES)
    if stored.format != FORMAT_VERSION:
        raise DatasetError(f"{where}: format {stored.format}, this version reads {FORMAT_VERSION}")
    body = bytes(stored.sidecar)
    if hashlib.sha256(body).hexdigest() != stored.digest:
        raise DatasetError(f"{where}: its content is not what it was written with")
    try:
        found = decode_stored(body, _Body, what, MAX_SIDECAR_BYTES)
    except DatasetError:
        _refuse_renamed(body, what)
        raise
    if found.shard != shard:
        raise DatasetError(f"{what}: shard: it is of {found.shard}, expected {shard}")
    return Sidecar(**vars(found))


def _refuse_renamed(body: bytes, what: str) -> None:
    """Say so where a sidecar that cannot be read is of an older version."""
    names = decode_stored(body, dict[str, msgspec.Raw], what, MAX_SIDECAR_BYTES)
    try:
        refuse_renamed("sidecar", names)
    except ValueError as error:
        raise DatasetError(f"{what}: {error}") from error
