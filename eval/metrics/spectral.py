"""Log-spectral distance (LSD) and mel-cepstral distortion (MCD) of synthesized speech, in dB.

Both waveforms are compared over their common length, in whole frames: samples after the last one are ignored. NumPy
alone, but for the alignment. Published figures of either measure differ by the analysis more than systems do, so these
are to be compared with each other only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eval.metrics.waveforms import MetricError, Wave, crop_to_common_length
from runtime.constants import SAMPLE_RATE

Spectrum = np.ndarray[Any, np.dtype[np.float64]]

_LSD_WINDOW, _LSD_HOP = 512, 128  # 32 ms, 8 ms

# The power that rounding to 16 bits leaves in a bin: variance 2 ** -30 / 12, times the sum of the window's squares,
# 192. Without a floor, digital silence would be infinitely far from anything else.
_LSD_FLOOR = 192 * 2.0**-30 / 12

_MCD_WINDOW, _MCD_HOP, _MCD_FFT = 400, 80, 512  # 25 ms, 5 ms
_MCD_BANDS = 40
_MCD_ORDER = 24
_MCD_FLOOR = 1e-8  # -80 dB, relative to the strongest band, so that neither level nor digital silence matters

MAX_FRAMES = 2000
"""In a stretch aligned at once, 10 s of 5 ms: librosa holds the whole matrix, 28 bytes for each pair of frames."""


def lsd(original: Wave, generated: Wave) -> float:
    """Log-spectral distance in dB: of each frame the RMS, over frequency, of the difference of both power spectra in dB
    (Gray and Markel, Distance measures for speech processing, 1976), then the mean over frames.

    Frames of 32 ms (Hann) every 8 ms, 0 to 8 kHz in 257 bins; power below what rounding to 16 bits leaves counts as
    that much. Levels count: a wave and its double are 6.02 dB apart, so scale both alike first. Frame stands against
    frame, without alignment. `MetricError` under 32 ms, and for waveforms that cannot be compared.
    """
    one, other = (
        10 * np.log10(np.maximum(_power(wave, _LSD_WINDOW, _LSD_HOP, _LSD_WINDOW), _LSD_FLOOR))
        for wave in crop_to_common_length(original, generated)
    )
    return float(np.sqrt(np.square(one - other).mean(axis=1)).mean())


def mcd(original: Wave, generated: Wave) -> float:
    """Mel-cepstral distortion in dB, (10 / ln 10) sqrt(2 (sum over c of (difference of the c-th coefficients)^2)), with
    c from 1 to 24 (Kubichek, Mel-cepstral distance measure for objective speech quality assessment, 1993).

    The mel cepstrum is the cosine transform of the logarithms of the power in 40 mel bands (triangles evenly spaced on
    2595 log10(1 + f / 700), 0 to 8 kHz; frames of 25 ms, Hann, every 5 ms), scaled so that the figure is the RMS
    difference, in dB, of the two spectra as 24 coefficients draw them. c0, the level, is not among them. Figures on the
    mel-generalized cepstra of SPTK or WORLD are of the same kind but not comparable.

    Frames are aligned by dynamic time warping (steps of one frame in either or both, of equal weight): the figure is
    the mean over the pairs of frames on the path of least sum. Clips of 20 s and more are aligned in stretches of 10 s.
    `MetricError` under 25 ms, and for waveforms that cannot be compared.
    """
    total, pairs = dtw(*(mel_cepstrum(wave) for wave in crop_to_common_length(original, generated)))
    return 10 / math.log(10) * math.sqrt(2) * total / pairs


def _power(wave: Wave, window: int, hop: int, n_fft: int) -> Spectrum:
    """(L,) -> (frames, n_fft / 2 + 1), whole frames only."""
    if len(wave) < window:
        raise MetricError(f"{len(wave)} samples: less than a frame of {1000 * window / SAMPLE_RATE:.0f} ms")
    frames = np.lib.stride_tricks.sliding_window_view(wave, window)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    spectrum = np.fft.rfft(frames * hann, n_fft)
    power: Spectrum = spectrum.real**2 + spectrum.imag**2
    return power


def mel_cepstrum(wave: Wave) -> Spectrum:
    """(L,) -> (frames, 24): c1 and on, such that ln power is about c0 + 2 sum of c cos(c-th wave over the bands)."""
    import librosa  # takes seconds
    from scipy import fft

    bands = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=_MCD_FFT, n_mels=_MCD_BANDS, htk=True, norm=None, dtype=np.float64
    )
    power = _power(wave, _MCD_WINDOW, _MCD_HOP, _MCD_FFT) @ bands.T
    floor = max(power.max() * _MCD_FLOOR, np.finfo(np.float64).tiny)  # of what is silent in every whole frame, too
    cepstrum: Spectrum = fft.dct(np.log(np.maximum(power, floor)), norm="forward")[:, 1 : _MCD_ORDER + 1]
    return cepstrum


def dtw(one: Spectrum, other: Spectrum) -> tuple[float, int]:
    """Cost of the path of least cost between float64 (N, C) and (M, C), N and M at least 1, and the number of pairs on
    it.

    A path leads from the first pair to the last; each step advances by one frame in either sequence or in both, and
    costs the Euclidean distance of the pair it leads to. From 2 `MAX_FRAMES` on, sequences are aligned in stretches of
    `MAX_FRAMES`, the last one with the remainder: they are in step, so no warp is nearly as long as a stretch.
    """
    import librosa  # takes seconds, and compiles on its first use

    cost, pairs = 0.0, 0
    stretches = max(1, min(len(one), len(other)) // MAX_FRAMES)
    for stretch in range(stretches):
        start = stretch * MAX_FRAMES
        stop = start + MAX_FRAMES if stretch < stretches - 1 else None
        summed, path = librosa.sequence.dtw(one[start:stop].T, other[start:stop].T)
        cost, pairs = cost + float(summed[-1, -1]), pairs + len(path)
    return cost, pairs
