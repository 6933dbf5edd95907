"""What an index of a corpus is: a list of clips to build and of clips that cannot be, with the reason for each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from shards import LeftOut


@dataclass(frozen=True)
class Clip:
    """One clip to build. Paths are below the corpus's root, so that a plan does not depend on where it is mounted.

    Attributes:
        key: unique name in the dataset, `<set>/...`.
        split: the split that lists it.
        set: the corpus's own folder, and how its transcripts are written (pretrain ones carry word times).
        speaker: the speaker, or what the corpus has in its place.
        video: path of the video.
        transcript: path of the transcript, or None.
        audio: path of a ready-made wav below the audio folder, or None to use the video's sound.
        coordinates: lip centres as written in the coordinate file: x0/y0/x1/y1/...; or None with a fixed lip box.
        frames: video frames expected, for planning.
        bytes: size of the video file, so that a changed corpus is another plan.
    """

    key: str
    split: str
    set: str
    speaker: str
    video: str
    transcript: str | None
    audio: str | None
    coordinates: str | None
    frames: int
    bytes: int

    def left_out(self, stage: str, reason: str, detail: str) -> LeftOut:
        return LeftOut(self.key, self.split, self.video, stage, reason, detail)


@dataclass
class CorpusIndex:
    """What a corpus holds: clips to build, clips that cannot be built, and notices for the person who asked."""

    clips: list[Clip] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def make_key(set_name: str, stem: str) -> str:
    """A key from a set and a path without its extension: dots, white space and control characters become `_`.

    WebDataset ends a key at the first dot of a file name; white space breaks lists of keys.
    """
    return re.sub(r"[\s.\x00-\x1f\x7f\\]", "_", f"{set_name}/{stem}")


def separate_keys(clips: Iterable[Clip]) -> list[Clip]:
    """Give clips whose names only differ in what a key cannot hold (`a.b.mp4`, `a b.mp4`, `a_b.avi`) keys of their own.

    The first by path keeps the plain key, the others end in a short hash of their path: nothing is lost, and a key
    does not depend on the order in which a folder was listed.
    """
    taken: set[str] = set()
    separated = []
    for clip in sorted(clips, key=lambda clip: (clip.key, clip.video)):
        if clip.key in taken:
            digest = hashlib.sha256(clip.video.encode()).hexdigest()[:8]
            clip = replace(clip, key=f"{clip.key}-{digest}")
        taken.add(clip.key)
        separated.append(clip)
    return separated


def count_coordinates(coordinates: str) -> int:
    """Frames that a coordinate line has pairs for: half its numbers."""
    return (coordinates.count("/") + 1) // 2 if coordinates.strip() else 0
