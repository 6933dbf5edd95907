"""Verify a dataset: every checksum, count, shape, type and index row, and every mel from the samples beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.clip import stored_mel
from runtime.constants import FPS, SAMPLE_RATE
from runtime.progress import JobProgress
from runtime.ray_jobs import TASK_TIMEOUT, job_runner
from runtime.regular_file import IrregularFileError
from shards import (
    Dataset,
    DatasetError,
    Manifest,
    Sample,
    StorageError,
    Store,
    decode_sample,
    open_dataset,
    read_sidecar,
)
from shards.format.index import ENCODED, INDEX_SCHEMA, IndexFile
from shards.format.index_bytes import INDEX_NAME, fetch_index
from shards.format.index_checks import codes_of, index_problems, text_problems
from shards.format.manifest import (
    ERRORS_NAME,
    MANIFEST_NAME,
    PLAN_NAME,
    ShardEntry,
    hours_of,
    read_plan,
    read_skipped,
)
from shards.format.member_names import MEMBERS, member_extension
from shards.format.store import absolute_url
from shards.format.tar import Member
from shards.loading.dataset import read_tar

_MEL_TOLERANCE = 1e-4
"""Another machine's FFT rounds otherwise; the reference arrays allow as much."""

_LONG = ("source", "text", "words")
"""Columns of the index that take most of its memory."""

_SHARDS_AT_ONCE = 256

_UNREADABLE = (DatasetError, IrregularFileError, OSError)


@dataclass(frozen=True)
class _ShardCheck:
    """A shard, what the manifest says of it, and its rows of the index; None: there is no readable index."""

    url: str
    split: str
    entry: ShardEntry
    crop_radius: int
    plan: str
    rows: list[dict[str, Any]] | None


def verify(
    url: str,
    address: str | None = None,
    workers: int | None = None,
    task_timeout: float = TASK_TIMEOUT,
    index_only: bool = False,
) -> tuple[Manifest, list[str]]:
    """Recheck everything that the dataset at a path or URL says of itself, with Ray as `run_build`.

    Args:
        url: of the dataset.
        address, workers, task_timeout: as of `run_build`.
        index_only: look at manifest, index, plan and errors, and at no shard or sidecar.

    Returns:
        The manifest, and one line for each thing that is wrong, naming the file or key; none where all is well.

    Raises:
        DatasetError: there is no readable manifest: there is nothing to check against.
    """
    dataset = open_dataset(url)
    manifest, problems = dataset.manifest, list[str]()
    index, counted = None, None
    try:
        index = _open_index(manifest, dataset.store, problems)
        counted = _check_index(index, manifest, problems)
    except _UNREADABLE as error:
        index = None
        problems.append(str(error) if index_only else f"{error}; rows are taken from the sidecars")
    problems += _check_files(manifest, dataset.store)
    problems += _check_totals(manifest, counted, dataset.store)
    if not index_only:
        entries = [entry for entries in manifest.splits.values() for entry in entries]
        with (
            job_runner(address, workers, task_timeout) as runner,
            JobProgress("verify", sum(entry.clips for entry in entries)) as progress,
        ):
            for checks in _shard_checks(dataset, absolute_url(url), index):
                for outcome in runner.map(check_shard, checks, progress.update, retry_on=(StorageError,)):
                    entry = outcome.item.entry
                    problems += outcome.result if outcome.result is not None else [f"{entry.name}: {outcome.error}"]
                    progress.add(entry.clips, entry.frames / FPS, 0)
                    progress.update()
    return manifest, sorted(problems)


def _shard_checks(dataset: Dataset, url: str, index: IndexFile | None) -> Iterator[list[_ShardCheck]]:
    """Checks of all shards, some at a time: rows of all of them as objects are tens of gigabytes of a large dataset."""
    table = None if index is None else index.table()
    rows_of: dict[str, np.ndarray[Any, Any]] = {}
    if table is not None and len(table):
        names, shard_of = codes_of(table["shard"])
        order = np.argsort(shard_of, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(shard_of[order])) + 1)
        rows_of = {names[shard_of[rows[0]]]: rows for rows in parts}
    shards = [(split, entry) for split, entries in dataset.manifest.splits.items() for entry in entries]
    for first in range(0, len(shards), _SHARDS_AT_ONCE):
        checks = []
        for split, entry in shards[first : first + _SHARDS_AT_ONCE]:
            rows = None
            if table is not None:
                rows = table.take(pa.array(rows_of.get(entry.name, ()), pa.int64())).to_pylist()
            checks.append(_ShardCheck(url, split, entry, dataset.crop_radius, dataset.manifest.plan, rows))
        yield checks


