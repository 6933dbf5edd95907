"""Merge the sidecars of all shards into errors.jsonl, index.parquet and, last, manifest.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from pipeline.plan import Plan
from runtime.atomic import PART_SUFFIX
from shards import DatasetError, Manifest, Sidecar, SkippedClip, Store, read_sidecar
from shards.format.index import INDEX_NAME, encode_index
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
    sidecars = [read_sidecar(out, shard.name) for shard in plan.shards]
    for sidecar in sidecars:
        if sidecar.plan != plan.hash:
            raise DatasetError(f"{out.path(sidecar.shard)}: is of another plan: does another build write here too?")
    skipped = sorted(
        (*plan.skipped, *(entry for sidecar in sidecars for entry in sidecar.skipped)),
        key=lambda entry: (entry.split, entry.key, entry.source),
    )
    errors = "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in skipped).encode()
    index = encode_index(row for sidecar in sidecars for row in sidecar.rows)
    manifest = _manifest(plan, sidecars, len(skipped), {INDEX_NAME: index, ERRORS_NAME: errors})
    out.write(ERRORS_NAME, errors)
    out.write(INDEX_NAME, index)
    out.write(MANIFEST_NAME, encode_manifest(manifest))
    finished = [MANIFEST_NAME, INDEX_NAME, ERRORS_NAME, PLAN_NAME]
    for shard in plan.shards:
        finished += [shard.name, sidecar_name(shard.name)]
    parts = tuple(f".{name}." for name in finished)
    for name in out.names():  # what killed attempts left behind of what is now finished
        if name.startswith(parts) and name.endswith(PART_SUFFIX):
            out.remove(name)
    return manifest, skipped


def _manifest(plan: Plan, sidecars: Sequence[Sidecar], skipped: int, files: dict[str, bytes]) -> Manifest:
    splits: dict[str, list[ShardEntry]] = {}
    for sidecar in sidecars:
        entry = ShardEntry(sidecar.shard, sidecar.bytes, sidecar.sha256, len(sidecar.rows), sidecar.frames)
        splits.setdefault(sidecar.split, []).append(entry)
    frames = sum(sidecar.frames for sidecar in sidecars)
    libraries = sorted({name for sidecar in sidecars for name in sidecar.versions})
    return Manifest(
        plan=plan.hash,
        recipe=plan.settings,
        features=plan.features,
        totals={
            "clips": sum(len(sidecar.rows) for sidecar in sidecars),
            "frames": frames,
            "hours": hours_of(frames),
            "bytes": sum(sidecar.bytes for sidecar in sidecars),
            "skipped": skipped,
        },
        splits=splits,
        versions={
            name: sorted({sidecar.versions[name] for sidecar in sidecars if name in sidecar.versions})
            for name in libraries
        },
        sha256={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )
