"""Read split lists: those that `--split NAME=FILE` names, and which videos their lines mean."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping

from pipeline.config import parse_split
from pipeline.corpora.clips import CorpusIndex
from pipeline.corpora.listing import Listing, Refused
from pipeline.corpora.written_names import WrittenNames
from pipeline.media.source_store import SourceStore
from pipeline.media.text_files import find_text_file, read_lines
from runtime.limits import MAX_MISSING, MAX_PATH_LENGTH, check_limit
from shards import SkippedClip

_NOTICES = 20
_MISSING = Refused("video_missing", "listed in the split, but there is no such file")


def named_lists(entries: list[str], splits: SourceStore) -> dict[str, tuple[SourceStore, str]]:
    """Where the lists of `NAME=FILE` entries lie: a FILE without a folder in `splits`, another one as given.

    Returns:
        NAME -> the store and the name of the file in it.

    Raises:
        ValueError: a file is not there, or a NAME is given twice.
    """
    lists: dict[str, tuple[SourceStore, str]] = {}
    for entry in entries:
        split, file = parse_split(entry)
        if split in lists:
            raise ValueError(f"split: {split!r} is given twice: by {lists[split][1]} and by {file}")
        folder, name = posixpath.split(file)
        store = SourceStore(folder, splits.roots) if folder else splits
        found = find_text_file(store, name)
        if found is None:
            raise ValueError(f"{store.path(name)}: no such split list (--split NAME=FILE)")
        lists[split] = (store, found)
    return lists


def assign_splits(
    lists: Mapping[str, tuple[SourceStore, str]],
    videos: WrittenNames,
    index: CorpusIndex,
    files: Listing,
    find: Callable[[str, str], str | None],
    missing: Callable[[str, str], tuple[str, str]],
    hint: str = "",
) -> dict[str, str]:
    """Which split each listed video is in.

    Args:
        lists: split -> where its list lies.
        videos: what is there, and by which names.
        index: gets notices, and what is listed and not there as skipped clips.
        files: what lies where; what is listed may be in a folder that is not to be read.
        find: the video that a line means in a split, or None.
        missing: key and path of what a line of a split names that is not there.
        hint: a question to ask where nothing is found.

    Returns:
        video -> its split, in the order of the lists.

    Raises:
        ValueError: a list is empty, names no video that is there (the first line is quoted, with the nearest name), or
            one that is in another split.
    """
    split_of: dict[str, str] = {}
    for split, (store, name) in lists.items():
        where, lines = store.path(name), read_lines(store, name)
        if not lines:
            raise ValueError(f"{where}: the list is empty")
        too_long = next((number for number, line in lines.items() if len(line) > MAX_PATH_LENGTH), None)
        if too_long is not None:
            check_limit(f"{where}: line {too_long}: characters", len(lines[too_long]), MAX_PATH_LENGTH)
        found = {number: find(line, split) for number, line in lines.items()}
        check_limit(f"{where}: clips that are not there", sum(not found[number] for number in found), MAX_MISSING)
        # a path may begin with # too, but what is not there is a comment
        found = {number: video for number, video in found.items() if video or not lines[number].startswith("#")}
        if not found:
            raise ValueError(f"{where}: the list holds comments only")
        for number, video in found.items():
            if video is None:
                key, path = missing(lines[number], split)
                why = files.refused_above(path) or _MISSING
                index.skipped.append(SkippedClip(key, split, path, "index", why.reason, why.detail))
            elif split_of.setdefault(video, split) != split:
                raise ValueError(
                    f"{video} is in split {split_of[video]!r} and, by {where}, in {split!r}: "
                    "a clip may be in one split only, or scores on it mean nothing"
                )
        _notice_twice(found, lines, where, index)
        lost = [number for number, video in found.items() if video is None]
        if not lost:
            continue
        first = f"line {lost[0]}, {videos.quote_missing(lines[lost[0]])}"
        if len(lost) == len(found):
            raise ValueError(f"{where}: none of its {len(found)} clips is there; {first}{hint}")
        index.notices.append(f"{where}: {len(lost)} of its {len(found)} clips are not there; the first is {first}")
    return split_of


def _notice_twice(found: Mapping[int, str | None], lines: Mapping[int, str], where: str, index: CorpusIndex) -> None:
    seen: set[str] = set()
    twice = []
    for number, video in found.items():
        if video in seen:
            twice.append(lines[number])
        elif video is not None:
            seen.add(video)
    index.notices += [f"{where}: lists {line} twice; it is built once" for line in twice[:_NOTICES]]
    if len(twice) > _NOTICES:
        index.notices.append(f"{where}: and {len(twice) - _NOTICES} others twice")
