"""Verify a dataset: every checksum, count, shape, type and index row, and every mel from the samples beside it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.clip import stored_mel
from runtime.constants import FPS, SAMPLE_RATE
from runtime.progress import JobProgress
from runtime.ray_jobs import job_runner
from shards import DatasetError, Manifest, StorageError, Store, decode_sample, open_dataset, read_sidecar
from shards.format.index import INDEX_NAME, MEMBERS, member_extension
from shards.format.manifest import ERRORS_NAME, MANIFEST_NAME, PLAN_NAME, ShardEntry, hours_of, read_plan
from shards.format.store import absolute_url
from shards.loading.dataset import Member, read_tar

_MEL_TOLERANCE = 1e-4
"""Another machine's FFT rounds otherwise; the reference arrays allow as much."""


@dataclass(frozen=True)
class _ShardCheck:
    url: str
    split: str
    entry: ShardEntry
    crop_radius: int
    plan: str
    rows: list[dict[str, Any]]


def verify(url: str, address: str | None = None, workers: int | None = None) -> tuple[Manifest, list[str]]:
    """Recheck everything that the dataset at a path or URL says of itself, with Ray as `run_build`.

    Returns:
        The manifest, and one line for each thing that is wrong, naming the file or key; none where all is well.

    Raises:
        DatasetError: there is no readable manifest or index: there is nothing to check against.
    """
    dataset = open_dataset(url)
    manifest, rows = dataset.manifest, dataset.index.to_pylist()
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        rows_of.setdefault(row["shard"], []).append(row)
    radius = manifest.features["crop"]["crop_radius"]
    checks = [
        _ShardCheck(absolute_url(url), split, entry, radius, manifest.plan, rows_of.pop(entry.name, []))
        for split, entries in manifest.splits.items()
        for entry in entries
    ]
    problems = [f"{INDEX_NAME}: has rows of {shard}, which the manifest does not list" for shard in sorted(rows_of)]
    problems += _check_files(manifest, dataset.store)
    problems += _check_totals(manifest, rows, dataset.store)
    with job_runner(address, workers) as runner, JobProgress("verify", len(rows)) as progress:
        for outcome in runner.map(check_shard, checks, progress.update, retry_on=(StorageError,)):
            entry = outcome.item.entry
            problems += outcome.result if outcome.result is not None else [f"{entry.name}: {outcome.error}"]
            progress.add(entry.clips, entry.frames / FPS, 0)
            progress.update()
    return manifest, sorted(problems)


def check_shard(check: _ShardCheck) -> list[str]:
    """What is wrong with one shard, a line each."""
    store, entry = Store(check.url), check.entry
    try:
        size, digest = store.size(entry.name), store.sha256(entry.name)
    except FileNotFoundError:
        return [f"{entry.name}: is missing"]
    except StorageError as error:
        return [f"{entry.name}: cannot be read: {error}"]
    problems = []
    if size != entry.bytes:
        problems.append(f"{entry.name}: is {size} bytes, the manifest says {entry.bytes}: cut short or replaced")
    elif digest != entry.sha256:
        problems.append(f"{entry.name}: sha256 is not the manifest's: its bytes have changed")
    problems += _check_sidecar(store, check)
    return problems + _check_clips(store, check)


def _check_clips(store: Store, check: _ShardCheck) -> list[str]:
    shard, problems = check.entry.name, []
    rows = {row["key"]: row for row in check.rows}
    seen: list[str] = []
    try:
        for key, members in read_tar(store, shard):
            seen.append(key)
            if key not in rows:
                problems.append(f"{shard}: {key} is in the tar but not in the index")
                continue
            try:
                problems += [f"{shard}: {key}: {what}" for what in _check_clip(check, rows[key], members)]
            except DatasetError as error:
                problems.append(f"{shard}: {error}")
    except (DatasetError, StorageError) as error:
        problems.append(str(error))
    problems += [f"{shard}: {key} is in the index but not in the tar" for key in rows if key not in seen]
    if len(check.rows) != check.entry.clips:
        problems.append(f"{shard}: {len(check.rows)} index rows, the manifest says {check.entry.clips} clips")
    return problems


