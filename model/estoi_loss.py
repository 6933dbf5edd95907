"""ESTOI loss: one minus extended short-time objective intelligibility, of two waveforms, or as far as two mels show it.

ESTOI (Jensen and Taal, 2016) compares the magnitudes of third octaves in runs of 384 ms: each run is normalized along
time and then across bands, and what is left of two sounds is correlated. `estoi_loss` reads the magnitudes off mels, so
that the gradient needs no waveform; `waveform_estoi_loss` measures them in frames as short as ESTOI's own (26 ms, and a
mel's are 40). Runs are weighted by how much of them is sound, where ESTOI takes the silent frames out. What is silence
is told by the energy of the waveform, as ESTOI does; a mel has nothing of what hums below its bands, so that its pauses
are silent where ESTOI may hear them (docs/results.md).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.mel import LOUDEST, MelSettings, band_centres, natural_log
from model.padding import valid_mask

_BANDS, _LOWEST_HZ = 15, 150.0
_SECONDS = 0.384
_FRAME_SECONDS = 0.0256
_RUN = round(2 * _SECONDS / _FRAME_SECONDS)
"""Frames of a run, which overlap by half."""
_SILENCE = 1e-4
"""Of the loudest frame's energy, -40 dB: below it a frame is silence."""
_EVERY = 2
"""Frames from one run to the next. All of them would say hardly more, for twice the work."""
_FLAT_IN_TIME, _FLAT_ACROSS_BANDS = 0.03, 0.01
"""A band whose magnitude varies by less than this share of its mean counts as flat, and so does a frame that is left
with less than this norm. Without it, what hardly moves would have a gradient without bounds, most of it rounding."""
_TINY = 1e-12
_FAINTEST = -20.0
"""Natural logarithm of a mel magnitude far below any sound's: the root of 0 has no gradient."""


def run_frames(settings: MelSettings = MelSettings()) -> int:
    """Mel frames of a run: of fewer `estoi_loss` says nothing."""
    return round(_SECONDS * settings.sample_rate / settings.hop_length)


