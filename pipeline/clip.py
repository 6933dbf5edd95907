"""Build one sample from the files of a clip: decode, crop, put in step, compute the mel; or say why it is skipped."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from model.mel import log_mel
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from pipeline.corpora.grid_transcripts import parse_grid_transcript
from pipeline.corpora.transcripts import Transcript, parse_transcript
from pipeline.lip_regions import LipRegions, given_regions, is_tracked, tracked_regions
from pipeline.media.audio import read_wav, stored_sound
from pipeline.media.decode import SoundRun
from pipeline.media.errors import ClipError
from pipeline.media.sync import frames_at_25
from runtime.constants import FPS, MEL_FRAMES_PER_VIDEO_FRAME, SAMPLES_PER_FRAME
from shards import Sample, SampleMeta, StorageError, Store
from shards.format.sidecar import Reason


@dataclass(frozen=True)
class Corpus:
    """Where a corpus's files are read from."""

    videos: Store
    wavs: Store | None

    @classmethod
    def of(cls, settings: BuildSettings) -> Corpus:
        return cls(Store(settings.root), Store(settings.audio) if settings.audio else None)


def build_sample(clip: CorpusClip, settings: BuildSettings, corpus: Corpus) -> Sample:
    """`build_samples` of a clip that is not split.

    Raises:
        ClipError: the clip cannot be built; says at which stage and why.
        StorageError: the disk or network failed: the clip may be fine.
    """
    (built,) = build_samples(clip, settings, corpus)
    if isinstance(built, ClipError):
        raise built
    return built


def build_samples(clip: CorpusClip, settings: BuildSettings, corpus: Corpus) -> list[Sample | ClipError]:
    """Read, decode, crop and analyze one clip: a sample, or one for each of its shots where it is split at cuts.

    A shot that cannot be built has its error in its place.

    Raises:
        ClipError: the clip cannot be built; says at which stage and why.
        StorageError: the disk or network failed: the clip may be fine.
    """
    transcript = _read_transcript(clip, settings, corpus.videos)
    content = _read(corpus.videos, clip.video, "video_unreadable")
    parts: list[LipRegions | ClipError]
    if is_tracked(clip, settings):
        parts, runs = tracked_regions(content, settings, with_sound=clip.audio is None)
    else:
        whole, runs = given_regions(clip, content, settings, with_sound=clip.audio is None)
        parts = [whole]
    source_sha256 = hashlib.sha256(content).hexdigest()
    built: list[Sample | ClipError] = []
    for number, part in enumerate(parts, 1):
        try:
            if isinstance(part, ClipError):
                raise part
            split = len(parts) > 1
            named = replace(clip, key=shot_key(clip, number)) if split else clip
            said = _words_of_shot(transcript, part) if split else transcript
            built.append(_sample(named, part, runs, said, source_sha256, settings, corpus))
        except ClipError as fault:
            built.append(fault)
    return built


def shot_key(clip: CorpusClip, number: int) -> str:
    """The key of a shot, numbered from 1, of a clip that is split."""
    return f"{clip.key}-shot{number}"


def _sample(
    clip: CorpusClip,
    lips: LipRegions,
    runs: list[SoundRun],
    transcript: Transcript,
    source_sha256: str,
    settings: BuildSettings,
    corpus: Corpus,
) -> Sample:
    picture, decoded = lips.picture, len(lips.centers)
    notes = [transcript.note] if transcript.note else []
    if clip.set == "pretrain" and not transcript.words:
        notes.append("the transcript has no word times")
    notes += lips.notes
    notes += picture.notes
    notes += [f"{picture.corrupt} frames were repaired by the decoder"] if picture.corrupt else []
    shown = frames_at_25(picture)
    frames = len(shown)
    if frames < settings.min_frames:
        raise ClipError("decode", "video_short", f"{frames} frames, at least {settings.min_frames} were expected")
    if frames != decoded or (shown != np.arange(frames)).any():
        notes.append(f"{decoded} frames were resampled to {frames} at 25 a second")
    if any(end > (frames + FPS) / FPS for _, _, end in transcript.words):
        detail = f"a word ends after {max(word[2] for word in transcript.words)} s, the clip after {frames / FPS} s"
        raise ClipError("transcript", "transcript_invalid", detail)
    if clip.audio is not None:
        assert corpus.wavs is not None, "a clip with a wav comes with a folder of wav files"
        begins = float(picture.start) - lips.first_seconds
        runs = read_wav(_read(corpus.wavs, clip.audio, "sound_unreadable"), begins)
    wav, span = stored_sound(runs, picture, frames)
    return Sample(
        key=clip.key,
        roi=np.stack([lips.region(index) for index in shown]),
        mel=stored_mel(wav),
        wav=wav,
        text=transcript.text,
        meta=SampleMeta(
            set=clip.set,
            split=clip.split,
            speaker=clip.speaker,
            source=clip.video,
            source_sha256=source_sha256,
            frames=frames,
            fps=FPS,
            crop_radius=settings.crop_radius,
            lips=[(x, y) for x, y in lips.centers[shown].tolist()],
            words=transcript.words,
            sound=span,
            notes=notes,
            lip_square=lips.square,
            source_start=lips.first_seconds or None,
        ),
    )


def _words_of_shot(transcript: Transcript, shot: LipRegions) -> Transcript:
    """What is said in a shot, by the words' times; nothing where there are none."""
    first, last = shot.first_seconds, shot.first_seconds + float(shot.picture.length)
    if not transcript.words:
        note = "the transcript is the whole video's, without times of its words: not used for its shots"
        return Transcript("", [], note if transcript.text else transcript.note)
    inside = [
        (word, start - first, end - first) for word, start, end in transcript.words if first < (start + end) / 2 < last
    ]
    return Transcript(" ".join(word for word, _, _ in inside), inside, transcript.note)


def stored_mel(wav: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The mel that is stored with int16 samples (640 T,): float32 (80, 4T), the frames of the whole clip."""
    mel = log_mel(torch.from_numpy(wav / np.float32(32768)))
    return mel[:, : len(wav) // SAMPLES_PER_FRAME * MEL_FRAMES_PER_VIDEO_FRAME].contiguous().numpy()


def _read(store: Store, path: str, unreadable: Reason) -> bytes:
    """A file that was there when the corpus was indexed: if it is not now, the corpus is not mounted here."""
    try:
        return store.read(path)
    except FileNotFoundError as error:
        message = "gone since the corpus was indexed: is the corpus mounted on this machine?"
        raise StorageError(error.errno or 0, message, store.path(path)) from error
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise ClipError("read", unreadable, f"{type(error).__name__}: {error.strerror}") from error


def _read_transcript(clip: CorpusClip, settings: BuildSettings, store: Store) -> Transcript:
    optional = settings.transcripts == "optional"
    named = settings.dataset == "grid"  # a clip's name says its words
    if clip.transcript is None and not named:
        if optional:
            return Transcript("", [])
        raise ClipError("transcript", "transcript_missing", "there is no .txt beside the video")
    content = _read(store, clip.transcript, "transcript_unreadable") if clip.transcript is not None else None
    try:
        if named:
            return parse_grid_transcript(clip.video, content)
        return parse_transcript(content or b"", plain=settings.dataset == "folder")
    except ValueError as error:
        if optional:
            return Transcript("", [], f"transcript not used: {error}")
        reason: Reason = "transcript_missing" if content is None else "transcript_invalid"
        raise ClipError("transcript", reason, f"{clip.transcript or clip.video}: {error}") from error
