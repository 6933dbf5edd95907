"""ESTOI loss: one minus extended short-time objective intelligibility, as far as two mels can show it.

ESTOI (Jensen and Taal, 2016) compares the magnitudes of third octaves in runs of 384 ms: each run is normalized along
time and then across bands, and what is left of two sounds is correlated. Here the magnitudes are read off the mels, so
that the gradient needs no waveform, and runs are weighted by how much of them is sound, where ESTOI takes the silent
frames out. A mel has wider frames than ESTOI (40 ms, not 26) and no phase: the loss of a mel is as a rule lower than
one minus the ESTOI of a waveform that is made of it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from model.mel import LOUDEST, MelSettings, band_centres, natural_log
from model.padding import valid_mask

_BANDS, _LOWEST_HZ = 15, 150.0
_SECONDS = 0.384
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
    """Mel frames of a run."""
    return round(_SECONDS * settings.sample_rate / settings.hop_length)


def estoi_loss(generated: Tensor, target: Tensor, lengths: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """One minus the mean correlation of two mels over the runs of all clips: nearly 0 for equal ones, about 1 for
    unrelated ones; a float32 scalar.

    Args:
        generated, target: (B, n_mels, S), the network's mels.
        lengths: (B,) valid mel frames of each. Clips shorter than a run have no part in it; 0 where all are.
        settings: the analysis of both.
    """
    run = run_frames(settings)
    if target.shape[2] < run:
        return generated.float().sum() * 0.0
    valid = valid_mask(lengths, target.shape[2], target.device)
    with torch.autocast(target.device.type, enabled=False):
        ours, theirs = (_third_octaves(x, valid, settings) for x in (generated, target))
    energies = theirs.square().sum(dim=1)
    active = valid & (energies > _SILENCE * energies.amax(dim=1, keepdim=True))
    whole = valid.unfold(1, run, _EVERY).all(dim=2)
    weights = active.unfold(1, run, _EVERY).float().mean(dim=2) * whole
    correlations = (_normalized_runs(ours, run) * _normalized_runs(theirs, run)).sum(dim=(1, 3)) / run
    return ((1 - correlations) * weights).sum() / weights.sum().clamp_min(_TINY)


def _third_octaves(mel: Tensor, valid: Tensor, settings: MelSettings) -> Tensor:
    """(B, n_mels, S) -> (B, 15, S) magnitudes, those of silence in frames that are not valid (B, S)."""
    log = natural_log(mel.float().masked_fill(~valid[:, None], -1.0), settings).clamp(_FAINTEST, LOUDEST)
    return (third_octave_bank(settings).to(mel.device, non_blocking=True) @ (2 * log).exp()).sqrt()


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
    middles = _LOWEST_HZ * 2 ** (np.arange(_BANDS)[:, None] / 3)
    hz = np.arange(0.0, settings.sample_rate / 2, 5.0)
    inside = (hz >= middles * 2 ** (-1 / 6)) & (hz < middles * 2 ** (1 / 6))
    angle = 2 * np.pi * hz / settings.sample_rate
    emphasis = 1 + settings.preemphasis**2 - 2 * settings.preemphasis * np.cos(angle)
    centres = band_centres(settings).numpy()
    lines = np.stack([np.interp(hz, centres, band) for band in np.eye(len(centres))], axis=1)
    with torch.inference_mode(False):  # it is kept, and may be needed with gradients later
        return torch.from_numpy((inside / emphasis) @ lines).float()
