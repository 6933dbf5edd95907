"""From mel magnitudes back to the STFT magnitudes under them: 80 numbers a frame for 513 unknowns.

`transposed` is the published answer: it smears each band over its triangle, twice. Its sound is muffled, its level
arbitrary. `nonnegative` solves for magnitudes that have this very mel: the multiplicative updates of Lee and Seung
(2001) for the Kullback-Leibler divergence (elsewhere Richardson and Lucy's), from a smooth start. They stay
non-negative, need no step size, and are two matrix products for a whole batch.

Many magnitudes have the same mel, since upper bands span ten bins and more. Which of them a waveform can have, only the
waveform knows: `mel_constraint` leaves the choice to Griffin-Lim. In each round it takes the magnitudes of the waveform
so far and applies one such update, so that harmonics may grow inside a band (compare Masuyama, Ueno and Ono, 2023, who
solve for mel and phase together by ADMM).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.mel import MelSettings, mel_filter_bank
from model.vocoders.griffin_lim import TINY_POWER, Constraint, power

PUBLISHED_GAIN = 1000.0
TINY_MEL = 1e-12  # seven orders below the floor of a stored mel: it only keeps 0 / 0 from being NaN


def transposed(mel: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """The published inversion: the transposed filter bank, times 1000 (docs/method.md, From mel to waveform).

    Args:
        mel: (..., n_mels, N) magnitudes, not logarithms.

    Returns:
        float32 (..., F, N). Speech made from them is about 1.5 times as loud as it was, and clips now and then.
    """
    return PUBLISHED_GAIN * (mel_filter_bank(settings).to(mel.device).T @ mel.float())


def nonnegative(mel: Tensor, updates: int = 20, settings: MelSettings = MelSettings()) -> Tensor:
    """Non-negative magnitudes whose mel is the given one (where any has it; else nearest in the sense of the updates).

    Args:
        mel: (..., n_mels, N) magnitudes, not logarithms, none negative.
        updates: 0 gives the smooth start, levels of bands interpolated over the bins. 20 bring the mel of real speech
            to within 2e-4.

    Returns:
        float32 (..., F, N). Bins outside every band are 0.
    """
    bank, spread = _bank_and_spread(settings, mel.device)
    target = mel.float().transpose(-1, -2)
    magnitude = (target / bank.sum(dim=1)) @ spread
    for _ in range(updates):
        magnitude = magnitude * _correction(magnitude, target, bank, spread)
    return magnitude.transpose(-1, -2)


def mel_constraint(mel: Tensor, settings: MelSettings = MelSettings()) -> Constraint:
    """A constraint for `reconstruct`: the spectra's mel is to be the given one, their phases are kept.

    Args:
        mel: (B, n_mels, N) magnitudes, not logarithms; 0 in padded frames.
    """
    bank, spread = _bank_and_spread(settings, mel.device)
    target = mel.float().transpose(1, 2).contiguous()

    def constrain(spectrum: Tensor) -> Tensor:
        magnitude = power(spectrum).clamp_min_(TINY_POWER).sqrt_()
        return spectrum.mul_(_correction(magnitude, target, bank, spread))

    return constrain


def _correction(magnitude: Tensor, target: Tensor, bank: Tensor, spread: Tensor) -> Tensor:
    """What to multiply magnitudes (..., N, F) by, for their mel to come nearer the target (..., N, n_mels)."""
    return (target / (magnitude @ bank.T).clamp_min(TINY_MEL)) @ spread


def _bank_and_spread(settings: MelSettings, device: torch.device) -> tuple[Tensor, Tensor]:
    """The filter bank (n_mels, F), and the same with each bin's weights summing to 1, or 0 outside every band."""
    bank = mel_filter_bank(settings).to(device)
    covered = bank.sum(dim=0)
    return bank, torch.where(covered > 0, bank / covered.where(covered > 0, 1.0), 0.0)
