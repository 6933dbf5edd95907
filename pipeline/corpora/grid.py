"""Index GRID as its owners ship it (Cooke, Barker, Cunningham, Shao 2006): 34 speakers, a thousand sentences each.

    s1/bbaf2n.mpg                    360x288; or s1/video/bbaf2n.mpg
    s1/video/mpg_6000/bbaf2n.mpg     720x576, on the older server: used where there is no smaller one of a clip
    alignments/s1/bbaf2n.align       or align/s1/, s1/align/, or beside the video

Folders may have other names and depths, and videos other containers: a clip is known by its speaker (the last folder of
its path that begins with `s1` to `s34`) and its name. Lips are tracked, unless `coordinates` or `lip_box` say where
they are.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping

from pipeline.config import BuildSettings
from pipeline.corpora.clips import CorpusClip, CorpusIndex, count_coordinates, make_key, separate_keys
from pipeline.corpora.coordinate_lines import lines_by_video
from pipeline.corpora.grid_protocols import GridName, assign_protocol
from pipeline.corpora.listing import Listing, list_files
from pipeline.corpora.splits import assign_splits, named_lists
from pipeline.corpora.written_names import WrittenNames
from pipeline.media.coordinates import VIDEO_EXTENSIONS, read_coordinate_file
from pipeline.media.text_files import clean_path
from runtime.constants import FPS
from shards.format.store import absolute_url

SET = "main"
SENTENCE_FRAMES = 3 * FPS
"""Every recording is three seconds long; a few end a frame early."""

_SPEAKER = re.compile(r"(?:^|[^0-9a-z])s(?:peaker)?[ _-]?0*([1-9]\d?)(?![0-9a-z])", re.IGNORECASE)
_LARGE = "mpg_6000"


def index_grid(settings: BuildSettings) -> CorpusIndex:
    """Index GRID, or a part of it.

    Raises:
        ValueError: no videos, both a protocol and split lists, none of a protocol's speakers, a list that names nothing
            found, or coordinates of none of the videos. The message names the file and what to do.
        StorageError: the disk or network failed.
    """
    if settings.split and settings.protocol is not None:
        raise ValueError(f"protocol: {settings.protocol}, and the split list {settings.split[0]}: give one of the two")
    files = list_files(settings.source(settings.root))
    index = CorpusIndex(notices=files.notices(settings.root))
    kinds = tuple(f".{extension}" for extension in VIDEO_EXTENSIONS)
    found = _by_grid_name(settings.root, (path for path in files if path.lower().endswith(kinds)))
    if not found:
        raise ValueError(f"{settings.root}: no videos here (known: {', '.join(VIDEO_EXTENSIONS)})")
    videos = {name: _one_of(paths) for name, paths in found.items()}
    _notice_more_than_once(found, settings, index)
    names = WrittenNames(_names_of(videos), settings.root)
    coordinates = _read_coordinates(settings, names, index)
    split_of = (
        _assign_lists(settings, videos, names, index, files)
        if settings.split
        else assign_protocol(settings.protocol, videos, index, settings.root)
    )
    alignments = _by_grid_name(settings.root, (path for path in files if path.lower().endswith(".align")))
    if not alignments:
        index.notices.append(f"{settings.root}: no .align files: words are read from file names, without their times")
    wavs = list_files(settings.source(settings.audio)) if settings.audio else Listing()
    sounds = _by_grid_name(settings.audio or "", (path for path in wavs if path.lower().endswith(".wav")))
    clips: list[CorpusClip] = []
    for name, split in split_of.items():
        video = videos[name]
        transcript, wav = (min(named.get(name, ()), default=None) for named in (alignments, sounds))
        line = coordinates.get(video) if coordinates is not None else None
        clip = CorpusClip(
            key=make_key(SET, "/".join(name)),
            split=split,
            set=SET,
            speaker=name[0],
            video=video,
            transcript=transcript,
            audio=wav,
            coordinates=line,
            frames=count_coordinates(line or "") or SENTENCE_FRAMES,
            sizes=(files[video], files.get(transcript or "", 0), wavs.get(wav or "", 0)),
        )
        if coordinates is not None and line is None:
            index.skipped.append(clip.skipped("index", "coordinates_missing", "the coordinate file has no line for it"))
        elif settings.audio and wav is None:
            detail = f"no wav of {'/'.join(name)} in the folder of wav files"
            index.skipped.append(clip.skipped("index", "sound_missing", detail))
        else:
            clips.append(clip)
    index.clips = separate_keys(clips, settings)
    index.skip_refused(files, wavs)
    return index


def _by_grid_name(root: str, paths: Iterable[str]) -> dict[GridName, list[str]]:
    """Files by speaker and name. The root itself may be a speaker's folder."""
    above = posixpath.basename(absolute_url(root).rstrip("/"))
    found: dict[GridName, list[str]] = {}
    for path in sorted(paths):
        folder, file = posixpath.split(path)
        parts = [match for part in (above, *folder.split("/")) if (match := _SPEAKER.search(part))]
        speaker = f"s{parts[-1][1]}" if parts else "unknown"
        found.setdefault((speaker, file.rpartition(".")[0].lower()), []).append(path)
    return found


