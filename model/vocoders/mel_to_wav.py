"""From the network's mel to a waveform (docs/method.md, From mel to waveform, and scores).

By a neural vocoder, or by Griffin-Lim: natural logarithm, exp, magnitudes under the mel, Griffin-Lim from seeded random
phases; then de-emphasis and clip. Under the 80 bands of a frame lie 513 unknown STFT magnitudes.
`PUBLISHED_GRIFFIN_LIM` takes them as the published system did: smeared
over the bands' triangles, muffled, their level arbitrary. Many magnitudes have the same mel, since upper bands span ten
bins and more, and only the waveform knows which of them it can have. So the default leaves the choice to Griffin-Lim,
which keeps to the mel itself: harmonics may grow inside a band, and the sound is nearer in half as many rounds, at the
level that the analysis measured (compare Masuyama, Ueno and Ono, 2023, who solve for mel and phase by ADMM).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from model.mel import LOUDEST, MelSettings, mel_filter_bank, natural_log
from model.vocoders.griffin_lim import (
    TINY_POWER,
    Constraint,
    draw_uniform,
    griffin_lim,
    power,
    reconstruct,
    with_phase,
)
from model.vocoders.neural_vocoder import Vocoder
from model.vocoders.overlap_add import zero_past

Inversion = Literal["published", "nonnegative", "joint"]

_JOINT_START = 5  # updates before the first round: more change no score
_TINY_MEL = 1e-12  # seven orders below the floor of a stored mel: it only keeps 0 / 0 from being NaN


@dataclass(frozen=True)
class GriffinLimSettings:
    """How Griffin-Lim makes a waveform of a mel.

    Attributes:
        inversion: `published`, the transposed filter bank times 1000; `nonnegative`, magnitudes that have the mel;
            `joint`, magnitudes left to Griffin-Lim, which keeps to the mel instead.
        rounds: of Griffin-Lim.
        momentum: of Griffin-Lim, 0 to 1: 0 is the published form, 0.99 the fast one.
        mel: the analysis that made the mel.
    """

    inversion: Inversion = "joint"
    rounds: int = 30
    momentum: float = 0.99
    mel: MelSettings = MelSettings()

    def __post_init__(self) -> None:
        if self.inversion not in get_args(Inversion):
            raise ValueError(f"inversion {self.inversion!r}: expected one of {', '.join(get_args(Inversion))}")
        if self.rounds < 0 or not 0 <= self.momentum <= 1:
            raise ValueError(f"rounds {self.rounds}, momentum {self.momentum}: expected 0 or more, and 0 to 1")


DEFAULT_GRIFFIN_LIM = GriffinLimSettings()
PUBLISHED_GRIFFIN_LIM = GriffinLimSettings(inversion="published", rounds=60, momentum=0.0)


def sample_counts(lengths: Tensor, mel: MelSettings = MelSettings()) -> Tensor:
    """(B,) samples of the waveforms of mels with these frames (B,): a hop from each frame to the next."""
    return (lengths - 1).clamp_min(0) * mel.hop_length


def mel_to_wav(
    mel: Tensor,
    lengths: Tensor | None = None,
    seeds: Sequence[int] | None = None,
    vocoder: GriffinLimSettings | Vocoder = DEFAULT_GRIFFIN_LIM,
) -> Tensor:
    """Waveforms of the network's mels.

    Args:
        mel: (B, n_mels, S) as `model.mel.log_mel` gives it, S >= 2.
        lengths: (B,) mel frames of each clip, 0 to S; default: S. What lies past them is not looked at. On the CPU they
            are checked; on the mel's device they are trusted, so as not to wait for it.
        seeds: one a clip, for the start phases of Griffin-Lim; default: 0 for each. A clip's waveform depends on its
            own mel and seed, not on the batch it is in. A neural vocoder draws nothing.
        vocoder: Griffin-Lim of the default, of `PUBLISHED_GRIFFIN_LIM` or of your own settings; or a neural one, on the
            mel's device.

    Returns:
        float32 (B, (S - 1) * hop_length) in [-1, 1], zero past each clip's own (length - 1) * hop_length. Silence (-1
        throughout) comes back from Griffin-Lim as noise below 0.0005 (-66 dB); a clip of 0 or 1 frame as zeros.

    Raises:
        ValueError: the mel's shape, the number of lengths or seeds, or a length is not as above.
    """
    analysis = analysis_of(vocoder)
    if mel.dim() != 3 or mel.shape[1] != analysis.n_mels or mel.shape[2] < 2:
        raise ValueError(f"mels {tuple(mel.shape)}: expected (batch, {analysis.n_mels}, 2 frames or more)")
    lengths = torch.full((len(mel),), mel.shape[2]) if lengths is None else lengths
    seeds = [0] * len(mel) if seeds is None else seeds
    for name, given in (("lengths", lengths), ("seeds", seeds)):
        if len(given) != len(mel):
            raise ValueError(f"{len(given)} {name} for {len(mel)} mels: expected one for each")
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = lengths[(lengths < 0) | (lengths > mel.shape[2])].tolist()
        if wrong:
            raise ValueError(f"lengths {wrong}: expected 0 to {mel.shape[2]}, the frames of the mels")
    lengths = lengths.to(mel.device, non_blocking=True)
    # in bfloat16, products with the filter bank would be off by half a percent
    with torch.no_grad(), torch.autocast(mel.device.type, enabled=False):
        if isinstance(vocoder, GriffinLimSettings):
            return undo_analysis(_griffin_lim(mel.float(), lengths, seeds, vocoder), lengths, analysis)
        return undo_analysis(vocoder(mel.float(), lengths), lengths, analysis)


def analysis_of(vocoder: GriffinLimSettings | Vocoder) -> MelSettings:
    """The analysis whose mels a vocoder takes."""
    return vocoder.mel if isinstance(vocoder, GriffinLimSettings) else vocoder.settings.mel


def undo_analysis(wav: Tensor, lengths: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """Pre-emphasized waveforms (B, (S - 1) * hop_length) of mels with these frames (B,) as they are heard:
    de-emphasized, within [-1, 1], zero past each clip's end. The level stays that of the analysis, a peak of 0.9."""
    wav = deemphasize(wav, settings.preemphasis).clamp(-1.0, 1.0)
    return zero_past(wav, sample_counts(lengths, settings))


