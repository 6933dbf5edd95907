"""Griffin-Lim: a waveform whose short-time spectra obey what is known of them (Griffin and Lim, 1984).

Each round takes the waveform's STFT, moves it to the nearest spectra that obey the constraint (given magnitudes, or a
given mel: mel_to_wav.py), and turns those back into a waveform. With momentum (fast Griffin-Lim, Perraudin, Balazs and
Sondergaard, 2013) a round starts from x + momentum (x - x_before) instead of x; since the STFT is linear, doing so to
waveforms equals doing it to spectra, at a sixth of the work.

Written by hand: torchaudio's and librosa's take no constraint but magnitudes, and no batch of clips of several lengths.
Here each is reflected at its own end and divided by its own sum of squared windows, so that padding changes nothing.
Inside, spectra are (B, N, F), frames before bins, as the FFT gives them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.mel import MelSettings
from model.vocoders.overlap_add import overlap_add, overlap_gain, proper_window, zero_past

Constraint = Callable[[Tensor], Tensor]
"""Takes complex spectra (B, N, F), which it may overwrite, and returns the nearest that obey, 0 in padded frames."""

TINY_POWER = 1e-24  # far below any sound's, and its inverse square root is still a float32 of ordinary size


def griffin_lim(
    magnitude: Tensor,
    uniform: Tensor,
    lengths: Tensor | None = None,
    rounds: int = 60,
    momentum: float = 0.0,
    settings: MelSettings = MelSettings(),
) -> Tensor:
    """Waveforms of given magnitudes; without momentum, the published system's.

    Args:
        magnitude: (B, F, N), F = n_fft / 2 + 1 bins, N >= 2 frames.
        uniform: (B, F, N) in [0, 1): the phases to start from, in turns (see `draw_uniform`).
        lengths: (B,) frames of each clip, 0 to N, on the magnitude's device; default: N. What lies past them is not
            looked at.
        rounds: how often the phases are replaced by those of the waveform's STFT.
        momentum: 0 for Griffin and Lim's form, 0.99 for the fast one.
        settings: window, hop and FFT of the STFT.

    Returns:
        float32 (B, (N - 1) * hop_length), zero past each clip's own (length - 1) * hop_length.

    Raises:
        ValueError: fewer than 2 frames, or shapes that differ.
    """
    if magnitude.shape != uniform.shape:
        raise ValueError(f"magnitudes {tuple(magnitude.shape)}, phases {tuple(uniform.shape)}: expected the same shape")
    if lengths is None:
        lengths = torch.full((len(magnitude),), magnitude.shape[2], device=magnitude.device)
    magnitude_bnf = zero_past(magnitude.float(), lengths).transpose(1, 2).contiguous()

    def constrain(spectrum: Tensor) -> Tensor:
        return spectrum.mul_(power(spectrum).clamp_min_(TINY_POWER).rsqrt_().mul_(magnitude_bnf))

    start = with_phase(magnitude_bnf, uniform)
    return reconstruct(start, constrain, lengths, rounds, momentum, settings)


def reconstruct(
    start: Tensor,
    constrain: Constraint,
    lengths: Tensor,
    rounds: int,
    momentum: float,
    settings: MelSettings = MelSettings(),
) -> Tensor:
    """Griffin-Lim under any constraint.

    Args:
        start: complex (B, N, F) spectra to start from, 0 in padded frames.
        constrain: what each round does to the STFT of the waveform so far.
        lengths, rounds, momentum, settings: see `griffin_lim`, as for what it returns and raises.
    """
    frames = start.shape[1]
    if frames < 2:
        raise ValueError(f"{frames} frame of a spectrogram has no sound between frames: at least 2 are needed")
    framing = _framing(frames, lengths, start.device, settings)
    wav = before = _istft(start, framing, settings)
    for _ in range(rounds):
        leap = torch.lerp(before, wav, 1 + momentum) if momentum else wav
        before = wav
        wav = _istft(constrain(_stft(leap, framing, settings)), framing, settings)
    return wav


def draw_uniform(seeds: Sequence[int], frames: int, settings: MelSettings = MelSettings()) -> Tensor:
    """Start phases in turns, float32 (B, F, frames) in [0, 1) on the CPU. A clip's depend on its seed alone: not on its
    batch, its padding, or the device."""
    bins = settings.n_fft // 2 + 1
    # a frame's bins are drawn together, so that the draw for a padded clip begins with that for the clip alone
    drawn = [torch.rand(frames, bins, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).transpose(1, 2)


def with_phase(magnitude_bnf: Tensor, uniform: Tensor) -> Tensor:
    """Complex (B, N, F) of magnitudes (B, N, F) and phases (B, F, N) in turns."""
    return torch.polar(magnitude_bnf, uniform.to(magnitude_bnf).transpose(1, 2) * (2 * math.pi))


def power(spectrum: Tensor) -> Tensor:
    """|z|^2; a new tensor."""
    return spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)


@dataclass(frozen=True)
class _Framing:
    """What the STFT and its inverse need to know of a batch."""

    window: Tensor  # (n_fft,), zero outside the window proper
    index: Tensor  # (B, (N - 1) hop + n_fft), which sample lies where under the frames, reflections resolved
    gain: Tensor  # (B, (N - 1) hop), 1 / sum of squared windows, 0 in padding


def _framing(frames: int, lengths: Tensor, device: torch.device, settings: MelSettings) -> _Framing:
    hop, n_fft, length = settings.hop_length, settings.n_fft, (frames - 1) * settings.hop_length
    samples = ((lengths - 1) * hop)[:, None]  # none for a clip of 0 or 1 frame, which comes out as zeros
    index = torch.arange(length + n_fft, device=device) - n_fft // 2
    # a reflection does not repeat the edge, and reflects again where a clip is shorter than the window
    period = (2 * (samples - 1)).clamp_min(1)
    turned = index.abs() % period
    index = torch.minimum(turned, period - turned).clamp(0, length - 1)

    window = torch.zeros(n_fft, device=device)
    window[proper_window(settings)] = torch.hann_window(settings.win_length, periodic=True, device=device)
    return _Framing(window, index, overlap_gain(lengths, frames, settings))


def _stft(wav: Tensor, framing: _Framing, settings: MelSettings) -> Tensor:
    frames = wav.gather(1, framing.index).unfold(1, settings.n_fft, settings.hop_length)
    spectrum: Tensor = torch.fft.rfft(frames * framing.window)
    return spectrum


def _istft(spectrum: Tensor, framing: _Framing, settings: MelSettings) -> Tensor:
    proper = proper_window(settings)
    frames: Tensor = torch.fft.irfft(spectrum, n=settings.n_fft)[..., proper] * framing.window[proper]
    return overlap_add(frames, settings).mul_(framing.gain)
