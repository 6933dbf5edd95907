"""Losses of a vocoder's training: two waveforms compared by their STFT magnitudes and their mels, never by samples.

A mel does not say at which phase a sound begins, so that samples cannot agree. Magnitudes of windows of several lengths
pin down what is heard of the phases (multi-resolution STFT loss: Yamamoto, Song and Kim, Parallel WaveGAN, 2020).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.mel import MelSettings, mel_filter_bank
from model.padding import valid_mask

SIZES = (256, 512, 1024)
"""Samples of the windows, each with a hop of a quarter."""

_FAINT = 1e-8
"""A power far below any sound's, that keeps the logarithm and its gradient finite."""


class SpectralLosses(NamedTuple):
    """Float32 scalars, means over the frames of all clips.

    Attributes:
        stft: over the window lengths, the mean of spectral convergence (the norm of the magnitudes' difference over
            that of the target's) and of the mean absolute difference of log magnitudes.
        mel: mean absolute difference of the mels, in natural-log units.
    """

    stft: Tensor
    mel: Tensor


def spectral_losses(
    generated: Tensor, target: Tensor, lengths: Tensor, settings: MelSettings = MelSettings()
) -> SpectralLosses:
    """Compare waveforms, both as `model.mel.analyzed_wave` has them.

    Args:
        generated, target: (B, L).
        lengths: (B,) samples of each. Frames that reach beyond them count for nothing.
        settings: the analysis of the mels.
    """
    longest = max(*SIZES, settings.n_fft)
    generated, target = (F.pad(x.float(), (0, max(0, longest - x.shape[1]))) for x in (generated, target))
    parts = [_compare(generated, target, lengths, size) for size in SIZES]
    bank = mel_filter_bank(settings).to(generated.device, non_blocking=True)
    sizes = (settings.n_fft, settings.hop_length, settings.win_length)
    mels = [(bank @ _magnitude(x, *sizes)).clamp_min(settings.floor).log() for x in (generated, target)]
    valid = _valid_frames(lengths, mels[0], settings.n_fft, settings.hop_length)
    return SpectralLosses(torch.stack(parts).mean(), _mean((mels[0] - mels[1]).abs(), valid))


def _compare(generated: Tensor, target: Tensor, lengths: Tensor, size: int) -> Tensor:
    ours, theirs = (_magnitude(x, size, size // 4, size) for x in (generated, target))
    valid = _valid_frames(lengths, ours, size, size // 4)
    off, reference = ((x * valid).square().sum() for x in (ours - theirs, theirs))
    convergence = (off.clamp_min(_FAINT) / reference.clamp_min(_FAINT)).sqrt()
    return convergence + _mean((ours.log() - theirs.log()).abs(), valid)


def _magnitude(wav: Tensor, n_fft: int, hop_length: int, win_length: int) -> Tensor:
    window = torch.hann_window(win_length, periodic=True, device=wav.device)
    spectrum = torch.view_as_real(
        torch.stft(wav, n_fft, hop_length, win_length, window, center=False, return_complex=True)
    )
    return spectrum.square().sum(dim=-1).clamp_min(_FAINT).sqrt()


def _valid_frames(lengths: Tensor, spectra: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """(B, 1, N): which frames of spectra (B, F, N) lie within their clip."""
    frames = torch.div(lengths - n_fft, hop_length, rounding_mode="floor") + 1
    return valid_mask(frames, spectra.shape[2], spectra.device)[:, None]


def _mean(x: Tensor, valid: Tensor) -> Tensor:
    return (x * valid).sum() / (valid.sum() * x.shape[1]).clamp_min(1)
