"""Speaker encoder: mel of half a second of a reference utterance in, a speaker embedding out (docs/method.md)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from model.padding import mask_padding, norm_frames, valid_mask, valid_positions
from runtime.constants import N_MELS

_KERNEL = 7
_SLOPE = 0.2


@dataclass(frozen=True)
class SpeakerSettings:
    """Sizes. The defaults are the published ones.

    Attributes:
        channels: of the convolutions, one after the other.
        width: of the embedding.
    """

    channels: tuple[int, ...] = (128, 256, 256)
    width: int = 512

    def __post_init__(self) -> None:
        if min(self.width, len(self.channels), *self.channels) < 1:
            raise ValueError(f"width {self.width}, channels {self.channels}: expected 1 or more")


class SpeakerEncoder(nn.Module):
    """(B, n_mels, S) -> (B, width), S usually 50, or 50 padded with 0 to 100 as in published training."""

    def __init__(self, settings: SpeakerSettings = SpeakerSettings(), n_mels: int = N_MELS) -> None:
        super().__init__()
        sizes = (n_mels, *settings.channels)
        self.convs = nn.ModuleList(
            nn.Conv1d(inputs, outputs, _KERNEL, padding=_KERNEL // 2) for inputs, outputs in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(channels) for channels in settings.channels)
        self.project = nn.Linear(sizes[-1], settings.width)

    def forward(self, mel: Tensor, lengths: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        """
        Args:
            mel: (B, n_mels, S), the network's mel.
            lengths: (B,) mel frames of each reference. Without them every frame counts, padding too: that is how the
                published network was trained.
            valid: `valid_positions` of the lengths, for training; by default they are looked for here.
        """
        x = rearrange(mel, "b mels s -> b s mels")
        mask = None if lengths is None else valid_mask(lengths, x.shape[1], x.device)
        if not self.training or lengths is None:
            valid = None
        elif valid is None:
            valid = valid_positions(lengths, x.shape[1], x.device)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            if mask is not None:
                x = mask_padding(x, mask)
            x = F.leaky_relu(norm_frames(norm, conv(x.transpose(1, 2)).transpose(1, 2), valid), _SLOPE)
        if mask is not None:
            x = mask_padding(x, mask)
        count = x.shape[1] if mask is None else mask.sum(dim=1, keepdim=True).clamp_min(1)
        vector: Tensor = self.project(x.sum(dim=1) / count)
        return vector
