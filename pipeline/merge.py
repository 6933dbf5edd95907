"""Merge the sidecars of all shards into errors.jsonl, index.parquet and, last, manifest.json.

Sidecars are read one after the other, and their rows are written before many more are read: of 10,000 hours they have
gigabytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from pipeline.plan import Plan
from runtime.atomic import PART_SUFFIX
from shards import DatasetError, Manifest, Sidecar, SkippedClip, Store, read_sidecar
from shards.format.index_bytes import INDEX_NAME
from shards.format.index_writer import IndexWriter
from shards.format.manifest import ERRORS_NAME, MANIFEST_NAME, PLAN_NAME, ShardEntry, encode_manifest, hours_of
from shards.format.sidecar import sidecar_name


def merge(plan: Plan, out: Store) -> tuple[Manifest, list[SkippedClip]]:
    """Finish a dataset all of whose shards are built.

    Its content depends only on the plan, the shards and the library versions: not on who built them, when, or in what
    order.

    Raises:
        FileNotFoundError, DatasetError: a sidecar is missing or unreadable: a shard is not built.
        StorageError: the disk or network failed.
    """
    merged, digests = _Merged(list(plan.skipped)), {}
    with out.create(INDEX_NAME) as file:
        with IndexWriter(file) as index:
            for shard in plan.shards:
                sidecar = read_sidecar(out, shard.name)
                if sidecar.plan != plan.hash:
                    raise DatasetError(
                        f"{out.path(shard.name)}: is of another plan: does another build write here too?"
                    )
                index.write(sidecar.rows)
                merged.add(sidecar)
        digests[INDEX_NAME] = index.sha256
        skipped = sorted(merged.skipped, key=lambda entry: (entry.split, entry.key, entry.source))
        errors = "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in skipped).encode()
        digests[ERRORS_NAME] = hashlib.sha256(errors).hexdigest()
        out.write(ERRORS_NAME, errors)
    manifest = merged.manifest(plan, digests)
    out.write(MANIFEST_NAME, encode_manifest(manifest))
    finished = [MANIFEST_NAME, INDEX_NAME, ERRORS_NAME, PLAN_NAME]
    for shard in plan.shards:
        finished += [shard.name, sidecar_name(shard.name)]
    parts = tuple(f".{name}." for name in finished)
    for name in out.names():  # what killed attempts left behind of what is now finished
        if name.startswith(parts) and name.endswith(PART_SUFFIX):
            out.remove(name)
    return manifest, skipped


@dataclass
class _Merged:
    """What sidecars say of their shards, without their rows."""

    skipped: list[SkippedClip]
    splits: dict[str, list[ShardEntry]] = field(default_factory=dict)
    versions: dict[str, set[str]] = field(default_factory=dict)

    def add(self, sidecar: Sidecar) -> None:
        entry = ShardEntry(sidecar.shard, sidecar.bytes, sidecar.sha256, len(sidecar.rows), sidecar.frames)
        self.splits.setdefault(sidecar.split, []).append(entry)
        self.skipped += sidecar.skipped
        for name, version in sidecar.versions.items():
            self.versions.setdefault(name, set()).add(version)

    def manifest(self, plan: Plan, digests: dict[str, str]) -> Manifest:
        entries = [entry for split in self.splits.values() for entry in split]
        frames = sum(entry.frames for entry in entries)
        return Manifest(
            plan=plan.hash,
            recipe=plan.settings,
            features=plan.features,
            totals={
                "clips": sum(entry.clips for entry in entries),
                "frames": frames,
                "hours": hours_of(frames),
                "bytes": sum(entry.bytes for entry in entries),
                "skipped": len(self.skipped),
            },
            splits=self.splits,
            versions={name: sorted(versions) for name, versions in sorted(self.versions.items())},
            sha256=digests,
        )
