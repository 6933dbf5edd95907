"""Build one sample from the files of a clip: decode, crop, put in step, compute the mel; or say why it is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from model.mel import MelSettings, log_mel
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusClip
from pipeline.corpora.grid_transcripts import parse_grid_transcript
from pipeline.corpora.transcripts import Transcript, parse_transcript
from pipeline.lip_regions import LipRegions, given_regions, is_tracked, regions_of, tracked_regions
from pipeline.long_clips import part_edges, part_of_transcript
from pipeline.media.errors import ClipError, faults_of_file
from pipeline.media.sound_runs import SoundRun
from pipeline.media.stored_sound import read_wav, stored_sound
from pipeline.media.sync import frames_at_25
from pipeline.source_file import opened_file, read_file, video_file
from runtime.constants import FPS, HOP_LENGTH, MEL_FRAMES_PER_VIDEO_FRAME, N_MELS, SAMPLES_PER_FRAME
from runtime.limits import MAX_TRANSCRIPT_FILE_BYTES, check_limit
from shards import Sample, SampleMeta, SkippedClip, StorageError, Store
from shards.format.sidecar import Reason

_MOST_MEL_FRAMES_AT_ONCE = 12_000
"""Two minutes: the analysis takes 2 MB a second."""
_MEL_FRAMES_OF_A_PIECE = 6_000
_MEL_FRAMES_BEYOND = 8
_SECONDS_BEYOND = 5
"""Of a wav, that are read after the end of a clip: more than resampling needs."""


@dataclass(frozen=True)
class Corpus:
    """Where a corpus's files are read from."""

    videos: Store
    wavs: Store | None

    @classmethod
    def of(cls, settings: BuildSettings) -> Corpus:
        return cls(settings.source(settings.root), settings.source(settings.audio) if settings.audio else None)


def build_sample(clip: CorpusClip, settings: BuildSettings, corpus: Corpus) -> Sample:
    """`build_samples` of a clip that is not split.

    Raises:
        ClipError: the clip cannot be built; says at which stage and why.
        StorageError: the disk or network failed: the clip may be fine.
    """
    (sample,) = build_samples(clip, settings, corpus)
    assert isinstance(sample, Sample), "of a clip that is not split, the error is raised"
    return sample


def build_samples(clip: CorpusClip, settings: BuildSettings, corpus: Corpus) -> Iterator[Sample | SkippedClip]:
    """Read, decode, crop and analyze one clip: a sample, or one for each part where it is split, at cuts or for length.

    A part that cannot be built is skipped by itself. A sample is to be written before the next is asked for: of a long
    clip, lip regions lie in a temporary file.

    Raises:
        ClipError: the clip cannot be built; says at which stage and why.
        StorageError: the disk or network failed: the clip may be fine.
    """
    transcript = _read_transcript(clip, settings, corpus.videos)
    with video_file(corpus.videos, clip.video, clip.sizes[0]) as (video, source_sha256):
        shots: list[LipRegions | ClipError]
        try:
            if is_tracked(clip, settings):
                shots, runs = tracked_regions(video, settings, with_sound=clip.audio is None)
            else:
                whole, runs = given_regions(clip, video, settings, with_sound=clip.audio is None)
                shots = [whole]
        except OSError as error:
            raise StorageError(error.errno or 0, f"decoding failed: {error.strerror}", clip.video) from error
        parts = [
            part for number, shot in enumerate(shots, 1) for part in _parts(clip, number, len(shots), shot, settings)
        ]
        for part in parts:
            try:
                if isinstance(part.lips, ClipError):
                    raise part.lips
                yield _sample(part, part.lips, transcript, runs, source_sha256, settings, corpus)
            except ClipError as fault:
                if len(parts) == 1:
                    raise
                yield part.clip.skipped(fault.stage, fault.reason, fault.detail)


@dataclass(frozen=True)
class _Part:
    """What becomes one sample: frames from `first` up to `end`, at 25 a second, of a shot.

    Attributes:
        clip: with the key of the part.
        lips: the shot, or why it has none.
        shown: frames of the shot, one for each 25th of a second.
        first, end: of those, what belongs to the part.
        split: whether there are others.
        note: which part it is, or None.
    """

    clip: CorpusClip
    lips: LipRegions | ClipError
    shown: np.ndarray[Any, Any]
    first: int
    end: int
    split: bool
    note: str | None = None


def _parts(
    clip: CorpusClip, number: int, count: int, shot: LipRegions | ClipError, settings: BuildSettings
) -> list[_Part]:
    """The parts of a shot, which is number `number` of `count`."""
    if count > 1:
        clip = replace(clip, key=f"{clip.key}-shot{number}")
    try:
        if isinstance(shot, ClipError):
            raise shot
        with faults_of_file():
            shown = frames_at_25(shot.picture)
    except ClipError as fault:
        return [_Part(clip, fault, np.zeros(0, np.int64), 0, 0, count > 1)]
    edges = part_edges(len(shown), settings.max_minutes)
    if len(edges) == 1:
        return [_Part(clip, shot, shown, 0, len(shown), count > 1)]
    return [
        _Part(
            replace(clip, key=f"{clip.key}-part{part:03}"),
            shot,
            shown,
            *edge,
            split=True,
            note=f"part {part + 1} of {len(edges)}, from {edge[0] / FPS:.2f} s on",
        )
        for part, edge in enumerate(edges)
    ]


