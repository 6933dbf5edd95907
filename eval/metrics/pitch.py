"""Errors of synthesized speech in fundamental frequency (F0) and in voicing.

F0 comes from pYIN (Mauch and Dixon, 2014) as librosa has it, every 10 ms, in frames of 40 ms, between 60 and 500 Hz, in
steps of 20 cents. Longer frames and finer steps call more of a pause voiced, and cost more. WORLD's trackers were the
other choice: on real clips resynthesized by Griffin-Lim from their ground-truth mels, they call most pauses voiced
(voicing errors: DIO 53%, Harvest 41%, these settings of pYIN 10%), and the pyworld that is released cannot be imported
where setuptools is missing or recent.

Frame stands against frame, without alignment: speech made from a silent video is in step with it, or is at fault.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from eval.metrics.waveforms import MetricError, Wave, crop_to_common_length
from runtime.constants import HOP_LENGTH, SAMPLE_RATE

_FMIN, _FMAX = 60.0, 500.0  # Hz
_FRAME, _HOP = 640, HOP_LENGTH
_SEMITONES_A_STEP = 0.2

_CACHED_TRACKS = 8
"""Both metrics need the tracks of a few systems beside the same original. Each takes as much memory as its waveform."""

Track = np.ndarray[Any, np.dtype[np.float64]]


def f0_error(original: Wave, generated: Wave) -> float:
    """F0 error in cents, hundredths of a semitone: the RMS of 1200 log2(generated / original), over frames voiced in
    both; `MetricError` where there is none, or for waveforms that cannot be compared."""
    one, other = _tracks(original, generated)
    both = (one > 0) & (other > 0)
    if not both.any():
        raise MetricError("no frame is voiced in both")
    cents = 1200 * np.log2(other[both] / one[both])
    return float(np.sqrt(np.square(cents).mean()))


def voicing_error(original: Wave, generated: Wave) -> float:
    """Voicing error in percent: the share of all frames that are voiced in one and not in the other; `MetricError` for
    waveforms that cannot be compared."""
    one, other = _tracks(original, generated)
    return float(100 * ((one > 0) != (other > 0)).mean())


def _tracks(original: Wave, generated: Wave) -> tuple[Track, Track]:
    one, other = crop_to_common_length(original, generated)
    return f0_track(one.tobytes()), f0_track(other.tobytes())


@lru_cache(_CACHED_TRACKS)
def f0_track(samples: bytes) -> Track:
    """F0 in Hz, 0 where unvoiced: float32 samples -> (L // 160 + 1,), the n-th frame about sample 160 n."""
    wave = np.frombuffer(samples, np.float32)
    import librosa  # takes seconds

    hz, _, _ = librosa.pyin(
        wave / np.abs(wave).max(),  # level does not matter, but squares of very soft samples underflow
        fmin=_FMIN,
        fmax=_FMAX,
        sr=SAMPLE_RATE,
        frame_length=_FRAME,
        hop_length=_HOP,
        resolution=_SEMITONES_A_STEP,
        fill_na=0.0,
    )
    track: Track = hz
    track.flags.writeable = False  # it is cached
    return track
