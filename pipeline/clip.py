"""Build one sample from the files of a clip: decode, crop, put in step, compute the mel; or say why it is skipped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from model.mel import log_mel
from pipeline.config import BuildSettings, parse_lip_box
from pipeline.corpora import CorpusClip
from pipeline.corpora.grid_transcripts import parse_grid_transcript
from pipeline.corpora.transcripts import Transcript, parse_transcript
from pipeline.media.audio import read_wav, stored_sound
from pipeline.media.coordinates import OUTSIDE_SHARE, fit_coordinates, parse_coordinates
from pipeline.media.crop import CenterCrop
from pipeline.media.decode import decode_video
from pipeline.media.errors import ClipError
from pipeline.media.sync import frames_at_25
from runtime.constants import FPS, MEL_FRAMES_PER_VIDEO_FRAME, ROI_MARGIN, SAMPLES_PER_FRAME
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
    """Read, decode, crop and analyze one clip.

    Raises:
        ClipError: the clip cannot be built; says at which stage and why.
        StorageError: the disk or network failed: the clip may be fine.
    """
    transcript = _read_transcript(clip, settings, corpus.videos)
    centers, center_of = _centers(clip, settings)
    content = _read(corpus.videos, clip.video, "video_unreadable")
    crop = CenterCrop(center_of, settings.crop_radius + ROI_MARGIN)
    picture, runs = decode_video(content, crop, with_sound=clip.audio is None)
    notes = [transcript.note] if transcript.note else []
    if clip.set == "pretrain" and not transcript.words:
        notes.append("the transcript has no word times")
    decoded = len(picture.regions)
    if centers is None:
        centers = np.tile(center_of(0), (decoded, 1))
    try:
        centers, note = fit_coordinates(centers, decoded, settings.coordinate_tolerance)
    except ValueError as error:
        raise ClipError("coordinates", "coordinates_mismatch", str(error)) from error
    if crop.outside > OUTSIDE_SHARE * decoded:
        raise ClipError(
            "coordinates",
            "coordinates_outside",
            f"lip center outside of the picture in {crop.outside} of {decoded} frames",
        )
    notes += [note] if note else []
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
        runs = read_wav(_read(corpus.wavs, clip.audio, "sound_unreadable"), float(picture.start))
    wav, span = stored_sound(runs, picture, frames)
    return Sample(
        key=clip.key,
        roi=np.stack([picture.regions[index] for index in shown]),
        mel=stored_mel(wav),
        wav=wav,
        text=transcript.text,
        meta=SampleMeta(
            set=clip.set,
            split=clip.split,
            speaker=clip.speaker,
            source=clip.video,
            source_sha256=hashlib.sha256(content).hexdigest(),
            frames=frames,
            fps=FPS,
            crop_radius=settings.crop_radius,
            lips=[(x, y) for x, y in centers[shown].tolist()],
            words=transcript.words,
            sound=span,
            notes=notes,
        ),
    )


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


def _centers(
    clip: CorpusClip, settings: BuildSettings
) -> tuple[np.ndarray[Any, Any] | None, Callable[[int], tuple[int, int]]]:
    """The coordinates of a clip, if it has any, and the lip center of its n-th frame."""
    if clip.coordinates is None:
        assert settings.lip_box is not None, "a clip without coordinates comes with a lip box"
        box = parse_lip_box(settings.lip_box)
        return None, lambda frame: box
    try:
        centers = parse_coordinates(clip.coordinates)
    except ValueError as error:
        raise ClipError("coordinates", "coordinates_invalid", str(error)) from error
    pairs = centers.tolist()
    return centers, lambda frame: pairs[min(frame, len(pairs) - 1)]
