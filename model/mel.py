"""From a waveform to the network's log-mel, exactly as the published system measures it (docs/method.md, Audio).

Peak to 0.9, pre-emphasis, clip, 1024-point STFT every 10 ms, 80 Slaney bands, natural log with a floor, mapped so that
silence is -1. One function for the pipeline, for training on the device, and for whoever checks a dataset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from runtime.constants import HOP_LENGTH, N_MELS, SAMPLE_RATE


@dataclass(frozen=True)
class MelSettings:
    """The analysis. The defaults are the published ones, and what shards are built with.

    Attributes:
        sample_rate: Hz.
        n_fft, hop_length, win_length: in samples; the window is a periodic Hann, centred in n_fft.
        n_mels: bands, Slaney scale and area norm.
        fmin, fmax: Hz.
        preemphasis: y[n] = x[n] - preemphasis * x[n - 1].
        peak: the waveform is scaled to this peak first.
        floor: the smallest mel magnitude; its logarithm is mapped to -1, a magnitude of 1 to +1.

    Raises:
        ValueError: numbers that no analysis has.
    """

    sample_rate: int = SAMPLE_RATE
    n_fft: int = 1024
    hop_length: int = HOP_LENGTH
    win_length: int = 640
    n_mels: int = N_MELS
    fmin: float = 55.0
    fmax: float = 7500.0
    preemphasis: float = 0.97
    peak: float = 0.9
    floor: float = 1e-5

    def __post_init__(self) -> None:
        sizes = min(self.sample_rate, self.hop_length, self.n_mels, self.win_length) >= 1
        if not sizes or not self.win_length <= self.n_fft <= 64 * self.hop_length:
            raise ValueError(f"sizes of a mel must be positive, win_length <= n_fft <= 64 hop_length: found {self}")
        if not 0 <= self.fmin < self.fmax or not 0 < self.floor < 1 or self.peak <= 0:
            raise ValueError(f"a mel has 0 <= fmin < fmax, a floor between 0 and 1 and a peak above 0: found {self}")


def settings_that_differ(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """`fmax 8000 (expected 7500.0), ...`: the settings of an analysis that are others than expected; empty for none."""
    return ", ".join(
        f"{name} {found.get(name)} (expected {expected.get(name)})"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    )


def log_mel(wav: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """The network's mel of whole waveforms.

    Args:
        wav: (..., L) floating-point samples, L > n_fft / 2. Each is scaled by its own peak, so any unit will do.
        settings: the analysis.

    Returns:
        float32 (..., n_mels, L // hop_length + 1). -1 is silence; 0 is mid-level; values may pass 1. A waveform of
        zeros gives -1 throughout.

    Raises:
        ValueError: the waveform is shorter than the reflection at its ends needs.
    """
    samples = wav.shape[-1]
    flat = wav.reshape(math.prod(wav.shape[:-1]), samples)
    mel = log_mel_batch(flat, torch.full((len(flat),), samples), settings)
    return mel.reshape(*wav.shape[:-1], *mel.shape[1:])


def log_mel_batch(wav: Tensor, lengths: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """The network's mel of waveforms of several lengths: of each, what `log_mel` makes of it alone.

    Each is scaled by its own peak and reflected at its own end. Samples beyond a waveform's length count for nothing.

    Args:
        wav: (B, L) floating-point samples, padded at the end with anything.
        lengths: (B,) samples of each. On the CPU they are looked at, without waiting for the device; on wav's device
            they are trusted, and a waveform too short to be reflected comes out as silence.
        settings: the analysis.

    Returns:
        float32 (B, n_mels, L // hop_length + 1); -1, silence, beyond each waveform's lengths // hop_length + 1 frames.

    Raises:
        ValueError: a waveform shorter than the reflection at its ends needs, or longer than L.
    """
    whole = _check_lengths(wav, lengths, settings)
    mel = mel_of_analyzed(analyzed_wave(wav, lengths, settings), settings)
    if whole:
        return mel
    lengths = lengths.to(wav.device, non_blocking=True)[:, None]
    frames = torch.arange(mel.shape[-1], device=wav.device)
    silent = (frames > lengths // settings.hop_length) | (lengths <= settings.n_fft // 2)
    return mel.masked_fill(silent[:, None], -1.0)


def analyzed_wave(wav: Tensor, lengths: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """What a mel is measured on: waveforms scaled to the peak, pre-emphasized, clipped, and reflected at their ends.

    Arguments and errors as of `log_mel_batch`.

    Returns:
        float32 (B, L + n_fft): sample i of a waveform is at i + n_fft / 2, and frame j of its mel is of the n_fft
        samples from hop_length * j on. Past a waveform's reflection it means nothing.
    """
    whole = _check_lengths(wav, lengths, settings)
    reach, samples = settings.n_fft // 2, wav.shape[-1]
    lengths = lengths.to(wav.device, non_blocking=True)[:, None]
    if not whole:
        wav = wav.masked_fill(torch.arange(samples, device=wav.device) >= lengths, 0.0)
    wav = wav.double()
    loudest = wav.abs().amax(dim=-1, keepdim=True)
    wav = wav / torch.where(loudest > 0, loudest, torch.ones_like(loudest)) * settings.peak
    wav = torch.cat([wav[:, :1], wav[:, 1:] - settings.preemphasis * wav[:, :-1]], dim=-1)
    # float32 from here on, as published: its rounding is 1e-6 of the peak, far below the floor
    wav = wav.float().clamp(-1.0, 1.0)
    if whole:
        return torch.nn.functional.pad(wav[:, None], (reach, reach), mode="reflect").squeeze(1)
    # a reflection at each waveform's own end; what lies further is read by frames of silence only
    position = torch.arange(-reach, samples + reach, device=wav.device).abs()
    position = torch.where(position < lengths, position, 2 * (lengths - 1) - position)
    return wav.gather(1, position.clamp(0, samples - 1))


def mel_of_analyzed(wav: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """The network's mel of samples as `analyzed_wave` gives them, or of a part of them: float32 (B, L), L >= n_fft, ->
    float32 (B, n_mels, (L - n_fft) // hop_length + 1)."""
    magnitude = _stft_magnitude(wav, settings)
    with torch.autocast(wav.device.type, enabled=False):  # bfloat16 would be off by a percent
        mel = mel_filter_bank(settings).to(magnitude, non_blocking=True) @ magnitude
    log_floor = math.log(settings.floor)
    return (mel.clamp_min(settings.floor).log() - log_floor) / (-log_floor / 2) - 1


def _check_lengths(wav: Tensor, lengths: Tensor, settings: MelSettings) -> bool:
    """Whether no waveform of a batch is padded, so that nothing is to be masked; refuses what `log_mel_batch` does."""
    reach, samples = settings.n_fft // 2, wav.shape[-1]
    if wav.ndim != 2 or lengths.shape != wav.shape[:1]:
        raise ValueError(f"waveforms {tuple(wav.shape)}, lengths {tuple(lengths.shape)}: expected (B, L) and (B,)")
    if samples <= reach:
        raise ValueError(f"{samples} samples are too few for a mel: more than {reach} are needed")
    if lengths.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    wrong = ((lengths <= reach) | (lengths > samples)).nonzero().flatten().tolist()
    if wrong:
        found = f"waveforms {wrong} have {lengths[wrong].tolist()} samples"
        raise ValueError(f"{found}: expected more than {reach}, which a mel needs, and at most {samples}, L")
    return wav.device.type == "cpu" and bool((lengths == samples).all())


def clip_mels(wav: Tensor, lengths: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """The mels of clips as networks are to generate them, float32 (B, n_mels, L // hop_length): a frame a whole hop,
    without the last, half of which is reflection; -1, silence, beyond each clip's lengths // hop_length frames.
    Arguments as of `log_mel_batch`, lengths on the CPU."""
    mel = log_mel_batch(wav, lengths, settings)[..., : wav.shape[1] // settings.hop_length]
    frames = (lengths // settings.hop_length).to(wav.device, non_blocking=True)
    beyond = torch.arange(mel.shape[2], device=wav.device) >= frames[:, None, None]
    return mel.masked_fill(beyond, -1.0)


LOUDEST = 10.0
"""Natural logarithm of a mel magnitude a thousand times any sound's: squares of what is far beyond would overflow."""


def natural_log(mel: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """The network's mel as the natural logarithm of mel magnitudes, where -1 becomes log(floor) and +1 becomes 0."""
    log_floor = math.log(settings.floor)
    return (mel + 1) * (-log_floor / 2) + log_floor


def _stft_magnitude(wav: Tensor, settings: MelSettings) -> Tensor:
    """(B, L + n_fft) -> (B, n_fft / 2 + 1, L // hop_length + 1)"""
    spectrum = torch.stft(
        wav,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        win_length=settings.win_length,
        window=torch.hann_window(settings.win_length, periodic=True, dtype=wav.dtype, device=wav.device),
        center=False,
        return_complex=True,
    )
    # a square root of squares is half as costly as the careful |z|, and as exact where nothing over- or underflows
    squares = torch.view_as_real(spectrum).square()
    return (squares[..., 0] + squares[..., 1]).sqrt()


@lru_cache
def mel_filter_bank(settings: MelSettings = MelSettings()) -> Tensor:
    """Triangular filters on the Slaney mel scale, each of area 1 (Slaney, Auditory Toolbox, 1998; librosa's default).

    By hand: a quarter of librosa's weights differ in float32's last bit, and with them every stored mel would; and its
    import takes seconds that each worker would wait.

    Returns:
        float32 (n_mels, n_fft / 2 + 1) on the CPU.
    """
    with torch.inference_mode(False):  # it is kept, and may be needed with gradients later
        bins = torch.linspace(0, settings.sample_rate / 2, settings.n_fft // 2 + 1, dtype=torch.float64)
        edges = _band_edges(settings)
        lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        rising = (bins - lower) / (centre - lower)
        falling = (upper - bins) / (upper - centre)
        triangles = torch.minimum(rising, falling).clamp_min(0)
        return (triangles * 2 / (upper - lower)).float()


def band_centres(settings: MelSettings = MelSettings()) -> Tensor:
    """float64 (n_mels,) Hz, on the CPU: the peaks of the bands' triangles."""
    return _band_edges(settings)[1:-1]


def _band_edges(settings: MelSettings) -> Tensor:
    """float64 (n_mels + 2,) Hz: each band runs from its edge to the next but one."""
    ends = _hz_to_mel(torch.tensor([settings.fmin, settings.fmax], dtype=torch.float64))
    return _mel_to_hz(torch.linspace(float(ends[0]), float(ends[1]), settings.n_mels + 2, dtype=torch.float64))


# The Slaney scale: linear up to 1 kHz at 200/3 Hz a mel, then logarithmic, 27 mels a factor of 6.4.
_KNEE_HZ, _HZ_PER_MEL, _LOG_STEP = 1000.0, 200.0 / 3, math.log(6.4) / 27
_KNEE_MEL = _KNEE_HZ / _HZ_PER_MEL


def _hz_to_mel(hz: Tensor) -> Tensor:
    logarithmic = _KNEE_MEL + (hz.clamp_min(_KNEE_HZ) / _KNEE_HZ).log() / _LOG_STEP
    return torch.where(hz < _KNEE_HZ, hz / _HZ_PER_MEL, logarithmic)


def _mel_to_hz(mel: Tensor) -> Tensor:
    logarithmic = _KNEE_HZ * ((mel.clamp_min(_KNEE_MEL) - _KNEE_MEL) * _LOG_STEP).exp()
    return torch.where(mel < _KNEE_MEL, mel * _HZ_PER_MEL, logarithmic)
