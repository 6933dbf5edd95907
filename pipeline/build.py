"""Build a dataset: index the corpus, plan, one task a shard, merge."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipeline.build_lock import LOCK_NAME, BuildLock
from pipeline.config import BuildSettings
from pipeline.corpora import index_corpus
from pipeline.merge import merge
from pipeline.plan import Plan, make_plan
from pipeline.shard_task import ShardTask, build_shard
from runtime.atomic import PART_SUFFIX
from runtime.constants import FPS
from runtime.progress import JobProgress
from runtime.ray_jobs import TASK_TIMEOUT, TaskTimeoutError, WorkerKilledError, job_runner
from runtime.renamed import refuse_renamed
from shards import DatasetError, Manifest, SkippedClip, StorageError, Store, read_manifest
from shards.format.manifest import ERRORS_NAME, PLAN_NAME, read_plan
from shards.format.store import absolute_url


class BuildError(RuntimeError):
    """Some shards could not be built; the others are valid and will not be built again."""


@dataclass(frozen=True)
class Built:
    """A finished dataset: manifest, clips skipped, speed in video seconds a second, shards that were built before."""

    manifest: Manifest
    skipped: list[SkippedClip]
    speed: float
    reused: int


def plan_build(settings: BuildSettings, say: Callable[[str], None]) -> Plan:
    """Index the corpus and plan its shards; `say` gets what the index noticed.

    Raises:
        ValueError: the corpus is not laid out as the settings say, or there is nothing to build.
        StorageError: the disk or network failed.
    """
    index = index_corpus(settings)
    for notice in index.notices:
        say(f"notice: {notice}")
    return make_plan(index, settings)


def run_build(
    plan: Plan,
    settings: BuildSettings,
    out: str,
    address: str | None = None,
    workers: int | None = None,
    task_timeout: float = TASK_TIMEOUT,
) -> Built:
    """Build what is missing of a plan's shards, then merge.

    Args:
        plan: from `plan_build`.
        settings: what it was made from.
        out: local folder or fsspec URL of the dataset.
        address: of a Ray cluster; None: this machine.
        workers: shards in flight at once; None: one a processor; 0: in this process, without Ray.
        task_timeout: seconds that a shard may take with Ray, before it is tried again.

    Raises:
        ValueError: `out` holds something else, or another build writes there.
        BuildError: some shards could not be built.
        StorageError: `out` could not be read or written.
    """
    if out.startswith("memory:") and workers != 0:
        raise ValueError(f"{out}: each worker has a memory of its own: use --workers 0 with it")
    store = Store(out)
    # the longest first, so that no worker is left alone with one at the end
    shards = sorted(plan.shards, key=lambda shard: sum(clip.frames for clip in shard.clips), reverse=True)
    tasks = [ShardTask(shard, settings.absolute(), plan.hash, absolute_url(out)) for shard in shards]
    failed: dict[str, Exception] = {}
    reused = 0
    with BuildLock(store) as lock:
        claim_out(plan, store)
        with job_runner(address, workers, task_timeout) as runner, JobProgress("build", plan.clips) as progress:

            def update() -> None:
                progress.update()
                if lock.lost:
                    raise BuildError(
                        f"{out}: another build has taken its {LOCK_NAME}, or somebody has deleted that: stopped. "
                        "Finished shards stay: run the same command again once no other build writes there."
                    )

            for outcome in runner.map(build_shard, tasks, update, retry_on=(StorageError,)):
                if outcome.result is not None:
                    progress.add(*outcome.result)
                    reused += outcome.result.reused
                elif outcome.error is not None:
                    failed[outcome.item.shard.name] = _with_longest_clip(outcome.error, outcome.item)
                update()
        if failed:
            raise BuildError(_describe(failed, len(tasks), out))
        manifest, skipped = merge(plan, store)
    if not manifest.totals["clips"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in count_reasons(skipped).most_common())
        raise BuildError(f"not one clip could be built: {reasons} ({store.path(ERRORS_NAME)})")
    return Built(manifest, skipped, progress.speed, reused)


def claim_out(plan: Plan, store: Store) -> None:
    """Write the plan's hash and settings into an empty place; accept one that holds this very plan's; refuse others.

    Raises:
        ValueError: the place holds another plan's dataset, saying which settings differ, or other files.
    """
    names = [name for name in store.names() if not (name.startswith(".") and name.endswith(PART_SUFFIX))]
    names = [name for name in names if name != LOCK_NAME]
    found = written = read_plan(store)
    if written is None:
        with suppress(DatasetError):  # a finished dataset whose plan file is lost
            manifest = read_manifest(store)
            found = manifest.plan, manifest.recipe
    begun = set(names) - {PLAN_NAME}
    if begun and found is None:
        raise ValueError(f"{store.url}: is not empty ({names[0]} ...) and holds no dataset: choose an empty --out")
    if begun and found is not None and found[0] != plan.hash:
        try:
            refuse_renamed("data", found[1])
        except ValueError as error:
            raise ValueError(
                f"{store.url}: holds a dataset of an older version ({error}): choose an empty --out, or delete that "
                "folder"
            ) from error
        raise ValueError(
            f"{store.url}: holds a dataset of another plan ({_differences(found[1], plan)}): "
            "choose an empty --out, delete that folder, or use the settings it was built with"
        )
    if written is None or written[0] != plan.hash:
        content = {"plan": plan.hash, "settings": plan.settings}
        store.write(PLAN_NAME, (json.dumps(content, indent=1) + "\n").encode())


def _differences(settings: dict[str, Any], plan: Plan) -> str:
    """The settings in which another plan differs, or, with the same settings, that its corpus does."""
    changed = [
        f"{name}: {settings.get(name)!r} in it, {plan.settings.get(name)!r} now"
        for name in sorted({*settings, *plan.settings})
        if settings.get(name) != plan.settings.get(name)
    ]
    if changed:
        return "; ".join(changed)
    return "the same settings, but the corpus has changed since: other files, sizes or coordinates"


def _describe(failed: dict[str, Exception], total: int, out: str) -> str:
    causes: dict[str, list[str]] = {}
    for shard, error in sorted(failed.items()):
        notes = " ".join(getattr(error, "__notes__", []))
        kind = (
            ""
            if isinstance(error, StorageError | WorkerKilledError | TaskTimeoutError)
            else f"{type(error).__name__}: "
        )
        causes.setdefault(f"{kind}{error} {notes}".strip(), []).append(shard)
    lines = [f"  {', '.join(shards)}: {cause}" for cause, shards in causes.items()]
    return (
        f"{len(failed)} of {total} shards could not be built:\n" + "\n".join(lines) + "\n"
        f"The other {total - len(failed)} are in {out}. "
        "Mend the cause and run the same command: only what is missing is built."
    )


def _with_longest_clip(error: Exception, task: ShardTask) -> Exception:
    """Name the clip that takes the most memory where that has run out."""
    if isinstance(error, WorkerKilledError):
        clip = max(task.shard.clips, key=lambda clip: clip.frames)
        error.add_note(
            f"while building {len(task.shard.clips)} clips, the longest {clip.key}, {clip.frames / FPS:.0f} s: "
            "where memory does not suffice for it, cut it into parts, or build on a larger machine"
        )
    return error


def count_reasons(skipped: list[SkippedClip]) -> Counter[str]:
    """How many clips were skipped for which reason, most frequent first."""
    return Counter(f"{entry.stage}: {entry.reason}" for entry in skipped)