def _one_of(paths: list[str]) -> str:
    """The video to use of those of one clip: 360x288, which the literature uses, rather than 720x576."""
    return min(paths, key=lambda path: (_LARGE in path.split("/"), path))


def _notice_more_than_once(found: Mapping[GridName, list[str]], settings: BuildSettings, index: CorpusIndex) -> None:
    several = [paths for paths in found.values() if len(paths) > 1]
    if several:
        used = _one_of(several[0])
        other = next(path for path in several[0] if path != used)
        index.notices.append(
            f"{settings.root}: {len(several)} clips are there more than once; each is built once: {used}, not {other}"
        )


def _names_of(videos: Mapping[GridName, str]) -> dict[str, str]:
    """What people call the videos: by path, with and without extension, and by speaker and name."""
    names: dict[str, str] = {}
    for (speaker, name), video in videos.items():
        for written in (video, video.rpartition(".")[0], f"{speaker}/{name}"):
            names.setdefault(written, video)
    return names


def _read_coordinates(settings: BuildSettings, videos: WrittenNames, index: CorpusIndex) -> dict[str, str] | None:
    """Lines of the coordinate file by video path; None where lips are tracked, or one lip box is used."""
    if settings.coordinates is None or settings.lip_box is not None:
        return None
    folder, name = posixpath.split(settings.coordinates)
    store = settings.source(folder or ".")
    try:
        lines, notices = read_coordinate_file(store, name)
    except FileNotFoundError as error:
        raise ValueError(f"{store.path(name)}: no coordinate file (without --coordinates lips are tracked)") from error
    coordinates, repeated = lines_by_video(lines, videos, store.path(name))
    index.notices += notices + repeated
    return coordinates


def _assign_lists(
    settings: BuildSettings, videos: Mapping[GridName, str], names: WrittenNames, index: CorpusIndex, files: Listing
) -> dict[GridName, str]:
    """The split of each clip that `--split` lists name: by path, or by speaker and name in any form (`s1_bbaf2n`)."""
    lists = named_lists(settings.split, settings.source(settings.split_lists or settings.root))
    speakers = {speaker for speaker, _ in videos}

    def find(line: str, split: str) -> str | None:
        video = names.find(line)
        if video is not None:
            return video
        words = re.split(r"[^0-9a-z]+", line.lower())
        said = {f"s{word[1:].lstrip('0')}" for word in words if re.fullmatch(r"s\d+", word)} & speakers
        meant = {(speaker, word) for speaker in said or _only(speakers) for word in words} & videos.keys()
        return videos[meant.pop()] if len(meant) == 1 else None

    def missing(line: str, split: str) -> tuple[str, str]:
        return make_key(SET, clean_path(line)), line

    name_of = {video: name for name, video in videos.items()}
    assigned = assign_splits(lists, names, index, files, find, missing)
    return {name_of[video]: split for video, split in assigned.items()}


def _only(speakers: set[str]) -> set[str]:
    """The speaker of names without one: there is only one here."""
    return speakers if len(speakers) == 1 else set()
