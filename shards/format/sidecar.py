"""The sidecar of a shard: written after its tar, it says that the tar is complete and what it holds.

Manifest, index and error list are merges of sidecars, so whoever finishes the last shard can finish the dataset, and a
dead driver loses nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from shards.format.errors import DatasetError
from shards.format.store import Store

FORMAT_VERSION = 1


@dataclass(frozen=True)
class LeftOut:
    """A clip that is not in the dataset, and why.

    Attributes:
        key: the clip.
        split: the split that listed it.
        source: path of its video below the corpus's root.
        stage: where it fell out: index, read, decode, coordinates, sound, transcript.
        reason: one word of a fixed list, to count by.
        detail: what was found and what was expected.
    """

    key: str
    split: str
    source: str
    stage: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Sidecar:
    """What is known of one finished shard.

    Attributes:
        plan: hash of the plan the shard belongs to.
        settings: the settings of that plan, so that another plan's shard can be told what differs.
        shard: name of the tar.
        split: its split.
        bytes, sha256: of the tar.
        frames: video frames in it, over all clips.
        rows: index rows of its clips, in the order in which they are stored.
        left_out: clips planned for it that could not be built.
        versions: of the libraries that made it.
    """

    plan: str
    settings: dict[str, Any]
    shard: str
    split: str
    bytes: int
    sha256: str
    frames: int
    rows: list[dict[str, Any]]
    left_out: list[LeftOut]
    versions: dict[str, str]


def sidecar_name(shard: str) -> str:
    """`train-000000.tar` -> `train-000000.json`."""
    return shard.removesuffix(".tar") + ".json"


def encode_sidecar(sidecar: Sidecar) -> bytes:
    content = {"format": FORMAT_VERSION, **asdict(sidecar)}
    return (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def read_sidecar(store: Store, shard: str) -> Sidecar:
    """The sidecar of a shard.

    Raises:
        FileNotFoundError: the shard has none: it was never finished.
        DatasetError: it is not readable, or of another format version.
    """
    name = sidecar_name(shard)
    try:
        content = json.loads(store.read(name))
        version = content.pop("format")
        if version != FORMAT_VERSION:
            raise DatasetError(f"{store.path(name)}: format {version}, this version reads {FORMAT_VERSION}")
        left_out = [LeftOut(**entry) for entry in content.pop("left_out")]
        missing = {field.name for field in fields(Sidecar)} - {"left_out"} - set(content)
        if missing:
            raise DatasetError(f"{store.path(name)}: field {', '.join(sorted(missing))} is missing")
        return Sidecar(left_out=left_out, **content)
    except DatasetError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DatasetError(f"{store.path(name)}: not the sidecar of a shard: {error}") from error
