"""Index any folder of videos: `<speaker>/<clip>.mp4` or flat, any container, with optional transcripts beside.

Lip centers come from one coordinate file (`coordinates.txt` in the root unless `--coordinates` names another), or
from a fixed lip box; where there is neither, lips are tracked. Without split lists (`--split NAME=FILE`) every clip
goes to the split `all`.
"""

from __future__ import annotations

import posixpath
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import av

from pipeline.config import BuildSettings
from pipeline.corpora.clips import CorpusClip, CorpusFiles, CorpusIndex, make_key, separate_keys
from pipeline.corpora.coordinate_lines import lines_by_video
from pipeline.corpora.listing import Listing, list_files
from pipeline.corpora.splits import assign_splits, named_lists
from pipeline.corpora.written_names import WrittenNames
from pipeline.media.coordinates import VIDEO_EXTENSIONS, read_coordinate_file
from pipeline.media.errors import FAULTS
from pipeline.media.source_store import SourceStore
from pipeline.media.streams import open_video
from pipeline.media.text_files import clean_path
from runtime.constants import FPS
from runtime.limits import MAX_DECODING_BYTES, MAX_VIDEO_SECONDS
from runtime.memory_limit import memory_limited
from shards import SkippedClip

SET = "main"
_GUESSED_FRAMES = 75


def index_folder(settings: BuildSettings) -> CorpusIndex:
    """Index a folder of videos.

    Raises:
        ValueError: no videos, no coordinates where they are named, a list that names nothing found, or a clip in two
            splits. The message names the file and what to do.
        StorageError: the disk or network failed.
    """
    root = settings.source(settings.root)
    files = list_files(root)
    videos = [path for path in files if path.rpartition(".")[2].lower() in VIDEO_EXTENSIONS]
    if not videos:
        raise ValueError(f"{settings.root}: no videos here (known: {', '.join(VIDEO_EXTENSIONS)})")
    index = CorpusIndex(notices=files.notices(settings.root))
    wavs = list_files(settings.source(settings.audio)) if settings.audio else None
    by_stem = {video.rpartition(".")[0]: video for video in reversed(videos)}
    names = WrittenNames(by_stem | {video: video for video in videos}, settings.root)
    corpus = CorpusFiles(files, wavs, _read_coordinates(settings, names, index))
    split_of = _assign_splits(settings, names, index, files) if settings.split else dict.fromkeys(videos, "all")
    described = [corpus.clip(video, split, SET) for video, split in split_of.items()]
    index.skipped += [clip for clip in described if isinstance(clip, SkippedClip)]
    index.clips = [clip for clip in described if isinstance(clip, CorpusClip)]
    index.skip_refused(files, wavs)
    if not settings.split:
        index.skipped += [
            SkippedClip(make_key(SET, path), "all", path, "index", why.reason, why.detail)
            for path, why in files.refused.items()
            if why.is_folder
        ]
    if settings.lip_box is not None or corpus.coordinates is None:
        index.clips = _with_probed_frames(root, index.clips)
    index.clips = separate_keys(index.clips, settings)
    return index


def _read_coordinates(settings: BuildSettings, videos: WrittenNames, index: CorpusIndex) -> dict[str, str] | None:
    """Lines of the coordinate file by video path, or None where lips are tracked, or a fixed lip box is used."""
    if settings.lip_box is not None:
        return None
    folder, name = posixpath.split(settings.coordinates) if settings.coordinates else (settings.root, "coordinates.txt")
    store = settings.source(folder or ".")
    try:
        lines, notices = read_coordinate_file(store, name)
    except FileNotFoundError as error:
        if not settings.coordinates:
            return None
        raise ValueError(f"{store.path(name)}: no coordinate file (without --coordinates lips are tracked)") from error
    coordinates, repeated = lines_by_video(lines, videos, store.path(name))
    index.notices += notices + repeated
    return coordinates


def _assign_splits(settings: BuildSettings, videos: WrittenNames, index: CorpusIndex, files: Listing) -> dict[str, str]:
    """video -> its split, by the lists of `--split`."""
    lists = named_lists(settings.split, settings.source(settings.split_lists or settings.root))

    def find(line: str, split: str) -> str | None:
        return videos.find(line)

    def missing(line: str, split: str) -> tuple[str, str]:
        return make_key(SET, clean_path(line)), line

    return assign_splits(lists, videos, index, files, find, missing)


def _with_probed_frames(root: SourceStore, clips: list[CorpusClip]) -> list[CorpusClip]:
    """Ask the containers how long the clips are, to plan shards of equal size: no coordinates say it."""
    with memory_limited(MAX_DECODING_BYTES), ThreadPoolExecutor(16) as pool:
        frames = pool.map(lambda clip: _probe_frames(root, clip.video), clips)
        return [replace(clip, frames=count) for clip, count in zip(clips, frames, strict=True)]


def _probe_frames(root: SourceStore, video: str) -> int:
    """Frames at 25 a second by the header; a guess where it does not say (the build then says what is wrong)."""
    try:
        with root.open(video) as file, open_video(file) as container:
            seconds = (container.duration or 0) / av.time_base
    except (av.FFmpegError, OSError, *FAULTS):
        return _GUESSED_FRAMES
    return round(seconds * FPS) if 0 < seconds <= MAX_VIDEO_SECONDS else _GUESSED_FRAMES