def check_shard(check: _ShardCheck) -> list[str]:
    """What is wrong with one shard, a line each."""
    store, entry = Store(check.url), check.entry
    problems = []
    try:
        size, digest = store.size(entry.name), store.sha256(entry.name)
        if size != entry.bytes:
            problems.append(f"{entry.name}: is {size} bytes, the manifest says {entry.bytes}: cut short or replaced")
        elif digest != entry.sha256:
            problems.append(f"{entry.name}: sha256 is not the manifest's: its bytes have changed")
    except FileNotFoundError:
        return [f"{entry.name}: is missing"]
    except _UNREADABLE as error:
        return [f"{entry.name}: cannot be read: {error}"]
    rows = _check_sidecar(store, check, problems)
    return problems + _check_clips(store, check, rows)


def _check_clips(store: Store, check: _ShardCheck, listed: list[dict[str, Any]] | None) -> list[str]:
    """What is wrong with the clips of a tar, by the rows that list them; None: there are none to compare with."""
    shard, problems = check.entry.name, []
    rows = {row["key"]: row for row in listed or ()}
    seen: set[str] = set()
    try:
        for key, members in read_tar(store, check.entry, check.crop_radius):
            if key in seen:
                problems.append(f"{shard}: {key} is there twice")
            seen.add(key)
            if listed is not None and key not in rows:
                problems.append(f"{shard}: {key} is in the tar but not in the index")
                continue
            try:
                problems += [f"{shard}: {key}: {what}" for what in _check_clip(check, key, rows.get(key), members)]
            except DatasetError as error:
                problems.append(f"{shard}: {error}")
    except _UNREADABLE as error:
        problems.append(str(error))
    problems += [f"{shard}: {key} is in the index but not in the tar" for key in rows if key not in seen]
    count = len(seen) if listed is None else len(listed)
    if count != check.entry.clips:
        problems.append(f"{shard}: {count} clips, the manifest says {check.entry.clips}")
    return problems


def _check_clip(check: _ShardCheck, key: str, row: dict[str, Any] | None, members: dict[str, Member]) -> list[str]:
    """What of a clip is not as its index row, the manifest and its own sound say (DatasetError: not a sample)."""
    content = {name: member.content for name, member in members.items()}
    sample = decode_sample(key, content, crop_radius=check.crop_radius)
    problems = [] if row is None else _check_row(check, row, sample, members)
    if sample.meta.split != check.split:
        problems.append(f"is of split {sample.meta.split!r}, the manifest says {check.split!r}")
    difference = float(np.abs(stored_mel(sample.wav) - sample.mel).max()) if sample.wav.any() else np.nan
    if not difference <= _MEL_TOLERANCE:
        problems.append(f"mel is up to {difference:.2g} off the one of its samples ({SAMPLE_RATE} Hz)")
    return problems


def _check_row(check: _ShardCheck, row: dict[str, Any], sample: Sample, members: dict[str, Member]) -> list[str]:
    expected = {
        "split": check.split,
        "shard": check.entry.name,
        "set": sample.meta.set,
        "frames": sample.meta.frames,
        "speaker": sample.meta.speaker,
        "source": sample.meta.source,
        "text": sample.text,
    }
    problems = [
        f"index says {name} {row[name]!r}, found {value!r}" for name, value in expected.items() if row[name] != value
    ]
    if [(entry["word"], entry["start"], entry["end"]) for entry in row["words"]] != sample.meta.words:
        problems.append("index and sample have other words")
    for member in MEMBERS:
        name = member_extension(member, row["roi_member"])
        found = members.get(name)
        if found is None or (row[f"{member}_offset"], row[f"{member}_size"]) != (found.offset, len(found.content)):
            problems.append(f"the index's offset and size of {name} do not point to it")
    return problems


