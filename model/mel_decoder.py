"""Mel decoder: visual features and a speaker vector in, four mel frames a video frame out (docs/method.md)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from model.padding import Padding, valid_mask
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, N_MELS

_KERNEL = 7


@dataclass(frozen=True)
class DecoderSettings:
    """Sizes. The defaults are the published ones.

    Attributes:
        width: of the layer that joins features and speaker.
        channels: of the convolutions before the last.
    """

    width: int = 512
    channels: tuple[int, ...] = (256, 128)

    def __post_init__(self) -> None:
        if min(self.width, len(self.channels), *self.channels) < 1:
            raise ValueError(f"width {self.width}, channels {self.channels}: expected 1 or more")


class MelDecoder(nn.Module):
    """(B, T, features) and (B, speaker) -> (B, n_mels, 4 T)."""

    def __init__(
        self,
        features: int = 512,
        speaker: int = 512,
        settings: DecoderSettings = DecoderSettings(),
        n_mels: int = N_MELS,
        padding: Padding = "masked",
    ) -> None:
        super().__init__()
        self.padding = padding
        self.join = nn.Linear(features + speaker, settings.width)
        sizes = (settings.width, *settings.channels, n_mels * MEL_FRAMES_PER_VIDEO_FRAME)
        self.convs = nn.ModuleList(
            nn.Conv1d(inputs, outputs, _KERNEL, padding=_KERNEL // 2) for inputs, outputs in pairwise(sizes)
        )

    def forward(self, features: Tensor, speaker: Tensor, lengths: Tensor) -> Tensor:
        """The network's mel of windows of so many video frames (B,); what stands beyond them means nothing."""
        frames = features.shape[1]
        speaker = speaker[:, None].expand(-1, frames, -1)
        x = F.relu(self.join(torch.cat([features, speaker], dim=-1))).transpose(1, 2)
        valid = valid_mask(lengths, frames, x.device)[:, None]
        for number, conv in enumerate(self.convs):
            x = F.relu(x) if number else x
            x = conv(x if self.padding == "published" else x.masked_fill(~valid, 0.0))
        # band-major, as published: a band's four mel frames are neighbouring channels
        mel: Tensor = rearrange(x, "b (band sub) t -> b band (t sub)", sub=MEL_FRAMES_PER_VIDEO_FRAME)
        return mel
