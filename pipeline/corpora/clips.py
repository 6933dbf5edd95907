"""Index of a corpus: clips to build and clips that are skipped, with the reason for each."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from pipeline.config import BuildSettings
from pipeline.corpora.listing import Listing
from pipeline.media.text_files import clean_path
from shards import SkippedClip
from shards.format.sidecar import Reason, Stage

LONGEST_KEY = 200
"""Bytes of a key in UTF-8. The path of the video, whole, is in the sample's json and in the index as its source."""

_PART = re.compile(r"(.+)-(?:shot|part)\d+", re.DOTALL)
"""What a video is split into (pipeline.clip): `<key>-shot2-part003`."""


@dataclass(frozen=True)
class CorpusClip:
    """One clip to build. Paths are below the corpus's root, so that a plan does not depend on where it is mounted.

    Attributes:
        key: unique name in the dataset, `<set>/...`.
        split: the split that lists it.
        set: the corpus's own folder, and how its transcripts are written (pretrain ones carry word times).
        speaker: the speaker, or what the corpus has in its place.
        video: path of the video.
        transcript: path of the transcript, or None.
        audio: path of a ready-made wav below the audio folder, or None to use the video's sound.
        coordinates: lip centers as written in the coordinate file: x0/y0/x1/y1/...; or None with a fixed lip box.
        frames: video frames expected, for planning.
        sizes: bytes of video, transcript and wav (0: there is none), so that a changed corpus is another plan.
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
    sizes: tuple[int, int, int]

    def skipped(self, stage: Stage, reason: Reason, detail: str) -> SkippedClip:
        return SkippedClip(self.key, self.split, self.video, stage, reason, detail)


@dataclass
class CorpusIndex:
    """What a corpus holds: clips to build, clips that cannot be built, and notices for the person who asked."""

    clips: list[CorpusClip] = field(default_factory=list)
    skipped: list[SkippedClip] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def skip_refused(self, files: Listing, wavs: Listing | None) -> None:
        """Skip the clips one of whose files is not to be read."""
        clips, self.clips = self.clips, []
        for clip in clips:
            paths = ((files, clip.video), (files, clip.transcript), (wavs, clip.audio))
            listed = [(listing, path) for listing, path in paths if listing is not None and path is not None]
            refused = next(((path, why) for listing, path in listed if (why := listing.refused.get(path))), None)
            if refused is None:
                self.clips.append(clip)
            else:
                path, why = refused
                self.skipped.append(clip.skipped("index", why.reason, f"{path}: {why.detail}"))


@dataclass(frozen=True)
class CorpusFiles:
    """What lies where in a corpus: what it takes to describe a clip of it.

    Attributes:
        files: those below the root.
        wavs: those below the folder of ready-made wavs; None where the videos' own sound is used.
        coordinates: video path -> its coordinate line; None where one lip box serves all.
    """

    files: Listing
    wavs: Listing | None
    coordinates: dict[str, str] | None

    def clip(self, video: str, split: str, set_name: str) -> CorpusClip | SkippedClip:
        """A clip to build, or why it cannot be: it has no coordinates, or no wav where wavs are used.

        A path that begins with its set has it in its key once. Transcripts and wavs may end in `.TXT` and `.WAV`.
        """
        stem = video.rpartition(".")[0]
        inner = stem.removeprefix(f"{set_name}/")
        transcript = self._beside(self.files, self._transcripts, f"{stem}.txt")
        wav = self._beside(self.wavs or {}, self._sounds, f"{stem}.wav")
        line = self.coordinates.get(video) if self.coordinates is not None else None
        clip = CorpusClip(
            key=make_key(set_name, inner),
            split=split,
            set=set_name,
            speaker=inner.split("/")[0] if "/" in inner else "unknown",
            video=video,
            transcript=transcript,
            audio=wav,
            coordinates=line,
            frames=count_coordinates(line or ""),
            sizes=(self.files[video], self.files.get(transcript or "", 0), (self.wavs or Listing()).get(wav or "", 0)),
        )
        if self.coordinates is not None and line is None:
            return clip.skipped("index", "coordinates_missing", "the coordinate file has no line for it")
        if self.wavs is not None and wav is None:
            return clip.skipped("index", "sound_missing", f"no {stem}.wav in the folder of wav files")
        return clip

    @cached_property
    def _transcripts(self) -> dict[str, str]:
        return by_clean_path(self.files, ".txt")

    @cached_property
    def _sounds(self) -> dict[str, str]:
        return by_clean_path(self.wavs or {}, ".wav")

    @staticmethod
    def _beside(files: Mapping[str, int], by_clean: Mapping[str, str], path: str) -> str | None:
        """The file of that path, or that differs only in its extension's case or in how accents are composed."""
        return path if path in files else by_clean.get(clean_path(path))


def by_clean_path(files: Iterable[str], extension: str) -> dict[str, str]:
    """Paths as they are compared (`clean_path`) -> files that end in `extension`, in any case."""
    return {clean_path(path): path for path in sorted(files, reverse=True) if path.lower().endswith(extension)}


def make_key(set_name: str, stem: str) -> str:
    """A key from a set and a path without its extension: dots, white space and control characters become `_`.

    WebDataset ends a key at the first dot of a file name; white space breaks lists of keys. Accents are composed (NFC):
    a file system of a Mac decomposes them, and the same corpus has the same keys on any. A long one is shortened.
    """
    return shorten_key(re.sub(r"[\s.\x00-\x1f\x7f-\x9f\\]", "_", unicodedata.normalize("NFC", f"{set_name}/{stem}")))


def shorten_key(key: str) -> str:
    """A key of at most `LONGEST_KEY` bytes in UTF-8 as it is, a longer one as its beginning and a hash of all of it.

    Evaluations write files that are named after keys, and a file system has room for 255 bytes between slashes.
    """
    content = key.encode()
    if len(content) <= LONGEST_KEY:
        return key
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{content[: LONGEST_KEY - 1 - len(digest)].decode(errors='ignore')}-{digest}"


def separate_keys(clips: Iterable[CorpusClip], settings: BuildSettings) -> list[CorpusClip]:
    """Give clips whose names only differ in what a key cannot hold (`a.b.mp4`, `a b.mp4`, `a_b.avi`) keys of their own.

    The first by path keeps the plain key, the others end in a short hash of their path: nothing is lost, and a key
    does not depend on the order in which a folder was listed. Where videos are split, a clip whose name is that of a
    part of another (`a.mp4`, `a-shot2.mp4`) gets a hash too. A key that is taken even so gets a longer hash.
    """
    splits = "split" in (settings.scene_cuts, settings.long_clips)
    taken: set[str] = set()
    separated = []
    for clip in sorted(clips, key=lambda clip: (clip.key, clip.video)):
        key, attempt = clip.key, 0
        while key in taken or (splits and not attempt and _is_part_of_another(key, taken)):
            written = f"{clip.video} {attempt}" if attempt else clip.video
            digest = hashlib.sha256(written.encode()).hexdigest()[: 8 << min(attempt, 3)]
            key, attempt = shorten_key(f"{clip.key}-{digest}"), attempt + 1
        taken.add(key)
        separated.append(replace(clip, key=key))
    return separated


def _is_part_of_another(key: str, taken: set[str]) -> bool:
    """Whether a part of a clip may get this key."""
    while (part := _PART.fullmatch(key)) is not None:
        key = part[1]
        if key in taken:
            return True
    return False


def count_coordinates(coordinates: str) -> int:
    """Frames that a coordinate line has pairs for: half its numbers."""
    return (coordinates.count("/") + 1) // 2 if coordinates.strip() else 0
