"""The plan of a build: which clips go into which shard. A pure function of the corpus's index and the settings.

Clips are shuffled by a hash of (seed, key), so that a clip's place does not depend on how a folder was listed, and
packed into shards of about equal bytes. The plan's hash names everything that decides what the shards hold; where the
corpus is mounted, and how many workers build, is not in it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from typing import Any

from model.mel import MelSettings
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip, CorpusIndex
from pipeline.lip_regions import is_tracked
from pipeline.tracking.face_networks import WHEEL, model_file
from runtime.constants import FPS, MEL_FRAMES_PER_VIDEO_FRAME, N_MELS, ROI_MARGIN, SAMPLE_RATE, SAMPLES_PER_FRAME
from shards import SkippedClip
from shards.format.sample import roi_side
from shards.format.sidecar import FORMAT_VERSION

_LOCATIONS = ("root", "coordinates", "split_lists", "audio", "split", "follow_links")
_OF_TRACKING = ("face", "scene_cuts", "square_eye_distances", "rotate")
_OVERHEAD_BYTES = 6 * 1024  # tar headers, padding and the small members of one clip


@dataclass(frozen=True)
class ShardPlan:
    """One shard to build: its name, its split and its clips in the order in which they are stored."""

    name: str
    split: str
    clips: tuple[CorpusClip, ...]


@dataclass(frozen=True)
class Plan:
    """A whole build.

    Attributes:
        hash: of everything that decides the content of the shards.
        settings: those of `BuildSettings` that do, by name.
        features: mel, crop and codec settings of the stored arrays.
        shards: in order.
        skipped: clips of the index that cannot be built.
    """

    hash: str
    settings: dict[str, Any]
    features: dict[str, Any]
    shards: tuple[ShardPlan, ...]
    skipped: tuple[SkippedClip, ...]

    @property
    def clips(self) -> int:
        return sum(len(shard.clips) for shard in self.shards)


def make_plan(index: CorpusIndex, settings: BuildSettings) -> Plan:
    """Spread the clips of an index over shards.

    Raises:
        ValueError: there is no clip to build, or lips are to be tracked and the face networks are not installed.
    """
    if not index.clips:
        reasons = ", ".join(sorted({entry.reason for entry in index.skipped})) or "the split lists name none"
        if "outside_corpus" in reasons:
            reasons += " (--follow-links follows links out of the corpus)"
        raise ValueError(f"{settings.root}: no clip to build: {reasons}")
    deciding = {name: value for name, value in asdict(settings).items() if name not in _LOCATIONS}
    # as in plans from before there were such settings
    later = {"protocol": None, "max_minutes": 20.0, "long_clips": "skip"}
    deciding = {name: value for name, value in deciding.items() if name not in later or value != later[name]}
    if any(is_tracked(clip, settings) for clip in index.clips):
        model_file("mesh")  # before any work is done
        deciding["tracking"] = WHEEL
    else:  # likewise
        for name in _OF_TRACKING:
            del deciding[name]
    deciding["audio"] = "wav folder" if settings.audio else "video"
    features = {
        "mel": asdict(MelSettings()),
        "crop": {
            "crop_radius": settings.crop_radius,
            "margin": ROI_MARGIN,
            "size": roi_side(settings.crop_radius),
            "fps": FPS,
        },
        "roi_codec": settings.roi_codec,
        "sample_rate": SAMPLE_RATE,
    }
    by_split: dict[str, list[CorpusClip]] = {}
    for clip in index.clips:
        by_split.setdefault(clip.split, []).append(clip)
    shards = tuple(shard for split in sorted(by_split) for shard in _pack(split, by_split[split], settings))
    skipped = tuple(sorted(index.skipped, key=lambda entry: (entry.split, entry.key, entry.source)))
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, deciding, features], sort_keys=True).encode())
    for shard in shards:  # one at a time: the coordinates of a large corpus are hundreds of megabytes
        digest.update(json.dumps([shard.name, [astuple(clip) for clip in shard.clips]]).encode())
    digest.update(json.dumps([astuple(entry) for entry in skipped]).encode())
    return Plan(digest.hexdigest(), deciding, features, shards, skipped)


def clip_bytes(frames: int, crop_radius: int) -> int:
    """Bytes a clip takes with a raw lip region: region, mel and sound of `frames` frames, and tar headers."""
    sound_bytes = 4 * N_MELS * MEL_FRAMES_PER_VIDEO_FRAME + 2 * SAMPLES_PER_FRAME
    return frames * (roi_side(crop_radius) ** 2 + sound_bytes) + _OVERHEAD_BYTES


def _pack(split: str, clips: list[CorpusClip], settings: BuildSettings) -> Iterable[ShardPlan]:
    """Shuffle the clips of one split and cut them into shards of about equal bytes."""
    shuffled = sorted(clips, key=lambda clip: hashlib.sha256(f"{settings.seed}:{clip.key}".encode()).digest())
    shuffled = shuffled[: settings.limit]
    sizes = [clip_bytes(clip.frames, settings.crop_radius) for clip in shuffled]
    total = sum(sizes)
    count = min(len(shuffled), max(1, math.ceil(total / (settings.shard_mb * 1e6))))
    packed: list[list[CorpusClip]] = [[] for _ in range(count)]
    before = 0
    for clip, size in zip(shuffled, sizes, strict=True):
        packed[min(count - 1, (before + size // 2) * count // total)].append(clip)
        before += size
    for number, shard in enumerate(filter(None, packed)):
        yield ShardPlan(f"{split}-{number:06d}.tar", split, tuple(shard))