def run_samples(settings: MelSettings = MelSettings()) -> int:
    """Samples of a run: of fewer `waveform_estoi_loss` says nothing."""
    size = _frame_samples(settings)
    return size + (_RUN - 1) * (size // 2)


def _frame_samples(settings: MelSettings) -> int:
    return round(_FRAME_SECONDS * settings.sample_rate)


def estoi_loss(generated: Tensor, target: Tensor, lengths: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """One minus the mean correlation of two mels over the runs of all clips: nearly 0 for equal ones, about 1 for
    unrelated ones; a float32 scalar.

    Args:
        generated, target: (B, n_mels, S), the network's mels.
        lengths: (B,) valid mel frames of each. Clips shorter than a run have no part in it; 0 where all are.
        settings: the analysis of both.
    """
    valid = valid_mask(lengths, target.shape[2], target.device)
    with torch.autocast(target.device.type, enabled=False):
        ours, theirs = (_third_octaves(x, valid, settings) for x in (generated, target))
    return _one_minus_correlation(ours, theirs, theirs.square().sum(dim=1), valid, run_frames(settings))


def waveform_estoi_loss(
    generated: Tensor, target: Tensor, lengths: Tensor, settings: MelSettings = MelSettings()
) -> Tensor:
    """`estoi_loss` of two waveforms, both as `model.mel.analyzed_wave` has them.

    Args:
        generated, target: (B, L).
        lengths: (B,) samples of each. Frames that reach beyond them count for nothing, nor do clips shorter than a run
            (`run_samples`). Of a part of a clip its own loudest frame says what is silence.
        settings: the analysis: its sample rate, pre-emphasis and bins.
    """
    size = _frame_samples(settings)
    frames = torch.div(lengths - size, size // 2, rounding_mode="floor") + 1
    with torch.autocast(target.device.type, enabled=False):
        ours, theirs = (_powers_of_frames(x.float(), size, settings) for x in (generated, target))
        valid = valid_mask(frames, theirs.shape[2], theirs.device)
        energies = theirs.sum(dim=1).masked_fill(~valid, 0.0)
        bank = _third_octaves_of_bins(settings).to(theirs.device, non_blocking=True)
        ours, theirs = ((bank @ x).clamp_min(_TINY).sqrt() for x in (ours, theirs))
    return _one_minus_correlation(ours, theirs, energies, valid, _RUN)


def _one_minus_correlation(ours: Tensor, theirs: Tensor, energies: Tensor, valid: Tensor, run: int) -> Tensor:
    """The loss of magnitudes (B, 15, S), of which frames (B, S) are `valid`, in runs of so many. The target's energies
    (B, S) tell silence from sound."""
    if theirs.shape[2] < run:
        return ours.sum() * 0.0
    active = valid & (energies > _SILENCE * energies.amax(dim=1, keepdim=True))
    whole = valid.unfold(1, run, _EVERY).all(dim=2)
    weights = active.unfold(1, run, _EVERY).float().mean(dim=2) * whole
    correlations = (_normalized_runs(ours, run) * _normalized_runs(theirs, run)).sum(dim=(1, 3)) / run
    return ((1 - correlations) * weights).sum() / weights.sum().clamp_min(_TINY)


def _third_octaves(mel: Tensor, valid: Tensor, settings: MelSettings) -> Tensor:
    """(B, n_mels, S) -> (B, 15, S) magnitudes, those of silence in frames that are not valid (B, S)."""
    log = natural_log(mel.float().masked_fill(~valid[:, None], -1.0), settings).clamp(_FAINTEST, LOUDEST)
    return (third_octave_bank(settings).to(mel.device, non_blocking=True) @ (2 * log).exp()).sqrt()


def _powers_of_frames(wav: Tensor, size: int, settings: MelSettings) -> Tensor:
    """(B, L) -> (B, n_fft / 2 + 1, S) powers without the pre-emphasis, of frames of `size` samples that overlap by
    half."""
    wav = torch.nn.functional.pad(wav, (0, max(0, size - wav.shape[1])))
    frames = wav.unfold(1, size, size // 2) * torch.hann_window(size, device=wav.device)
    powers = torch.view_as_real(torch.fft.rfft(frames, settings.n_fft)).square().sum(dim=3).transpose(1, 2)
    hz = torch.linspace(0, settings.sample_rate / 2, settings.n_fft // 2 + 1, device=wav.device)
    return powers / _emphasis(hz, settings)[:, None]


def _normalized_runs(magnitudes: Tensor, run: int) -> Tensor:
    """(B, 15, S) magnitudes -> (B, 15, runs, frames of a run), of zero mean and norm 1 in each band's frames, and then
    in each frame's bands."""
    runs = magnitudes.unfold(2, run, _EVERY)
    means = runs.mean(dim=3, keepdim=True)
    off = runs - means
    runs = off / (off.square().sum(dim=3, keepdim=True) + run * (_FLAT_IN_TIME * means).square()).sqrt()
    off = runs - runs.mean(dim=1, keepdim=True)
    return off / (off.square().sum(dim=1, keepdim=True) + _FLAT_ACROSS_BANDS**2).sqrt()


@lru_cache
def third_octave_bank(settings: MelSettings = MelSettings()) -> Tensor:
    """float32 (15, n_mels) on the CPU: what the power of each mel band adds to the energy of each third octave, from
    150 Hz on. Powers lie on straight lines between the centres of mel bands, and the pre-emphasis is undone."""
    hz = np.arange(0.0, settings.sample_rate / 2, 5.0)
    centres = band_centres(settings).numpy()
    lines = np.stack([np.interp(hz, centres, band) for band in np.eye(len(centres))], axis=1)
    with torch.inference_mode(False):  # it is kept, and may be needed with gradients later
        return torch.from_numpy((_inside(hz) / _emphasis(torch.from_numpy(hz), settings).numpy()) @ lines).float()


@lru_cache
def _third_octaves_of_bins(settings: MelSettings) -> Tensor:
    """float32 (15, n_fft / 2 + 1) on the CPU: 1 for the bins of each third octave."""
    with torch.inference_mode(False):
        return torch.from_numpy(_inside(np.fft.rfftfreq(settings.n_fft, 1 / settings.sample_rate))).float()


def _inside(hz: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """bool (15, N): which of N frequencies each third octave has."""
    middles = _LOWEST_HZ * 2 ** (np.arange(_BANDS)[:, None] / 3)
    inside: np.ndarray[Any, Any] = (hz >= middles * 2 ** (-1 / 6)) & (hz < middles * 2 ** (1 / 6))
    return inside


def _emphasis(hz: Tensor, settings: MelSettings) -> Tensor:
    """What the pre-emphasis multiplies the power at frequencies (N,) by."""
    cosine = (2 * math.pi * hz / settings.sample_rate).cos()
    return 1 + settings.preemphasis**2 - 2 * settings.preemphasis * cosine
