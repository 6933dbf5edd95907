"""Settings of `pipeline build`: everything that decides what is built, as one typed dataclass."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.media.coordinates import COORDINATE_TOLERANCE
from pipeline.media.source_store import SourceStore
from pipeline.tracking.lip_tracks import SQUARE_EYE_DISTANCES, TrackSettings
from shards.format.roi import RoiCodec
from shards.format.store import absolute_url

DatasetName = Literal["demo", "lrs2", "lrs3", "grid", "folder"]
ProtocolName = Literal["four", "unseen", "overlap"]
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DATASETS: tuple[DatasetName, ...] = get_args(DatasetName)


@dataclass(frozen=True)
class BuildSettings:
    """What to build, and from what.

    Attributes:
        dataset: how the corpus is laid out: demo (drawn faces, made on the spot), lrs2, lrs3, grid, folder
            (any videos).
        root: folder of the videos, a local path or an fsspec URL (LRS2-BBC, LRS3-TED, or any folder).
        coordinates: folder of the coordinate files; for `folder` and `grid`, the coordinate file. Default: LRS2_crop or
            LRS3_crop beside the root; for `folder`, coordinates.txt in the root if it is there. `folder` and `grid`
            without: lips are tracked.
        split_lists: folder of the split lists. Default: the folder that the root lies in; for `folder` and `grid`, the
            root.
        audio: folder of ready-made wav files, laid out as the videos are, used instead of the videos' own sound. Their
            first sample belongs to the first frame.
        split: further split lists as NAME=FILE; a FILE without a folder is looked for in `split_lists`.
        protocol: for `grid`: the splits of the literature. `four` speakers, sentences held out; `unseen`: no speaker in
            two splits; `overlap`: 255 sentences of every speaker held out. Default: every speaker, split as in `four`.
        crop_radius: h, half the side of the published lip crop in pixels (40 for LRS2, 50 for LRS3).
        lip_box: for `folder` and `grid`, instead of coordinates: one lip center for all frames, as X,Y in pixels.
        face: where lips are tracked, which is where there are neither coordinates nor a lip box: the number of the face
            to take where there are several, from 1, left to right; default: the one that talks.
        scene_cuts: where lips are tracked: `skip` a video with a cut in it, or `split` it into a clip a shot.
        square_eye_distances: where lips are tracked: side of the lip square in eye distances. It is resized to
            2 crop_radius pixels; the default fits networks trained on LRS2.
        rotate: where lips are tracked: turn the lip square with the head. Published crops are not turned.
        transcripts: `required` skips a clip without a transcript, `optional` keeps it with an empty one.
        roi_codec: how lip regions are stored: npy (raw), ffv1 (lossless video), h264 (near-lossless video).
        shard_mb: size at which a new shard begins, in megabytes of raw lip regions, mel and sound.
        seed: of the shuffle that spreads clips over shards.
        limit: at most this many clips of each split, for a trial.
        coordinate_tolerance: frames by which a clip's coordinates may be too many or too few; surplus ones are dropped,
            missing ones repeat the last.
        min_frames: shorter clips are skipped.
        max_minutes: longer clips are skipped, or split.
        long_clips: `skip`, or `split` them into parts of at most that length, which are clips of their own. Words go
            with their times; a transcript without times goes with none of the parts.
        follow_links: read files that links lead to outside of the corpus and of the folders named above. Whatever such
            a link of a stranger's corpus leads to would be in the dataset.
    """

    dataset: DatasetName = "demo"
    root: str = "data/demo/LRS2-BBC"
    coordinates: str | None = None
    split_lists: str | None = None
    audio: str | None = None
    split: list[str] = field(default_factory=list)
    protocol: ProtocolName | None = None
    crop_radius: int = 40
    lip_box: str | None = None
    face: int | None = None
    scene_cuts: Literal["skip", "split"] = "skip"
    square_eye_distances: float = SQUARE_EYE_DISTANCES
    rotate: bool = False
    transcripts: Literal["required", "optional"] = "required"
    roi_codec: RoiCodec = "npy"
    shard_mb: float = 256
    seed: int = 0
    limit: int | None = None
    coordinate_tolerance: int = COORDINATE_TOLERANCE
    min_frames: int = 5
    max_minutes: float = 20
    long_clips: Literal["skip", "split"] = "skip"
    follow_links: bool = False

    def __post_init__(self) -> None:
        for name, least in (("crop_radius", 1), ("coordinate_tolerance", 0), ("min_frames", 1), ("limit", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: {value} is too small, at least {least} was expected")
        object.__setattr__(self, "shard_mb", float(self.shard_mb))  # 5 and 5.0 are the same plan
        object.__setattr__(self, "max_minutes", float(self.max_minutes))
        if not self.max_minutes > 0:
            raise ValueError(f"max_minutes: {self.max_minutes} is not a length, minutes above 0 were expected")
        if not self.shard_mb > 0:
            raise ValueError(f"shard_mb: {self.shard_mb} is not a size, a number of megabytes above 0 was expected")
        if self.lip_box is not None:
            parse_lip_box(self.lip_box)
        self.track_settings()
        if self.protocol is not None and self.dataset != "grid":
            raise ValueError(f"protocol: {self.protocol} is one of GRID's, and dataset is {self.dataset}")
        for entry in self.split:
            parse_split(entry)

    def source(self, url: str) -> SourceStore:
        """A folder of the corpus. Its links may lead into the folders that the settings name, or, if so, anywhere."""
        if self.follow_links:
            return SourceStore(url, None)
        files = [parse_split(entry)[1] for entry in self.split]
        folders = [self.root, self.audio, self.split_lists, *(os.path.dirname(file) for file in files)]
        if self.coordinates is not None:
            a_file = self.dataset in ("folder", "grid")
            folders.append(os.path.dirname(self.coordinates) or "." if a_file else self.coordinates)
        local = (absolute_url(folder) for folder in folders if folder)
        return SourceStore(url, tuple(os.path.realpath(folder) for folder in local if "://" not in folder))

    def absolute(self) -> BuildSettings:
        """The same with absolute paths, for processes in other folders."""
        split = [f"{name}={absolute_url(file) if '/' in file else file}" for name, file in map(parse_split, self.split)]
        paths = {name: getattr(self, name) for name in ("audio", "coordinates", "split_lists")}
        given: dict[str, Any] = {name: absolute_url(path) for name, path in paths.items() if path}
        return replace(self, root=absolute_url(self.root), split=split, **given)

    def track_settings(self) -> TrackSettings:
        """How lips are tracked, where they are (ValueError: not so)."""
        return TrackSettings(self.face, self.scene_cuts, self.square_eye_distances)


def config_file(dataset: str) -> Path:
    """The YAML file whose section `data` is the default of `--dataset` (ValueError: no such dataset)."""
    if dataset not in DATASETS:
        raise ValueError(f"dataset {dataset!r} is not one of {', '.join(DATASETS)}")
    return CONFIGS / f"{dataset}.yaml"


def parse_lip_box(box: str) -> tuple[int, int]:
    """`84,110` -> (84, 110), a lip center in pixels (ValueError otherwise)."""
    match = re.fullmatch(r"\s*(-?[0-9]{1,6})\s*,\s*(-?[0-9]{1,6})\s*", box)
    if match is None:
        raise ValueError(f"lip_box: {box!r} was expected to be X,Y, the lip center in whole pixels, such as 80,110")
    return int(match[1]), int(match[2])


def parse_split(entry: str) -> tuple[str, str]:
    """`test_unseen=lists/unseen.txt` -> (name, file) (ValueError otherwise)."""
    name, equals, file = entry.partition("=")
    if not equals or not file or not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise ValueError(f"split: {entry!r} was expected to be NAME=FILE, NAME of letters, digits and underscores")
    return name, file
