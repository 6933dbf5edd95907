"""Visual encoder: lips in, a feature vector a frame out.

A 3-D convolution sees five frames at a time; a ResNet-18 with CBAM turns each frame's maps into a vector; a Conformer
reads these in context (METHOD.md, Visual encoder).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.conformer import Conformer, ConformerSettings
from model.padding import Padding, frames_there, mask_of, pack, silence_padding, unpack
from model.resnet import ResNet

FRONT_KERNEL = (5, 7, 7)


@dataclass(frozen=True)
class VisualSettings:
    """Sizes. The defaults are the published ones.

    Attributes:
        channels: of the 3-D convolution and the first stage of the ResNet.
        dropout: of the vectors between ResNet and Conformer, in training.
        conformer: its sizes; its width is that of the features.
    """

    channels: int = 64
    dropout: float = 0.3
    conformer: ConformerSettings = field(default_factory=ConformerSettings)


class VisualEncoder(nn.Module):
    """(B, 1, T, H, W) -> (B, T, width). H and W are 112 as published; any others from 32 on will do."""

    def __init__(self, settings: VisualSettings = VisualSettings(), padding: Padding = "masked") -> None:
        super().__init__()
        self.padding = padding
        channels, width = settings.channels, settings.conformer.width
        self.front = nn.Conv3d(1, channels, FRONT_KERNEL, stride=(1, 2, 2), padding=(2, 3, 3), bias=False)
        self.front_norm = nn.BatchNorm2d(channels)
        self.resnet = ResNet(channels)
        self.project = nn.Linear(8 * channels, width)
        self.dropout = nn.Dropout(settings.dropout)
        self.conformer = Conformer(settings.conformer, padding)

    def forward(self, video: Tensor, lengths: Tensor) -> Tensor:
        """
        Args:
            video: (B, 1, T, H, W), normalised (`model.transforms`).
            lengths: (B,) frames of each clip, at least 1. On the CPU they spare a GPU a synchronisation in training.

        Returns:
            (B, T, width). Masked, zeros beyond a clip's length.
        """
        return self.conformer(self.dropout(self.frame_vectors(video, lengths)), lengths)  # type: ignore[no-any-return]

    def frame_vectors(self, video: Tensor, lengths: Tensor) -> Tensor:
        """The front end and the ResNet alone: (B, 1, T, H, W) -> (B, T, width)."""
        batch, _, frames = video.shape[:3]
        there = None
        if self.padding == "masked":
            mask = mask_of(lengths, frames, video.device)
            video = silence_padding(video.squeeze(1), mask).unsqueeze(1)
            there = frames_there(lengths, frames, video.device) if self.training else None
        maps = self.front_maps(video)
        maps = maps.flatten(0, 1) if there is None else pack(maps, there)
        if maps.is_cuda:
            maps = maps.contiguous(memory_format=torch.channels_last)
        # Pooling before ReLU is the same, and a quarter of the work; pooling is ten times as fast with channels last.
        # Tensor cores want these throughout; on a CPU, convolutions do not, and batch norm's sums are less exact so.
        maps = self.front_norm(maps).contiguous(memory_format=torch.channels_last)
        maps = F.relu(F.max_pool2d(maps, 3, stride=2, padding=1), inplace=True)
        maps = maps if maps.is_cuda else maps.contiguous()
        vectors: Tensor = self.project(self.resnet(maps))
        return vectors.unflatten(0, (batch, frames)) if there is None else unpack(vectors, there, batch, frames)

    def front_maps(self, video: Tensor) -> Tensor:
        """The 3-D convolution alone: (B, 1, T, H, W) -> (B, T, channels, H / 2, W / 2)."""
        maps: Tensor = self.front(video).transpose(1, 2)
        return maps
