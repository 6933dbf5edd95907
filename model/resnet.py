"""ResNet-18 with attention over channels and over the picture (CBAM), four stages, for one frame's feature maps.

Source: He et al., Deep residual learning, 2016; Woo et al., CBAM, 2018; docs/method.md, Visual encoder.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GATE_REDUCTION = 16
_GATE_KERNEL = 7
_GATE_MOMENTUM = 0.01  # of its batch norm; all others have 0.1
_LARGEST_AS_PRODUCT = 14 * 14  # pixels


class ResNet(nn.Module):
    """(N, channels, H, W) -> (N, 8 channels): two blocks in each of four stages, and the mean over the picture.

    Args:
        channels: of the input and of the first stage; each further stage has twice as many at half the size.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            _stage(channels, channels, 1),
            _stage(channels, 2 * channels, 2),
            _stage(2 * channels, 4 * channels, 2),
            _stage(4 * channels, 8 * channels, 2),
        )
        for module in self.modules():
            # to "draw" those of a network without memory (`meta`), torch would import its compiler, which takes seconds
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.stages(x).mean(dim=(2, 3))
        return pooled


def _stage(inputs: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(inputs, channels, stride), ResidualBlock(channels, channels, 1))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and CBAM, added to the input (through a 1x1 convolution where sizes differ)."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm2.weight)  # a block starts as the identity
        self.channel_gate = ChannelGate(channels)
        self.spatial_gate = SpatialGate()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != channels:
            conv = nn.Conv2d(inputs, channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.spatial_gate(self.channel_gate(self.norm2(self.conv2(y))))
        return F.relu(y + self.shortcut(x), inplace=True)


class ChannelGate(nn.Module):
    """Weighs each channel by what it holds on average and at most."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(1, channels // _GATE_REDUCTION)
        self.squeeze = nn.Linear(channels, squeezed)
        self.excite = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.stack([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))])
        # a GPU's autocast sums in float32: all maps from here to the end of the network would then be float32 too
        weight: Tensor = self.excite(F.relu(self.squeeze(pooled))).sum(dim=0).sigmoid().to(x.dtype)
        return x * weight[:, :, None, None]


class SpatialGate(nn.Module):
    """Weighs each place by the largest and the mean of its channels around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, _GATE_KERNEL, padding=_GATE_KERNEL // 2, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=_GATE_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.stack([x.amax(dim=1), x.mean(dim=1)], dim=1)
        weight: Tensor = self.norm(self._convolved(pooled)).sigmoid()
        return x * weight

    def _convolved(self, pooled: Tensor) -> Tensor:
        """(N, 2, H, W) -> (N, 1, H, W)"""
        height, width = pooled.shape[2:]
        small = height * width <= _LARGEST_AS_PRODUCT and pooled.device.type == "cpu"
        if not (small and self.training) or torch.compiler.is_compiling():
            out: Tensor = self.conv(pooled)
            return out
        # A CPU's convolutions compute eight channels where one is wanted. On a small picture the kernel reaches nearly
        # every pixel from every other: a product with the matrix of all pairs is several times as fast
        kernel = F.pad(self.conv.weight.flatten(), (0, 1))
        matrix = kernel.index_select(0, _taps(height, width)).view(2 * height * width, height * width)
        return (pooled.flatten(1) @ matrix).view(-1, 1, height, width)


@lru_cache(64)
def _taps(height: int, width: int) -> Tensor:
    """int64 (2 H W H W,): which element of the flattened gate kernel a pixel of a channel has on a pixel of the result;
    where it is out of reach, the element behind the last."""
    near, reach = _GATE_KERNEL // 2, _GATE_KERNEL**2
    rows, columns = (torch.arange(side)[:, None] - torch.arange(side) + near for side in (height, width))
    rows, columns = rows[:, None, :, None], columns[None, :, None, :]
    inside = (rows >= 0) & (rows < _GATE_KERNEL) & (columns >= 0) & (columns < _GATE_KERNEL)
    taps = (rows * _GATE_KERNEL + columns).where(inside, 2 * reach)
    return torch.stack([taps, (taps + reach).where(inside, 2 * reach)]).flatten()
