"""A neural vocoder in the manner of Vocos: mels to waveforms by a convolutional network and one inverse STFT.

ConvNeXt blocks read the mel frame by frame and end in a magnitude and a phase of every bin of every frame, which an
inverse STFT turns into sound: nothing is upsampled, so it is several times as fast as Griffin-Lim (Siuzdak, Vocos,
2023; blocks: Liu et al., A ConvNet for the 2020s, 2022). Ours has the mel's own window and hop, magnitudes that begin
as the mel's envelope, and no adversarial training. The waveform is the one that the mel was measured on, scaled and
pre-emphasized (`model.mel.analyzed_wave`); `model.vocoders.mel_to_wav` undoes that.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from model.mel import MelSettings, mel_filter_bank, settings_that_differ
from model.padding import Padding, mask_padding, valid_mask
from model.vocoders.overlap_add import overlap_add, overlap_gain

_LOUDEST = 7.0  # log of a magnitude that no window of samples up to 1 has: exp of what is far beyond would overflow


@dataclass(frozen=True)
class VocoderSettings:
    """Sizes. The defaults are those for LRS: 13.5 million parameters; a width of 192 with 6 layers has 1.6.

    Attributes:
        width: of the blocks.
        layers: blocks.
        expansion: of the width inside a block.
        kernel: frames that a convolution sees, an odd number.
        mel: the analysis that made the mels; its window and hop are those of the inverse STFT.
        vocabulary, padding: as of other networks: no CTC head, and padding does not leak.
    """

    vocabulary: ClassVar[int] = 0
    padding: ClassVar[Padding] = "masked"

    width: int = 512
    layers: int = 8
    expansion: int = 3
    kernel: int = 7
    mel: MelSettings = MelSettings()

    def __post_init__(self) -> None:
        sizes = f"width {self.width}, layers {self.layers}, expansion {self.expansion}, kernel {self.kernel}"
        if min(self.width, self.layers, self.expansion, self.kernel) < 1 or self.kernel % 2 == 0:
            raise ValueError(f"{sizes}: expected 1 or more, and an odd kernel")
        if self.mel.win_length < 2 * self.mel.hop_length:
            found = f"mel.win_length {self.mel.win_length}, mel.hop_length {self.mel.hop_length}"
            raise ValueError(f"{found}: expected a window of two hops at least, so that windows overlap")


class Vocoder(nn.Module):
    """(B, n_mels, S) -> (B, (S - 1) hop_length), from the middle of the first mel frame to that of the last."""

    def __init__(self, settings: VocoderSettings = VocoderSettings()) -> None:
        super().__init__()
        self.settings = settings
        width, mel = settings.width, settings.mel
        bins = mel.win_length // 2 + 1
        self.embed = nn.Conv1d(mel.n_mels, width, settings.kernel, padding=settings.kernel // 2)
        self.embed_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_ConvNeXtBlock(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)
        self.spectrum = nn.Linear(width, 2 * bins)
        self.envelope = nn.Linear(mel.n_mels, bins)
        if not self.envelope.weight.is_meta:  # a filter bank made there would be kept, without numbers, for all
            _begin_as_envelope(self.envelope, mel)

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Waveforms, float32, pre-emphasized; zero past each clip's own (length - 1) hop_length samples.

        Args:
            mel: (B, n_mels, S), the network's mel.
            lengths: (B,) mel frames of each clip, 0 to S. What lies past them is not looked at.
        """
        settings = self.settings.mel
        valid = valid_mask(lengths, mel.shape[2], mel.device)
        frames = mask_padding(mel.transpose(1, 2), valid)
        x = self.embed_norm(self.embed(frames.transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x = block(x, valid)
        x = self.spectrum(self.norm(x))
        with torch.autocast(mel.device.type, enabled=False):
            level, phase = x.float().chunk(2, dim=2)
            level = level + self.envelope(frames.float())
            magnitude = mask_padding(level.clamp_max(_LOUDEST).exp(), valid)
            spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
            window = torch.hann_window(settings.win_length, periodic=True, device=mel.device)
            windowed: Tensor = torch.fft.irfft(spectrum, n=settings.win_length) * window
            gain = overlap_gain(lengths.to(mel.device, non_blocking=True), mel.shape[2], settings)
            return overlap_add(windowed, settings) * gain


def check_mel(vocoder: Vocoder, mel: MelSettings, name: str | os.PathLike[str]) -> None:
    """`ValueError` unless a vocoder takes mels of this analysis; `name` is its own in the message."""
    if different := settings_that_differ(vars(vocoder.settings.mel), vars(mel)):
        raise ValueError(f"{name}: a vocoder of another mel: {different}; train one on mels of that analysis")


class _ConvNeXtBlock(nn.Module):
    """A convolution over time, channel by channel, then a network of two layers for each frame, and a scale."""

    def __init__(self, settings: VocoderSettings) -> None:
        super().__init__()
        width, kernel = settings.width, settings.kernel
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, settings.expansion * width)
        self.contract = nn.Linear(settings.expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1 / settings.layers))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, S, width), of which frames are `valid` (B, S) -> the same."""
        mixed = rearrange(mask_padding(x, valid), "b s c -> b c s")
        mixed = rearrange(self.depthwise(mixed), "b c s -> b s c")
        added: Tensor = self.contract(F.gelu(self.expand(self.norm(mixed))))
        return x + self.scale * added


def _begin_as_envelope(linear: nn.Linear, settings: MelSettings) -> None:
    """Make a layer from mels to log magnitudes interpolate between the bands, each bin by the weights it has in them:
    so the first sound has the right level and color, and only details are to be learned."""
    bank = mel_filter_bank(replace(settings, n_fft=settings.win_length))
    covered = bank.sum(dim=0)
    shares = torch.where(covered > 0, bank / covered.clamp_min(1e-12), 0.0).T
    below, above = shares[: len(shares) // 2], shares[len(shares) // 2 :]
    below[below.sum(dim=1) == 0, 0] = 1.0  # bins outside every band take the nearest
    above[above.sum(dim=1) == 0, -1] = 1.0
    per_unit = -math.log(settings.floor) / 2  # of the mel, in natural-log units
    with torch.no_grad():
        linear.weight.copy_(per_unit * shares)
        # a mel magnitude is a sum over bins: the level of one of them is that sum over the filter's area
        linear.bias.copy_(-per_unit - shares @ bank.sum(dim=1).clamp_min(1e-12).log())