def _open_index(manifest: Manifest, store: Store, problems: list[str]) -> IndexFile:
    """The index; that it is not the manifest's is added to `problems`.

    Raises:
        DatasetError, OSError: it cannot be read.
    """
    try:
        fetched = fetch_index(store)
    except FileNotFoundError as error:
        raise DatasetError(f"{INDEX_NAME}: is missing") from error
    if fetched.sha256 != manifest.sha256.get(INDEX_NAME):
        problems.append(f"{INDEX_NAME}: sha256 is not the manifest's")
    return IndexFile(fetched, INDEX_NAME)


def _check_index(index: IndexFile, manifest: Manifest, problems: list[str]) -> tuple[int, int]:
    """Clips and frames of the index; what is wrong with its rows is added to `problems` (`DatasetError`: it cannot be
    read). Texts and words are read a row group at a time."""
    flat = index.columns([name for name in INDEX_SCHEMA.names if name not in _LONG], ENCODED)
    found = list(index_problems(flat, manifest))
    for group in index.groups(["key", *_LONG]):
        found += text_problems(group)
    problems += [f"{INDEX_NAME}: {problem}" for problem in found]
    return index.rows, int(flat["frames"].to_numpy().sum(dtype=np.int64))


def _check_sidecar(store: Store, check: _ShardCheck, problems: list[str]) -> list[dict[str, Any]] | None:
    """The rows of a shard's clips, of the index or, without one, of its sidecar; adds what is wrong with the latter."""
    entry, rows = check.entry, check.rows
    try:
        sidecar = read_sidecar(store, entry.name)
    except FileNotFoundError:
        problems.append(f"{entry.name}: its sidecar is missing")
        return rows
    except _UNREADABLE as error:
        problems.append(str(error))
        return rows
    rows = sidecar.rows if rows is None else rows
    found = (sidecar.plan, sidecar.shard, sidecar.split, sidecar.bytes, sidecar.sha256, sidecar.frames, sidecar.rows)
    if found != (check.plan, entry.name, check.split, entry.bytes, entry.sha256, entry.frames, rows):
        problems.append(f"{entry.name}: its sidecar is not what manifest and index say")
    return rows


def _check_files(manifest: Manifest, store: Store) -> list[str]:
    """What is wrong with the files besides shards, sidecars and index."""
    problems = []
    try:
        if store.sha256(ERRORS_NAME) != manifest.sha256.get(ERRORS_NAME):
            problems.append(f"{ERRORS_NAME}: sha256 is not the manifest's")
    except FileNotFoundError:
        problems.append(f"{ERRORS_NAME}: is missing")
    except _UNREADABLE as error:
        problems.append(f"{ERRORS_NAME}: cannot be read: {error}")
    try:
        plan = read_plan(store)
        if plan is None or plan[0] != manifest.plan:
            problems.append(f"{PLAN_NAME}: is missing, or not the manifest's plan")
    except _UNREADABLE as error:
        problems.append(f"{PLAN_NAME}: cannot be read: {error}")
    # whoever reads `*.tar` would find them
    strays = sorted({name for name in store.names() if name.endswith(".tar")} - set(manifest.shard_names()))
    return problems + [f"{name}: is not in the manifest" for name in strays]


def _check_totals(manifest: Manifest, counted_rows: tuple[int, int] | None, store: Store) -> list[str]:
    entries = [entry for split in manifest.splits.values() for entry in split]
    clips, frames = counted_rows or (sum(entry.clips for entry in entries), sum(entry.frames for entry in entries))
    counted: dict[str, float] = {
        "clips": clips,
        "frames": frames,
        "hours": hours_of(frames),
        "bytes": sum(entry.bytes for entry in entries),
    }
    problems = []
    try:
        counted["skipped"] = len(read_skipped(store))
    except _UNREADABLE as error:
        if not isinstance(error.__cause__, FileNotFoundError):  # which is named elsewhere
            problems.append(str(error))
    return problems + [
        f"{MANIFEST_NAME}: total {name} is {manifest.totals[name]}, counted {value}"
        for name, value in counted.items()
        if manifest.totals[name] != value
    ]
