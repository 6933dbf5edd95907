"""Build one shard: the unit of work, of retrying and of resuming. Knows nothing of Ray.

Idempotent: a shard whose sidecar is there and whose tar has the sidecar's checksum is left as it is. The tar is
written first and the sidecar after it, each whole or not at all, so a sidecar means a finished shard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pipeline.clip import Corpus, build_samples
from pipeline.config import BuildSettings
from pipeline.lip_regions import is_tracked
from pipeline.media.errors import ClipError
from pipeline.plan import ShardPlan
from runtime.constants import FPS
from runtime.malloc import keep_freed_memory
from runtime.versions import versions_of
from shards import DatasetError, ShardWriter, Sidecar, SkippedClip, Store, read_sidecar
from shards.format.sidecar import encode_sidecar, sidecar_name

_LIBRARIES = ("av", "numpy", "soxr", "torch")
_TRACKING_LIBRARIES = ("ai-edge-litert", "mediapipe", "pillow")
"""What a shard's bytes depend on besides the plan, and where lips are tracked."""


@dataclass(frozen=True)
class ShardTask:
    """What a worker is given: the shard, the settings, the plan it belongs to and where to write."""

    shard: ShardPlan
    settings: BuildSettings
    plan_hash: str
    out: str


class ShardResult(NamedTuple):
    """The small statistics a worker returns: clips and video seconds, clips skipped, whether it was built before."""

    clips: int
    seconds: float
    skipped: int
    reused: bool


def build_shard(task: ShardTask) -> ShardResult:
    """Build a shard unless it is finished.

    Raises:
        StorageError: the disk or network failed; nothing of the shard is under its final name.
    """
    keep_freed_memory()
    out = Store(task.out)
    finished = _finished_sidecar(task, out)
    if finished is None:
        out.remove(sidecar_name(task.shard.name))  # never beside a tar that it does not describe
    sidecar = finished or _write(task, out)
    return ShardResult(len(sidecar.rows), sidecar.frames / FPS, len(sidecar.skipped), reused=finished is not None)


def _finished_sidecar(task: ShardTask, out: Store) -> Sidecar | None:
    """The sidecar of a shard that is finished and whole, or None: it is missing, cut short or damaged."""
    tar = task.shard.name
    try:
        sidecar = read_sidecar(out, tar)
        whole = sidecar.plan == task.plan_hash and out.size(tar) == sidecar.bytes and out.sha256(tar) == sidecar.sha256
    except (FileNotFoundError, DatasetError):
        return None
    return sidecar if whole else None


def _write(task: ShardTask, out: Store) -> Sidecar:
    corpus = Corpus.of(task.settings)
    tracked = any(is_tracked(clip, task.settings) for clip in task.shard.clips)
    skipped: list[SkippedClip] = []
    with ShardWriter.create(out, task.shard.name, task.settings.roi_codec) as writer:
        for clip in task.shard.clips:
            try:
                for built in build_samples(clip, task.settings, corpus):
                    if isinstance(built, SkippedClip):
                        skipped.append(built)
                    else:
                        writer.write(built)
            except ClipError as fault:
                skipped.append(clip.skipped(fault.stage, fault.reason, fault.detail))
            except Exception as error:
                error.add_note(f"while building {clip.key} from {clip.video}")
                raise
    sidecar = Sidecar(
        plan=task.plan_hash,
        shard=task.shard.name,
        split=task.shard.split,
        bytes=writer.bytes,
        sha256=writer.sha256,
        rows=writer.rows,
        skipped=skipped,
        versions=versions_of(_LIBRARIES + (_TRACKING_LIBRARIES if tracked else ())),
    )
    out.write(sidecar_name(task.shard.name), encode_sidecar(sidecar))
    return sidecar
