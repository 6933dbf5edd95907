"""The manifest: what a dataset is, written last. A folder without one is not finished."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from runtime.constants import FPS
from runtime.renamed import dotted, refuse_renamed
from shards.format.errors import DatasetError, unreadable
from shards.format.sidecar import FORMAT_VERSION
from shards.format.store import Store

MANIFEST_NAME = "manifest.json"
ERRORS_NAME = "errors.jsonl"
PLAN_NAME = "plan.json"
"""Written first: whose place this is, so that another plan's build is refused before it touches anything."""


@dataclass(frozen=True)
class ShardEntry:
    """One shard of a split: name of the tar, its bytes and sha256, its clips and their video frames."""

    name: str
    bytes: int
    sha256: str
    clips: int
    frames: int


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

    plan: str
    recipe: dict[str, Any]
    features: dict[str, Any]
    totals: dict[str, Any]
    splits: dict[str, list[ShardEntry]]
    versions: dict[str, list[str]]
    sha256: dict[str, str]

    def shard_names(self, split: str | None = None) -> list[str]:
        """Tars of one split, or of all.

        Raises:
            DatasetError: there is no such split; the message lists those there are.
        """
        if split is not None and split not in self.splits:
            raise DatasetError(f"no split {split!r} here: there is {', '.join(self.splits) or 'none'}")
        return [entry.name for name, entries in self.splits.items() if split in (None, name) for entry in entries]


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
        encoded = store.read(MANIFEST_NAME)
    except FileNotFoundError as error:
        raise DatasetError(f"{where}: no manifest: no dataset lies here, or its build has not finished") from error
    with unreadable(f"{where}: not the manifest of a dataset", ValueError, TypeError, KeyError, AttributeError):
        content = json.loads(encoded)
        version = content.pop("format")
        if version != FORMAT_VERSION:
            raise DatasetError(f"{where}: format {version}, this version reads {FORMAT_VERSION}")
        try:
            refuse_renamed("manifest", dotted(content))
        except ValueError as error:
            what = f"of an older version: {error}; build the dataset again, in an empty --out"
            raise DatasetError(f"{where}: {what}") from error
        splits = {name: [ShardEntry(**entry) for entry in entries] for name, entries in content.pop("splits").items()}
        manifest = Manifest(splits=splits, **content)
        _check(manifest, where)
        return manifest


def read_plan(store: Store) -> tuple[str, dict[str, Any]] | None:
    """Hash and settings of the plan that a place was claimed for; None if it has no readable plan file."""
    try:
        content = json.loads(store.read(PLAN_NAME))
        return str(content["plan"]), dict(content["settings"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def read_skipped(store: Store) -> list[dict[str, Any]]:
    """The clips that a dataset was built without: key, split, stage, reason and detail of each.

    Raises:
        DatasetError: there is no list of them, or not a readable one.
    """
    what = f"{store.path(ERRORS_NAME)}: no readable list of clips skipped"
    with unreadable(what, FileNotFoundError, ValueError, TypeError, KeyError):
        entries = [json.loads(line) for line in store.read(ERRORS_NAME).splitlines()]
        return [{**entry, "split": entry["split"], "reason": entry["reason"]} for entry in entries]


def _check(manifest: Manifest, where: str) -> None:
    """Raise unless what readers rely on is there and of its type: a manifest may have been edited."""
    for entry in (entry for entries in manifest.splits.values() for entry in entries):
        if not re.fullmatch(r"[\w-]+\.tar", entry.name):
            raise DatasetError(f"{where}: {entry.name!r} is not the name of a shard")
        if not all(isinstance(value, int) for value in (entry.bytes, entry.clips, entry.frames)):
            raise DatasetError(f"{where}: the counts of {entry.name} are not whole numbers")
    crop, totals = manifest.features["crop"], manifest.totals
    counted = [totals[name] for name in ("clips", "frames", "hours", "bytes", "skipped")]
    if not isinstance(crop["crop_radius"], int) or not all(isinstance(total, int | float) for total in counted):
        raise DatasetError(f"{where}: crop_radius or a total is not a number")
    for values in (manifest.recipe, manifest.versions, manifest.sha256):
        if not isinstance(values, dict):
            raise DatasetError(f"{where}: recipe, versions and sha256 were expected to map names to values")
    if "dataset" not in manifest.recipe or not isinstance(manifest.plan, str):
        raise DatasetError(f"{where}: the recipe does not name its dataset, or the plan is no hash")
