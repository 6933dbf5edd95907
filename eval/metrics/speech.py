"""STOI, ESTOI and PESQ: intelligibility and quality of synthesized speech (docs/method.md, From mel to waveform).

Every metric takes two waveforms at 16 kHz, float32 (L,), the original first, and compares them over their common
length. The result depends on the two waveforms alone. Where there is no figure, for want of sound say, `MetricError`
says why: such a pair is to be excluded from the metric's mean, and counted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import soxr

from eval.metrics.waveforms import MetricError, Wave, crop_to_common_length
from runtime.constants import SAMPLE_RATE


def stoi(original: Wave, generated: Wave) -> float:
    """Short-time objective intelligibility (Taal et al., 2011), of 1 at most.

    `MetricError` under 0.4 s of sound in the original, without pauses; for waveforms that cannot be compared.
    """
    return _stoi(original, generated, extended=False)


def estoi(original: Wave, generated: Wave) -> float:
    """Extended STOI (Jensen and Taal, 2016), of 1 at most; `MetricError` as `stoi`."""
    return _stoi(original, generated, extended=True)


def pesq_narrow(original: Wave, generated: Wave) -> float:
    """Narrow-band PESQ as MOS-LQO (ITU-T P.862.1) at 8 kHz, the published figure: about 1.0 to 4.5.

    Both are resampled by soxr in the quality that librosa resamples in by default. `MetricError` where PESQ finds no
    utterance, under 0.25 s or over 20 s, and for waveforms that cannot be compared.
    """
    original, generated = crop_to_common_length(original, generated)
    return _pesq(8000, resample_to_8_khz(original), resample_to_8_khz(generated), "nb")


def pesq_wide(original: Wave, generated: Wave) -> float:
    """Wide-band PESQ as MOS-LQO (ITU-T P.862.2) at 16 kHz: about 1.0 to 4.6; `MetricError` as `pesq_narrow`."""
    original, generated = crop_to_common_length(original, generated)
    return _pesq(SAMPLE_RATE, original, generated, "wb")


# 30 frames of 256 samples, 128 apart, at 10 kHz: the stretch that STOI correlates
_STOI_SECONDS = (29 * 128 + 256) / 10_000

# An utterance and a pause take 0.2 s each at least. The P.862 code has room for 50 and writes beyond it, which ends the
# process that it runs in.
_PESQ_SECONDS = 20.0


def _stoi(original: Wave, generated: Wave, extended: bool) -> float:
    original, generated = crop_to_common_length(original, generated)
    reason = f"less than {_STOI_SECONDS:.1f} s of sound, without pauses: STOI needs that much"
    if len(original) < _STOI_SECONDS * SAMPLE_RATE:
        raise MetricError(reason)
    from pystoi import stoi as measure  # brings scipy

    with warnings.catch_warnings(record=True) as warned, _seeded_noise():
        warnings.simplefilter("always")
        figure = float(measure(original, generated, SAMPLE_RATE, extended=extended))
    if any("Not enough STFT frames" in str(warning.message) for warning in warned):
        raise MetricError(reason)  # pystoi returns 1e-5, which is no score
    if not math.isfinite(figure):
        raise MetricError(f"STOI comes out as {figure}")
    return figure


@contextmanager
def _seeded_noise() -> Iterator[None]:
    """NumPy's global random numbers from a fixed state, and back where they were.

    ESTOI adds noise of 1e-16, which decides its figure where a waveform is digitally silent.
    """
    before = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(before)


def _pesq(rate: int, original: Wave, generated: Wave, mode: str) -> float:
    seconds = len(original) / rate
    if seconds > _PESQ_SECONDS:
        raise MetricError(f"{seconds:.1f} s: more than the {_PESQ_SECONDS:.0f} s that PESQ is safe for")
    import pesq

    try:
        figure = float(pesq.pesq(rate, original, generated, mode))
    except pesq.PesqError as error:
        why = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise MetricError(f"PESQ: {why}") from error
    if not math.isfinite(figure):
        raise MetricError(f"PESQ comes out as {figure}")
    return figure


def resample_to_8_khz(wave: Wave) -> Wave:
    """16 kHz to 8 kHz, (L,) -> (ceil(L / 2),), silence at the end where soxr gives a sample less."""
    half: Wave = soxr.resample(wave, SAMPLE_RATE, 8000, quality="HQ")
    length = -(-len(wave) // 2)
    return np.pad(half[:length], (0, max(0, length - len(half))))
