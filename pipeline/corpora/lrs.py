"""Index LRS2 and LRS3 as their owners ship them, with the published coordinate files and split lists.

    LRS2-BBC/{main,pretrain}/<id>/<clip>.{mp4,txt}             LRS3-TED/{pretrain,trainval,test}/<id>/<clip>.{mp4,txt}
    LRS2_crop/preprocess_{main,pretrain}.txt                   LRS3_crop/preprocess_{pretrain,trainval,test}.txt
    {train,val,test,pretrain}.txt                              lrs3_unseen_{train,val,test}.txt

A split list names a clip a line, `<id>/<clip>` or `<set>/<id>/<clip>`; what follows white space is ignored (LRS2's own
lists carry a tag there).
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import BuildSettings
from pipeline.corpora.clips import CorpusClip, CorpusFiles, CorpusIndex, make_key, separate_keys
from pipeline.corpora.listing import list_files
from pipeline.corpora.splits import named_lists, read_list
from pipeline.media.coordinates import read_coordinate_file
from shards import SkippedClip, Store


@dataclass(frozen=True)
class Layout:
    """How a corpus is laid out.

    Attributes:
        sets: its folders of videos.
        crops: the folder of its coordinate files.
        splits: split -> the file that lists it.
        bare: the sets that a list's names without a set may belong to.
        bare_of: split -> these sets, where they are others.
    """

    sets: tuple[str, ...]
    crops: str
    splits: dict[str, str]
    bare: tuple[str, ...]
    bare_of: dict[str, tuple[str, ...]]


LRS2 = Layout(
    sets=("main", "pretrain"),
    crops="LRS2_crop",
    splits={name: f"{name}.txt" for name in ("train", "val", "test", "pretrain")},
    bare=("main",),
    bare_of={"pretrain": ("pretrain",)},
)
LRS3 = Layout(
    sets=("trainval", "pretrain", "test"),
    crops="LRS3_crop",
    splits={name: f"lrs3_unseen_{name}.txt" for name in ("train", "val", "test")},
    bare=("trainval", "pretrain", "test"),
    bare_of={},
)


def index_lrs(settings: BuildSettings, layout: Layout) -> CorpusIndex:
    """Index a corpus in LRS form.

    Raises:
        ValueError: a folder is missing or unreadable, there is no split list, a list names nothing that is there, or
            a clip is in two splits. The message names the file and what to do.
        StorageError: the disk or network failed.
    """
    root = Store(settings.root)
    splits = Store(settings.split_lists or root.parent())
    index = CorpusIndex()
    files = list_files(root)
    coordinates = _read_coordinates(Store(settings.coordinates or root.parent(layout.crops)), layout, files, index)
    corpus = CorpusFiles(files, list_files(Store(settings.audio)) if settings.audio else None, coordinates)
    clips: list[CorpusClip] = []
    listed_in: dict[str, str] = {}
    for split, (store, name) in _split_lists(settings, layout, splits, index).items():
        stems = read_list(store, name)
        resolved = [(stem, _resolve(stem, split, layout, files)) for stem in stems]
        if all(video is None for _, video in resolved):
            raise ValueError(
                f"{store.path(name)}: none of its {len(stems)} clips is below {settings.root} "
                f"(the first is {stems[0]!r}); is --root the folder that holds {' and '.join(layout.sets)}?"
                if stems
                else f"{store.path(name)}: the list is empty"
            )
        for stem, video in resolved:
            if video is None:
                index.skipped.append(_missing_video(stem, split, layout))
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
            clip = corpus.clip(video, split, set_name=video.split("/")[0])
            if isinstance(clip, SkippedClip):
                index.skipped.append(clip)
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
                    f"{store.path(name)}: not there; clips of {set_name} have no coordinates (--coordinates)"
                )
            continue
        index.notices += notices
        coordinates |= {f"{set_name}/{path.removeprefix(f'{set_name}/')}": line for path, line in lines.items()}
    return coordinates


def _split_lists(
    settings: BuildSettings, layout: Layout, splits: Store, index: CorpusIndex
) -> dict[str, tuple[Store, str]]:
    """split -> where its list lies; the published ones that are there, and those that the settings add."""
    lists: dict[str, tuple[Store, str]] = {}
    for split, name in layout.splits.items():
        if splits.exists(name):
            lists[split] = (splits, name)
        else:
            index.notices.append(f"{splits.path(name)}: not there; split {split!r} is not built")
    for split, (store, name) in named_lists(settings.split, splits).items():
        if split in lists:
            index.notices.append(f"{store.path(name)}: takes the place of {lists[split][1]} for split {split!r}")
        lists[split] = (store, name)
    if not lists:
        expected = ", ".join(layout.splits.values())
        raise ValueError(f"{splits.path()}: no split list here (expected {expected}): name their folder with --splits")
    return lists


def _resolve(line: str, split: str, layout: Layout, files: dict[str, int]) -> str | None:
    """The video that a line of a split list means, `<set>/<id>/<clip>.mp4`, or None if it is not there.

    Raises:
        ValueError: a name without a set is in several.
    """
    for stem in dict.fromkeys((line, line.split()[0])):
        found = [video for video in _meant(stem, split, layout) if video in files]
        if len(found) > 1:
            raise ValueError(f"split {split!r} lists {stem!r}, which is in several sets: write {' or '.join(found)}")
        if found:
            return found[0]
    return None


def _meant(stem: str, split: str, layout: Layout) -> list[str]:
    """The videos that a name in a split list may mean."""
    stem = stem.removesuffix(".mp4")
    if stem.split("/")[0] in layout.sets:
        return [f"{stem}.mp4"]
    return [f"{set_name}/{stem}.mp4" for set_name in layout.bare_of.get(split, layout.bare)]


def _missing_video(line: str, split: str, layout: Layout) -> SkippedClip:
    video = _meant(line.split()[0], split, layout)[0]
    key = make_key(*video.removesuffix(".mp4").split("/", 1))
    return SkippedClip(key, split, video, "index", "video_missing", "listed in the split, but there is no such file")