def _sample(
    part: _Part,
    lips: LipRegions,
    transcript: Transcript,
    runs: list[SoundRun],
    source_sha256: str,
    settings: BuildSettings,
    corpus: Corpus,
) -> Sample:
    clip, picture, decoded = part.clip, lips.picture, len(lips.centers)
    shown, frames = part.shown[part.first : part.end], part.end - part.first
    begins = lips.first_seconds + part.first / FPS
    if part.split:
        transcript = part_of_transcript(transcript, begins, begins + frames / FPS)
    notes = [part.note] if part.note else []
    notes += [transcript.note] if transcript.note else []
    if clip.set == "pretrain" and not transcript.words:
        notes.append("the transcript has no word times")
    notes += lips.notes
    notes += picture.notes
    notes += [f"{picture.corrupt} frames were repaired by the decoder"] if picture.corrupt else []
    if frames < settings.min_frames:
        raise ClipError("decode", "video_short", f"{frames} frames, at least {settings.min_frames} were expected")
    if len(part.shown) != decoded or (part.shown != np.arange(decoded)).any():
        notes.append(f"{decoded} frames were resampled to {len(part.shown)} at 25 a second")
    if any(end > (frames + FPS) / FPS for _, _, end in transcript.words):
        detail = f"a word ends after {max(word[2] for word in transcript.words)} s, the clip after {frames / FPS} s"
        raise ClipError("transcript", "transcript_invalid", detail)
    if clip.audio is not None:
        assert corpus.wavs is not None, "a clip with a wav comes with a folder of wav files"
        wav_begins = float(picture.start) - lips.first_seconds
        with opened_file(corpus.wavs, clip.audio, "sound_unreadable") as file:
            runs = read_wav(file, wav_begins, begins + frames / FPS + _SECONDS_BEYOND)
    with faults_of_file():
        wav, span = stored_sound(runs, picture, frames, part.first)
    return Sample(
        key=clip.key,
        roi=regions_of(lips.regions, shown),
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
            source_start=begins or None,
        ),
    )


def stored_mel(wav: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The mel that is stored with int16 samples (640 T,): float32 (80, 4T), the frames of the whole clip."""
    frames = len(wav) // SAMPLES_PER_FRAME * MEL_FRAMES_PER_VIDEO_FRAME
    if frames <= _MOST_MEL_FRAMES_AT_ONCE:
        mel = log_mel(torch.from_numpy(wav / np.float32(32768)))
        return mel[:, :frames].contiguous().numpy()
    # piece by piece, with what the windows at its edges reach beyond it, and scaled by the peak of the whole
    mels, peak = np.empty((N_MELS, frames), np.float32), max(-int(wav.min()), int(wav.max()))
    for first in range(0, frames, _MEL_FRAMES_OF_A_PIECE):
        end = min(first + _MEL_FRAMES_OF_A_PIECE, frames)
        before = min(first, _MEL_FRAMES_BEYOND)
        piece = wav[(first - before) * HOP_LENGTH : (end + _MEL_FRAMES_BEYOND) * HOP_LENGTH] / np.float32(32768)
        own_peak = float(np.abs(piece).max()) * 32768
        settings = MelSettings(peak=MelSettings().peak * own_peak / peak)
        mels[:, first:end] = log_mel(torch.from_numpy(piece), settings)[:, before : before + end - first].numpy()
    return mels


def _read_transcript(clip: CorpusClip, settings: BuildSettings, store: Store) -> Transcript:
    optional = settings.transcripts == "optional"
    named = settings.dataset == "grid"  # a clip's name says its words
    if clip.transcript is None and not named:
        if optional:
            return Transcript("", [])
        raise ClipError("transcript", "transcript_missing", "there is no .txt beside the video")
    try:
        check_limit("bytes", clip.sizes[1], MAX_TRANSCRIPT_FILE_BYTES)  # before it is read
        content = read_file(store, clip.transcript, "transcript_unreadable") if clip.transcript is not None else None
        if named:
            return parse_grid_transcript(clip.video, content)
        return parse_transcript(content or b"", plain=settings.dataset == "folder")
    except ValueError as error:
        if optional:
            return Transcript("", [], f"transcript not used: {error}")
        reason: Reason = "transcript_missing" if clip.transcript is None else "transcript_invalid"
        raise ClipError("transcript", reason, f"{clip.transcript or clip.video}: {error}") from error
