"""Read the audio of a clip, the video's own or a ready-made wav beside it, and check it before it is stored."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile

from pipeline.media.decode import Picture
from pipeline.media.errors import ClipError
from pipeline.media.sound_runs import SoundRun
from pipeline.media.spool import Spool
from pipeline.media.sync import sound_at_16k, to_pcm16
from runtime.constants import FPS

_LOWEST_RATE, _HIGHEST_RATE = 4_000, 384_000


def stored_sound(
    runs: list[SoundRun], picture: Picture, frames: int, first: int = 0
) -> tuple[np.ndarray[Any, Any], tuple[int, int]]:
    """The samples to store, in step with `frames` frames from frame `first` on.

    Returns:
        int16 (640 T,), and the range of samples that the source had.

    Raises:
        ClipError: there is no sound, none while the picture lasts, or nothing but zeros.
    """
    if not runs:
        raise ClipError("sound", "sound_missing", "the file has no sound")
    if not _LOWEST_RATE <= runs[0].rate <= _HIGHEST_RATE:
        raise ClipError("sound", "sound_unreadable", f"a sampling rate of {runs[0].rate} Hz is none of speech")
    sound, span = sound_at_16k(runs, float(picture.start) + first / FPS, frames)
    if span[0] >= span[1]:
        raise ClipError("sound", "sound_missing", "the sound begins after the picture ends, or ends before it begins")
    if not np.isfinite(sound).all():
        raise ClipError("sound", "sound_unreadable", "samples are not finite numbers")
    samples = to_pcm16(sound)
    if not samples.any():
        raise ClipError("sound", "sound_silent", "every sample is zero")
    return samples, span


def read_wav(content: bytes, start: float) -> list[SoundRun]:
    """A ready-made wav, whose first sample belongs to the first frame, at `start` seconds.

    Raises:
        ClipError: it is not a readable sound file, or has no samples.
    """
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, MemoryError) as error:  # a header may claim any number of samples
        raise ClipError("sound", "sound_unreadable", f"the wav file cannot be read: {error}") from error
    if not len(samples):
        raise ClipError("sound", "sound_missing", "the wav file has no samples")
    return [SoundRun(rate, start, Spool(samples.mean(axis=1)), count=len(samples))]
