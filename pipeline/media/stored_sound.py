"""Read the audio of a clip, the video's own or a ready-made wav beside it, and check it before it is stored."""

from __future__ import annotations

import math
from typing import IO, Any

import numpy as np
import soundfile

from pipeline.media.decoding_limits import check_sound
from pipeline.media.errors import FAULTS, ClipError
from pipeline.media.picture import Picture
from pipeline.media.sound_runs import SoundRun
from pipeline.media.spool import Spool
from pipeline.media.sync import sound_at_16k, to_pcm16
from runtime.constants import FPS

_BLOCK = 1 << 18
"""Samples of each channel that are read at once."""


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
    check_sound(1, runs[0].rate)
    sound, span = sound_at_16k(runs, float(picture.start) + first / FPS, frames)
    if span[0] >= span[1]:
        raise ClipError("sound", "sound_missing", "the sound begins after the picture ends, or ends before it begins")
    if not np.isfinite(sound).all():
        raise ClipError("sound", "sound_unreadable", "samples are not finite numbers")
    samples = to_pcm16(sound)
    if not samples.any():
        raise ClipError("sound", "sound_silent", "every sample is zero")
    return samples, span


def read_wav(file: IO[bytes], start: float, seconds: float) -> list[SoundRun]:
    """A ready-made wav, whose first sample belongs to the first frame, at `start` seconds; of a longer one, the first
    `seconds`.

    Raises:
        ClipError: it is not a readable sound file, or has no samples.
    """
    samples = Spool()
    try:
        with soundfile.SoundFile(file) as sound:
            rate = sound.samplerate
            check_sound(sound.channels, rate)
            left = math.ceil(seconds * rate)
            while left > len(samples):
                block = sound.read(min(_BLOCK, left - len(samples)), dtype="float32", always_2d=True)
                if not len(block):
                    break
                samples.append(block.mean(axis=1))
    except (soundfile.SoundFileError, *FAULTS) as error:  # a header may claim anything
        raise ClipError("sound", "sound_unreadable", f"the wav file cannot be read: {error}") from error
    if not len(samples):
        raise ClipError("sound", "sound_missing", "the wav file has no samples")
    return [SoundRun(rate, start, samples, count=len(samples))]
