"""Patch front end: five neighbouring pictures of lips to a vector, for networks small enough to train on a CPU.

The published front end, a 3-D convolution and a ResNet-18, spends a CPU's time on moving maps of few channels. Here the
pictures are cut into patches that one matrix product turns into channels, and two strided convolutions follow. What is
left of the picture is not averaged: where something moves tells mouths apart.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

_PATCH = 4
_PLACES = 3


class PatchFront(nn.Module):
    """(N, frames, H, W) -> (N, width).

    Args:
        frames: pictures that a vector sees.
        channels: of a patch; each convolution has twice as many at half the size.
        width: of the vectors.
    """

    def __init__(self, frames: int, channels: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(frames * _PATCH**2, channels, bias=False)
        self.embed_norm = nn.BatchNorm1d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(2 * channels)
        self.conv2 = nn.Conv2d(2 * channels, 4 * channels, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * channels)
        self.project = nn.Linear(4 * channels * _PLACES**2, width)

    def forward(self, seen: Tensor) -> Tensor:
        """A side that is no multiple of a patch is filled up with zeros."""
        rows, columns = seen.shape[-2:]
        seen = F.pad(seen, (0, -columns % _PATCH, 0, -rows % _PATCH))
        patches = rearrange(seen, "n f (h p) (w q) -> n h w (f p q)", p=_PATCH, q=_PATCH)
        count, rows, columns = patches.shape[:3]
        x = self.embed_norm(self.embed(patches.flatten(0, 2)))
        x = F.relu(x.view(count, rows, columns, -1).permute(0, 3, 1, 2), inplace=True)
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        x = F.relu(self.norm2(self.conv2(x)), inplace=True)
        x = F.adaptive_avg_pool2d(x, _PLACES)
        vectors: Tensor = self.project(x.flatten(1))
        return vectors
