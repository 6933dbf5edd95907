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
from pipeline.corpora.coordinate_lines import lines_by_video
from pipeline.corpora.listing import list_files
from pipeline.corpora.splits import assign_splits, named_lists
from pipeline.corpora.written_names import WrittenNames
from pipeline.media.coordinates import read_coordinate_file
from pipeline.media.source_store import SourceStore
from pipeline.media.text_files import clean_path, find_text_file
from shards import SkippedClip


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
    root = settings.source(settings.root)
    splits = settings.source(settings.split_lists or root.parent())
    files = list_files(root)
    index = CorpusIndex(notices=files.notices(settings.root))
    videos = _videos(settings, files)
    crops = settings.source(settings.coordinates or root.parent(layout.crops))
    coordinates = _read_coordinates(crops, layout, videos, index)
    wavs = list_files(settings.source(settings.audio)) if settings.audio else None
    corpus = CorpusFiles(files, wavs, coordinates)
    split_of = assign_splits(
        _split_lists(settings, layout, splits, index),
        videos,
        index,
        files,
        find=lambda line, split: _resolve(line, split, layout, videos),
        missing=lambda line, split: _missing_video(line, split, layout),
        hint=f"; is --root the folder that holds {' and '.join(layout.sets)}?",
    )
    clips: list[CorpusClip] = []
    for video, split in split_of.items():
        clip = corpus.clip(video, split, set_name=video.split("/")[0])
        if isinstance(clip, SkippedClip):
            index.skipped.append(clip)
        else:
            clips.append(clip)
    index.clips = separate_keys(clips, settings)
    index.skip_refused(files, wavs)
    return index


def _videos(settings: BuildSettings, files: dict[str, int]) -> WrittenNames:
    """The videos, by path with and without extension."""
    videos = [path for path in files if path.lower().endswith(".mp4")]
    return WrittenNames({name: video for video in videos for name in (video, video[: -len(".mp4")])}, settings.root)


def _read_coordinates(store: SourceStore, layout: Layout, videos: WrittenNames, index: CorpusIndex) -> dict[str, str]:
    """Coordinates of all sets, by `<set>/<id>/<clip>.mp4`."""
    coordinates: dict[str, str] = {}
    for set_name in layout.sets:
        name = f"preprocess_{set_name}.txt"
        there = any(path.startswith(f"{set_name}/") for path in videos.names)
        try:
            lines, notices = read_coordinate_file(store, name)
        except FileNotFoundError:
            if there:
                index.notices.append(
                    f"{store.path(name)}: not there; clips of {set_name} have no coordinates (--coordinates)"
                )
            continue
        found, repeated = lines_by_video(lines if there else {}, videos, store.path(name), f"{set_name}/")
        index.notices += notices + repeated
        coordinates |= found
    return coordinates


def _split_lists(
    settings: BuildSettings, layout: Layout, splits: SourceStore, index: CorpusIndex
) -> dict[str, tuple[SourceStore, str]]:
    """split -> where its list lies; the published ones that are there, and those that the settings add."""
    lists: dict[str, tuple[SourceStore, str]] = {}
    for split, name in layout.splits.items():
        found = find_text_file(splits, name)
        if found is not None:
            lists[split] = (splits, found)
        else:
            index.notices.append(f"{splits.path(name)}: not there; split {split!r} is not built")
    for split, (store, name) in named_lists(settings.split, splits).items():
        if split in lists:
            index.notices.append(f"{store.path(name)}: takes the place of {lists[split][1]} for split {split!r}")
        lists[split] = (store, name)
    if not lists:
        expected = ", ".join(layout.splits.values())
        raise ValueError(
            f"{splits.path()}: no split list here (expected {expected}): name their folder with --split-lists"
        )
    return lists


def _resolve(line: str, split: str, layout: Layout, videos: WrittenNames) -> str | None:
    """The video that a line of a split list means, `<set>/<id>/<clip>.mp4`, or None if it is not there.

    Raises:
        ValueError: a name without a set is in several.
    """
    for stem in dict.fromkeys((line, line.split()[0])):
        named = videos.find(stem)
        if named is not None:
            return named
        sets = layout.bare_of.get(split, layout.bare)
        found = [video for video in (videos.find(stem, f"{set_name}/") for set_name in sets) if video is not None]
        if len(found) > 1:
            raise ValueError(f"split {split!r} lists {stem!r}, which is in several sets: write {' or '.join(found)}")
        if found:
            return found[0]
    return None


def _missing_video(line: str, split: str, layout: Layout) -> tuple[str, str]:
    """Key and path of a clip that is listed and not there: of the first set that it may belong to."""
    path = clean_path(line.split()[0]).removesuffix(".mp4")
    set_name, slash, stem = path.partition("/")
    if not slash or set_name not in layout.sets:
        set_name, stem = layout.bare_of.get(split, layout.bare)[0], path
    return make_key(set_name, stem), f"{set_name}/{stem}.mp4"
