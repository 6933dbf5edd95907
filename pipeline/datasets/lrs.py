"""LRS2 and LRS3 as their owners ship them, with the published coordinate files and split lists.

    LRS2-BBC/{main,pretrain}/<id>/<clip>.{mp4,txt}             LRS3-TED/{pretrain,trainval,test}/<id>/<clip>.{mp4,txt}
    LRS2_crop/preprocess_{main,pretrain}.txt                   LRS3_crop/preprocess_{pretrain,trainval,test}.txt
    {train,val,test,pretrain}.txt                              lrs3_unseen_{train,val,test}.txt

A split list names a clip a line, `<id>/<clip>` or `<set>/<id>/<clip>`; what follows white space is ignored (LRS2's own
lists carry a tag there).
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from pipeline.datasets.clips import Clip, CorpusIndex, count_coordinates, make_key, separate_keys
from pipeline.datasets.coordinates import read_coordinate_file
from pipeline.datasets.listing import list_files
from pipeline.recipe import Recipe, parse_split
from shards import LeftOut, Store


@dataclass(frozen=True)
class Layout:
    """How a corpus is laid out.

    Attributes:
        sets: its folders of videos; a split list's bare names are looked for in them in this order.
        crops: the folder of its coordinate files.
        splits: split -> the file that lists it.
        bare: split -> the set that its bare names belong to, where that is not the first one.
    """

    sets: tuple[str, ...]
    crops: str
    splits: dict[str, str]
    bare: dict[str, str]


LRS2 = Layout(
    sets=("main", "pretrain"),
    crops="LRS2_crop",
    splits={name: f"{name}.txt" for name in ("train", "val", "test", "pretrain")},
    bare={"pretrain": "pretrain"},
)
LRS3 = Layout(
    sets=("trainval", "pretrain", "test"),
    crops="LRS3_crop",
    splits={name: f"lrs3_unseen_{name}.txt" for name in ("train", "val", "test")},
    bare={},
)


def index_lrs(recipe: Recipe, layout: Layout) -> CorpusIndex:
    """Index a corpus in LRS form.

    Raises:
        ValueError: a folder is missing or unreadable, there is no split list, a list names nothing that is there, or
            a clip is in two splits. The message names the file and what to do.
        StorageError: the disk or network failed.
    """
    root = Store(recipe.root)
    beside = posixpath.dirname(recipe.root.rstrip("/")) or "."
    splits = Store(recipe.splits or beside)
    files = list_files(root)
    index = CorpusIndex()
    coordinates = _read_coordinates(Store(recipe.crops or f"{beside}/{layout.crops}"), layout, files, index)
    wavs = list_files(Store(recipe.audio)) if recipe.audio else None
    clips: list[Clip] = []
    listed_in: dict[str, str] = {}
    for split, (store, name) in _split_lists(recipe, layout, splits, index).items():
        stems = read_list(store, name)
        resolved = [(stem, _resolve(stem, split, layout, files)) for stem in stems]
        if all(video is None for _, video in resolved):
            raise ValueError(
                f"{store.path(name)}: none of its {len(stems)} clips is below {recipe.root} "
                f"(the first is {stems[0]!r}); is --root the folder that holds {' and '.join(layout.sets)}?"
                if stems
                else f"{store.path(name)}: the list is empty"
            )
        for stem, video in resolved:
            if video is None:
                index.left_out.append(_missing_video(stem, split, layout))
                continue
            if video in listed_in:
                if listed_in[video] != split:
                    raise ValueError(
                        f"{video} is in split {listed_in[video]!r} and, by {store.path(name)}, in {split!r}: "
                        "a clip may be in one split only, or scores on it mean nothing"
                    )
                index.notices.append(f"{store.path(name)}: lists {stem} twice; it is built once")
                continue
            listed_in[video] = split
            clip = _clip(video, split, files, wavs, coordinates)
            if isinstance(clip, LeftOut):
                index.left_out.append(clip)
            else:
                clips.append(clip)
    index.clips = separate_keys(clips)
    return index


def _read_coordinates(store: Store, layout: Layout, files: dict[str, int], index: CorpusIndex) -> dict[str, str]:
    """Coordinates of all sets, by `<set>/<id>/<clip>.mp4`."""
    coordinates: dict[str, str] = {}
    for set_name in layout.sets:
        name = f"preprocess_{set_name}.txt"
        try:
            lines, notices = read_coordinate_file(store, name)
        except FileNotFoundError:
            if any(path.startswith(f"{set_name}/") for path in files):
                index.notices.append(
                    f"{store.path(name)}: not there; clips of {set_name} have no coordinates (--crops)"
                )
            continue
        index.notices += notices
        coordinates |= {f"{set_name}/{path.removeprefix(f'{set_name}/')}": line for path, line in lines.items()}
    return coordinates


def _split_lists(recipe: Recipe, layout: Layout, splits: Store, index: CorpusIndex) -> dict[str, tuple[Store, str]]:
    """split -> where its list lies; the published ones that are there, and those that the recipe adds."""
    lists: dict[str, tuple[Store, str]] = {}
    for split, name in layout.splits.items():
        if splits.exists(name):
            lists[split] = (splits, name)
        else:
            index.notices.append(f"{splits.path(name)}: not there; split {split!r} is not built")
    for entry in recipe.split:
        split, name = parse_split(entry)
        lists[split] = find_list(name, splits)
    if not lists:
        expected = ", ".join(layout.splits.values())
        raise ValueError(f"{splits.path()}: no split list here (expected {expected}): name their folder with --splits")
    return lists


def find_list(file: str, splits: Store) -> tuple[Store, str]:
    """Where a split list lies that was named by hand: a bare name in `splits`, else the path as given.

    Raises:
        ValueError: it is not there.
    """
    folder, name = posixpath.split(file)
    store = Store(folder) if folder else splits
    if not store.exists(name):
        raise ValueError(f"{store.path(name)}: no such split list (--split NAME=FILE)")
    return store, name


def read_list(store: Store, name: str) -> list[str]:
    """The lines of a split list that are not empty."""
    content = store.read(name).decode("utf-8-sig", errors="replace")
    return [line.strip() for line in content.splitlines() if line.strip()]


def _resolve(line: str, split: str, layout: Layout, files: dict[str, int]) -> str | None:
    """The video that a line of a split list means, `<set>/<id>/<clip>.mp4`, or None if it is not there."""
    first_set = layout.bare.get(split, layout.sets[0])
    sets = [first_set, *(name for name in layout.sets if name != first_set)]
    for stem in dict.fromkeys((line, line.split()[0])):
        stem = stem.removesuffix(".mp4")
        for video in (f"{stem}.mp4", *(f"{set_name}/{stem}.mp4" for set_name in sets)):
            if video in files and video.split("/")[0] in layout.sets:
                return video
    return None


def _missing_video(line: str, split: str, layout: Layout) -> LeftOut:
    stem = line.split()[0].removesuffix(".mp4")
    set_name = layout.bare.get(split, layout.sets[0])
    video = f"{stem}.mp4" if stem.split("/")[0] in layout.sets else f"{set_name}/{stem}.mp4"
    key = make_key(*video.removesuffix(".mp4").split("/", 1))
    return LeftOut(key, split, video, "index", "video_missing", "listed in the split, but there is no such file")


def _clip(
    video: str, split: str, files: dict[str, int], wavs: dict[str, int] | None, coordinates: dict[str, str]
) -> Clip | LeftOut:
    stem = video.removesuffix(".mp4")
    set_name, inner = stem.split("/", 1)
    line = coordinates.get(video)
    clip = Clip(
        key=make_key(set_name, inner),
        split=split,
        set=set_name,
        speaker=inner.split("/")[0],
        video=video,
        transcript=f"{stem}.txt" if f"{stem}.txt" in files else None,
        audio=f"{stem}.wav" if wavs is not None else None,
        coordinates=line,
        frames=count_coordinates(line or ""),
        bytes=files[video],
    )
    if line is None:
        return clip.left_out("index", "coordinates_missing", f"no line for it in preprocess_{set_name}.txt")
    if wavs is not None and clip.audio not in wavs:
        return clip.left_out("index", "sound_missing", f"no {clip.audio} in the folder of wav files")
    return clip
