"""The manifest: what a dataset is, written last. A folder without one is not finished."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypedDict

import msgspec

from runtime.constants import FPS
from runtime.limits import MAX_JSON_BYTES, MAX_MANIFEST_BYTES, MAX_SKIPPED_BYTES
from runtime.renamed import dotted, refuse_renamed
from runtime.stored_json import Count, Name, Sha256, StoredJsonError, check_depth
from shards.format.errors import DatasetError
from shards.format.schema import Radius, Setting, ShardName, SplitName
from shards.format.sidecar import FORMAT_VERSION, SkippedClip
from shards.format.store import Store
from shards.format.stored import convert_stored, decode_stored, read_stored

MANIFEST_NAME = "manifest.json"
ERRORS_NAME = "errors.jsonl"
PLAN_NAME = "plan.json"
"""Written first: whose place this is, so that another plan's build is refused before it touches anything."""


@dataclass(frozen=True)
class ShardEntry:
    """One shard of a split: name of the tar, its bytes and sha256, its clips and their video frames."""

    name: ShardName
    bytes: Count
    sha256: Sha256
    clips: Count
    frames: Count


@dataclass(frozen=True)
class Manifest:
    """What a dataset is.

    Attributes:
        plan: hash of the plan that it was built from.
        recipe: the settings that decide its content.
        features: mel, crop and codec settings: what the stored arrays are.
        totals: clips, frames, hours, bytes, skipped, over all splits.
        splits: split -> its shards, in order.
        versions: library -> versions that built the shards (more than one when it was upgraded in between).
        sha256: of `index.parquet` and `errors.jsonl`.
    """

    plan: Name
    recipe: dict[str, Any]
    features: dict[str, Any]
    totals: dict[str, Any]
    splits: dict[SplitName, list[ShardEntry]]
    versions: dict[Name, list[Name]]
    sha256: dict[Name, Sha256]

    def shard_names(self, split: str | None = None) -> list[str]:
        """Tars of one split, or of all.

        Raises:
            DatasetError: there is no such split; the message lists those there are.
        """
        if split is not None and split not in self.splits:
            raise DatasetError(f"no split {split!r} here: there is {', '.join(self.splits) or 'none'}")
        return [entry.name for name, entries in self.splits.items() if split in (None, name) for entry in entries]


class _Recipe(TypedDict):
    dataset: Name


class _Crop(TypedDict):
    crop_radius: Radius


class _Features(TypedDict):
    crop: _Crop


class _Totals(TypedDict):
    clips: Count
    frames: Count
    hours: Annotated[float, msgspec.Meta(ge=0)]
    bytes: Count
    skipped: Count


@dataclass(frozen=True)
class _Stored(Manifest):
    """What is read: settings are plain values, a mapping of them at most."""

    format: int
    recipe: dict[Name, Setting]
    features: dict[Name, Setting | dict[Name, Setting]]
    totals: _Totals  # type: ignore[assignment]


@dataclass(frozen=True)
class _Version:
    format: int


@dataclass(frozen=True)
class _Plan:
    plan: Name
    settings: dict[Name, Setting]


def hours_of(frames: int) -> float:
    """Hours of video of a number of frames, as the manifest rounds them."""
    return round(frames / FPS / 3600, 6)


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`."""
    return (json.dumps({"format": FORMAT_VERSION, **asdict(manifest)}, ensure_ascii=False, indent=1) + "\n").encode()


def read_manifest(store: Store) -> Manifest:
    """The manifest of a dataset.

    Raises:
        DatasetError: there is none, it is not readable as one, or it is of another format version.
    """
    where = store.path(MANIFEST_NAME)
    try:
        encoded = read_stored(store, MANIFEST_NAME, MAX_MANIFEST_BYTES)
    except FileNotFoundError as error:
        raise DatasetError(f"{where}: no manifest: no dataset lies here, or its build has not finished") from error
    what = f"{where}: not the manifest of a dataset"
    version = decode_stored(encoded, _Version, what, MAX_MANIFEST_BYTES, extra=True).format
    if version != FORMAT_VERSION:
        raise DatasetError(f"{where}: format {version}, this version reads {FORMAT_VERSION}")
    try:
        values = dict(vars(decode_stored(encoded, _Stored, what, MAX_MANIFEST_BYTES)))
        convert_stored(values["recipe"], _Recipe, f"{what}: recipe")
        convert_stored(values["features"], _Features, f"{what}: features")
    except DatasetError:
        _refuse_renamed(encoded, where)
        raise
    del values["format"]
    manifest = Manifest(**values)
    counted = Counter(manifest.shard_names())
    if counted and max(counted.values()) > 1:
        raise DatasetError(f"{what}: {max(counted, key=counted.__getitem__)} stands in it more than once")
    return manifest


def _refuse_renamed(encoded: bytes, where: str) -> None:
    """Say so where a manifest that cannot be read is of an older version."""
    content: dict[str, Any] = {}
    with suppress(DatasetError, StoredJsonError):
        content = decode_stored(encoded, dict[str, Any], where, MAX_JSON_BYTES)
        check_depth(content, where)
    try:
        refuse_renamed("manifest", dotted(content))
    except ValueError as error:
        what = f"of an older version: {error}; build the dataset again, in an empty --out"
        raise DatasetError(f"{where}: {what}") from error


def read_plan(store: Store) -> tuple[str, dict[str, Any]] | None:
    """Hash and settings of the plan that a place was claimed for; None if it has no readable plan file."""
    try:
        content = read_stored(store, PLAN_NAME, MAX_JSON_BYTES)
        plan = decode_stored(content, _Plan, store.path(PLAN_NAME), MAX_JSON_BYTES)
    except (FileNotFoundError, DatasetError):
        return None
    return plan.plan, plan.settings


def read_skipped(store: Store) -> list[dict[str, Any]]:
    """The clips that a dataset was built without: key, split, stage, reason and detail of each.

    Raises:
        DatasetError: there is no list of them, or not a readable one.
    """
    what = f"{store.path(ERRORS_NAME)}: no readable list of clips skipped"
    try:
        lines = read_stored(store, ERRORS_NAME, MAX_SKIPPED_BYTES).splitlines()
    except FileNotFoundError as error:
        raise DatasetError(f"{what}: it is missing") from error
    return [
        asdict(decode_stored(line, SkippedClip, f"{what}: line {number}", MAX_JSON_BYTES))
        for number, line in enumerate(lines, 1)
    ]
