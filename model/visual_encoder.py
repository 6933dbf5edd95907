"""Visual encoder: lips in, a feature vector a frame out.

A 3-D convolution sees five frames at a time; a ResNet-18 with CBAM turns each frame's maps into a vector; a Conformer
reads these in context (docs/method.md, Visual encoder).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.conformer import AfterLayer, Conformer, ConformerSettings
from model.padding import Padding, ValidFrames, mask_padding, pack, unpack, valid_frames, valid_mask
from model.patch_front import PatchFront
from model.resnet import ResNet

FRONT_KERNEL = (5, 7, 7)


@dataclass(frozen=True)
class VisualSettings:
    """Sizes. The defaults are the published ones.

    Attributes:
        front: what turns a frame and its neighbours into a vector: `resnet`, the published 3-D convolution and
            ResNet-18; `patches`, three times as fast on a CPU where both are small (`model.patch_front`).
        channels: of the 3-D convolution and the first stage of the ResNet, or of a patch.
        dropout: of the vectors between ResNet and Conformer, in training.
        conformer: its sizes; its width is that of the features.
    """

    front: Literal["resnet", "patches"] = "resnet"
    channels: int = 64
    dropout: float = 0.3
    conformer: ConformerSettings = field(default_factory=ConformerSettings)

    def __post_init__(self) -> None:
        if self.channels < 1 or not 0 <= self.dropout <= 1:
            raise ValueError(f"channels {self.channels}, dropout {self.dropout}: expected 1 or more, and 0 to 1")


class VisualEncoder(nn.Module):
    """(B, 1, T, H, W) -> (B, T, width). H and W are 112 as published; any others from 32 on will do."""

    def __init__(self, settings: VisualSettings = VisualSettings(), padding: Padding = "masked") -> None:
        super().__init__()
        self.padding = padding
        channels, width = settings.channels, settings.conformer.width
        self.patches = PatchFront(FRONT_KERNEL[0], channels, width) if settings.front == "patches" else None
        if self.patches is None:
            self.front = nn.Conv3d(1, channels, FRONT_KERNEL, stride=(1, 2, 2), padding=(2, 3, 3), bias=False)
            self.front_norm = nn.BatchNorm2d(channels)
            self.resnet = ResNet(channels)
            self.project = nn.Linear(8 * channels, width)
        self.dropout = nn.Dropout(settings.dropout)
        self.conformer = Conformer(settings.conformer, padding)

    def forward(
        self,
        video: Tensor,
        lengths: Tensor,
        valid: ValidFrames | None = None,
        after_layer: AfterLayer | None = None,
    ) -> Tensor:
        """Features; masked, zeros beyond a clip's length.

        Args:
            video: (B, 1, T, H, W), normalized (`model.transforms`).
            lengths: (B,) frames of each clip, at least 1. On the CPU they spare a GPU a synchronisation in training.
            valid: `valid_frames` of the lengths, for masked training; by default they are looked for here.
            after_layer: see `Conformer`.
        """
        if not self.training or self.padding == "published":
            valid = None
        elif valid is None:
            valid = valid_frames(lengths, video.shape[2], video.device)
        vectors = self.dropout(self.frame_vectors(video, lengths, valid))
        features: Tensor = self.conformer(vectors, lengths, valid and valid.positions, after_layer)
        return features

    def frame_vectors(self, video: Tensor, lengths: Tensor, valid: ValidFrames | None = None) -> Tensor:
        """The front end and the ResNet alone: (B, 1, T, H, W) -> (B, T, width), of valid frames if they are given."""
        batch, _, frames = video.shape[:3]
        if self.padding == "masked":
            mask = valid_mask(lengths, frames, video.device)
            video = mask_padding(video.squeeze(1), mask).unsqueeze(1)
        if video.device.type != "meta" and torch.is_autocast_enabled(video.device.type):
            video = video.to(torch.get_autocast_dtype(video.device.type))  # before it is five times as large
        seen = _five_at_a_time(video)
        seen = seen.flatten(0, 1) if valid is None else pack(seen, valid.rounded)
        vectors = self._vectors_of(seen) if self.patches is None else self.patches(seen)
        if valid is None:
            return vectors.unflatten(0, (batch, frames))  # type: ignore[no-any-return]
        return unpack(vectors[: len(valid.positions)], valid.positions, batch, frames)

    def _vectors_of(self, seen: Tensor) -> Tensor:
        """(N, 5, H, W) -> (N, width), by the published front end."""
        # Tensor cores want channels last. A CPU pools ten times as fast so, but its convolutions are no faster, and its
        # batch norm, in training, is slower and less exact.
        layout = torch.channels_last if seen.is_cuda or not self.training else torch.contiguous_format
        seen = seen.contiguous(memory_format=layout)
        # the 3-D convolution, as one over pictures whose channels are the frames that it sees
        maps = self.front_norm(F.conv2d(seen, self.front.weight.squeeze(1), stride=2, padding=(3, 3)))
        # as ReLU first, at a quarter of the work
        maps = F.relu(F.max_pool2d(maps, 3, stride=2, padding=1), inplace=True)
        maps = maps if maps.is_cuda else maps.contiguous()
        vectors: Tensor = self.project(self.resnet(maps))
        return vectors


def _five_at_a_time(video: Tensor) -> Tensor:
    """(B, 1, T, H, W) -> (B, T, 5, H, W): each frame with two before and two after it, zeros beyond the ends."""
    frames, depth = video.shape[2], FRONT_KERNEL[0]
    padded = F.pad(video.squeeze(1), (0, 0, 0, 0, depth // 2, depth // 2))
    return torch.stack([padded[:, start : start + frames] for start in range(depth)], dim=2)