def _griffin_lim(mel: Tensor, lengths: Tensor, seeds: Sequence[int], settings: GriffinLimSettings) -> Tensor:
    analysis, rounds, momentum = settings.mel, settings.rounds, settings.momentum
    uniform = draw_uniform(seeds, mel.shape[2], analysis).to(mel.device, non_blocking=True)
    magnitude = zero_past(natural_log(mel, analysis).clamp_max(LOUDEST).exp(), lengths)
    if settings.inversion == "joint":
        start = with_phase(nonnegative(magnitude, _JOINT_START, analysis).transpose(1, 2).contiguous(), uniform)
        return reconstruct(start, mel_constraint(magnitude, analysis), lengths, rounds, momentum, analysis)
    invert = transposed if settings.inversion == "published" else nonnegative
    return griffin_lim(invert(magnitude, settings=analysis), uniform, lengths, rounds, momentum, analysis)


def deemphasize(wav: Tensor, coefficient: float = MelSettings().preemphasis) -> Tensor:
    """y[n] = x[n] + coefficient * y[n - 1] of (..., L), in log2 L additions of whole tensors instead of L of samples.

    The filter 1 / (1 - c z), |c| <= 1, is the product of 1 + (c z)^(2^k) over k = 0, 1, 2 ... (each doubles the taps).
    """
    delay, gain = 1, coefficient
    while delay < wav.shape[-1] and abs(gain) > 1e-12:
        wav = torch.cat([wav[..., :delay], wav[..., delay:] + gain * wav[..., :-delay]], dim=-1)
        delay, gain = 2 * delay, gain * gain
    return wav


def transposed(mel: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """The published inversion: the transposed filter bank, times 1000: mel magnitudes (..., n_mels, N) -> float32
    (..., F, N). Speech made from them is about 1.5 times as loud as it was, and clips now and then."""
    return 1000.0 * (mel_filter_bank(settings).to(mel.device).T @ mel.float())


def nonnegative(mel: Tensor, updates: int = 20, settings: MelSettings = MelSettings()) -> Tensor:
    """Non-negative magnitudes whose mel is the given one (where any has it; else nearest in the sense of the updates).

    The multiplicative updates of Lee and Seung (2001) for the Kullback-Leibler divergence, from a smooth start. They
    stay non-negative, need no step size, and are two matrix products for a whole batch.

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

    Each round applies one update of `nonnegative` to the magnitudes of the waveform so far. The mel is of magnitudes
    (B, n_mels, N), 0 in padded frames.
    """
    bank, spread = _bank_and_spread(settings, mel.device)
    target = mel.float().transpose(1, 2).contiguous()

    def constrain(spectrum: Tensor) -> Tensor:
        magnitude = power(spectrum).clamp_min_(TINY_POWER).sqrt_()
        return spectrum.mul_(_correction(magnitude, target, bank, spread))

    return constrain


def _correction(magnitude: Tensor, target: Tensor, bank: Tensor, spread: Tensor) -> Tensor:
    """What to multiply magnitudes (..., N, F) by, for their mel to come nearer the target (..., N, n_mels)."""
    return (target / (magnitude @ bank.T).clamp_min(_TINY_MEL)) @ spread


def _bank_and_spread(settings: MelSettings, device: torch.device) -> tuple[Tensor, Tensor]:
    """The filter bank (n_mels, F), and the same with each bin's weights summing to 1, or 0 outside every band."""
    bank = mel_filter_bank(settings).to(device)
    covered = bank.sum(dim=0)
    return bank, torch.where(covered > 0, bank / covered.where(covered > 0, 1.0), 0.0)
