"""Losses of a vocoder's training: two waveforms compared by their STFT magnitudes and their mels, never by samples.

A mel does not say at which phase a sound begins, so that samples cannot agree. Magnitudes of windows of several lengths
pin down what is heard of the phases (multi-resolution STFT loss: Yamamoto, Song and Kim, Parallel WaveGAN, 2020), and
so do mels of them (multi-scale mel loss: Kumar et al., Improved RVQGAN, 2023), which weigh low frequencies more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.mel import MelSettings, mel_filter_bank
from model.padding import valid_mask

SIZES = (256, 512, 1024)
"""Samples of the windows, each with a hop of a quarter and a mel band for every 12 samples."""

_FAINT = 1e-8
"""A power far below any sound's, that keeps the logarithm and its gradient finite."""


class SpectralLosses(NamedTuple):
    """Float32 scalars, means over the frames of all clips.

    Attributes:
        stft: over the window lengths, the mean of spectral convergence (the norm of the magnitudes' difference over
            that of the target's) and of the mean absolute difference of log magnitudes.
        bands: over the window lengths, the mean absolute difference of mels, in natural-log units.
        mel: the same of the analysis's mel.
    """

    stft: Tensor
    bands: Tensor
    mel: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimized."""
        return self.stft + self.bands + 2 * self.mel


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
    scales = [replace(settings, n_fft=size, hop_length=size // 4, win_length=size, n_mels=size // 12) for size in SIZES]
    parts = [_compare(generated, target, lengths, scale) for scale in scales]
    stft, bands = (torch.stack(part).mean() for part in zip(*parts, strict=True))
    return SpectralLosses(stft, bands, _compare(generated, target, lengths, settings)[1])


def _compare(generated: Tensor, target: Tensor, lengths: Tensor, scale: MelSettings) -> tuple[Tensor, Tensor]:
    """STFT and mel losses of windows of one length."""
    ours, theirs = (_magnitude(x, scale) for x in (generated, target))
    frames = torch.div(lengths - scale.n_fft, scale.hop_length, rounding_mode="floor") + 1
    valid = valid_mask(frames, ours.shape[2], ours.device)[:, None]  # frames that lie within their clip
    off, reference = ((x * valid).square().sum() for x in (ours - theirs, theirs))
    convergence = (off.clamp_min(_FAINT) / reference.clamp_min(_FAINT)).sqrt()
    bank = mel_filter_bank(scale).to(ours.device, non_blocking=True)
    mels = [(bank @ x).clamp_min(scale.floor).log() for x in (ours, theirs)]
    return (
        convergence + _mean((ours.log() - theirs.log()).abs(), valid),
        _mean((mels[0] - mels[1]).abs(), valid),
    )


def _magnitude(wav: Tensor, scale: MelSettings) -> Tensor:
    window = torch.hann_window(scale.win_length, periodic=True, device=wav.device)
    sizes = (scale.n_fft, scale.hop_length, scale.win_length)
    spectrum = torch.view_as_real(torch.stft(wav, *sizes, window, center=False, return_complex=True))
    return spectrum.square().sum(dim=-1).clamp_min(_FAINT).sqrt()


def _mean(x: Tensor, valid: Tensor) -> Tensor:
    return (x * valid).sum() / (valid.sum() * x.shape[1]).clamp_min(1)