def _check_clip(check: _ShardCheck, row: dict[str, Any], members: dict[str, Member]) -> list[str]:
    """What of a clip is not as its index row, the manifest and its own sound say (DatasetError: not a sample)."""
    sample = decode_sample(row["key"], {name: member.content for name, member in members.items()})
    problems = []
    expected = {
        "split": check.split,
        "shard": check.entry.name,
        "set": sample.meta.set,
        "frames": sample.meta.frames,
        "speaker": sample.meta.speaker,
        "source": sample.meta.source,
        "text": sample.text,
    }
    problems += [
        f"index says {name} {row[name]!r}, found {value!r}" for name, value in expected.items() if row[name] != value
    ]
    if [(entry["word"], entry["start"], entry["end"]) for entry in row["words"]] != sample.meta.words:
        problems.append("index and sample have other words")
    if sample.meta.crop_radius != check.crop_radius:
        problems.append(f"crop_radius is {sample.meta.crop_radius}, the manifest says {check.crop_radius}")
    for member in MEMBERS:
        name = member_extension(member, str(row["roi_member"]))
        found = members.get(name)
        if found is None or (row[f"{member}_offset"], row[f"{member}_size"]) != (found.offset, len(found.content)):
            problems.append(f"the index's offset and size of {name} do not point to it")
    first, last = sample.meta.sound
    difference = float(np.abs(stored_mel(sample.wav) - sample.mel).max())
    if not 0 <= first < last <= len(sample.wav):
        problems.append(f"sound runs from sample {first} to {last} of {len(sample.wav)}")
    elif difference > _MEL_TOLERANCE:
        problems.append(f"mel is up to {difference:.2g} off the one of its samples ({SAMPLE_RATE} Hz)")
    return problems


def _check_sidecar(store: Store, check: _ShardCheck) -> list[str]:
    entry = check.entry
    try:
        sidecar = read_sidecar(store, entry.name)
    except FileNotFoundError:
        return [f"{entry.name}: its sidecar is missing"]
    except (DatasetError, StorageError) as error:
        return [str(error)]
    found = (sidecar.plan, sidecar.shard, sidecar.split, sidecar.bytes, sidecar.sha256, sidecar.frames, sidecar.rows)
    said = (check.plan, entry.name, check.split, entry.bytes, entry.sha256, entry.frames, check.rows)
    return [] if found == said else [f"{entry.name}: its sidecar is not what manifest and index say"]


def _check_files(manifest: Manifest, store: Store) -> list[str]:
    """What is wrong with the files besides shards and sidecars."""
    problems = []
    for name in (INDEX_NAME, ERRORS_NAME):
        try:
            if store.sha256(name) != manifest.sha256.get(name):
                problems.append(f"{name}: sha256 is not the manifest's")
        except FileNotFoundError:
            problems.append(f"{name}: is missing")
    plan = read_plan(store)
    if plan is None or plan[0] != manifest.plan:
        problems.append(f"{PLAN_NAME}: is missing, or not the manifest's plan")
    # whoever reads `*.tar` would find them
    strays = sorted({name for name in store.names() if name.endswith(".tar")} - set(manifest.shard_names()))
    return problems + [f"{name}: is not in the manifest" for name in strays]


def _check_totals(manifest: Manifest, rows: list[dict[str, Any]], store: Store) -> list[str]:
    entries = [entry for split in manifest.splits.values() for entry in split]
    frames = sum(row["frames"] for row in rows)
    counted: dict[str, float] = {
        "clips": len(rows),
        "frames": frames,
        "hours": hours_of(frames),
        "bytes": sum(entry.bytes for entry in entries),
    }
    with suppress(FileNotFoundError):  # which is named elsewhere
        counted["skipped"] = len(store.read(ERRORS_NAME).splitlines())
    problems = [
        f"{MANIFEST_NAME}: total {name} is {manifest.totals[name]}, counted {value}"
        for name, value in counted.items()
        if manifest.totals[name] != value
    ]
    keys = [row["key"] for row in rows]
    if len(set(keys)) != len(keys):
        problems.append(f"{INDEX_NAME}: {len(keys) - len(set(keys))} keys stand more than once")
    return problems
