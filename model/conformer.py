"""Conformer: layers of half-step feed-forward, attention, convolution, half-step feed-forward and layer norm.

Source: Gulati et al., Conformer, 2020; docs/method.md, Visual encoder and ASR.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import RelativeAttention, sinusoids
from model.padding import Padding, mask_padding, norm_frames, valid_mask, valid_positions


@dataclass(frozen=True)
class ConformerSettings:
    """Sizes. The defaults are those of the published visual encoder.

    Attributes:
        layers: how many.
        width: of the features, in and out.
        heads: of attention, a divisor of the width.
        expansion: of the feed-forward modules.
        kernel: of the depthwise convolution, odd.
        dropout: in every module, in training.
    """

    layers: int = 12
    width: int = 512
    heads: int = 8
    expansion: int = 4
    kernel: int = 31
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"the depthwise kernel must be odd, not {self.kernel}")


class Conformer(nn.Module):
    """(B, T, width) -> (B, T, width)."""

    def __init__(self, settings: ConformerSettings, padding: Padding) -> None:
        super().__init__()
        self.padding = padding
        self.layers = nn.ModuleList(ConformerLayer(settings, padding) for _ in range(settings.layers))

    def forward(self, x: Tensor, lengths: Tensor, valid: Tensor | None = None) -> Tensor:
        """
        Args:
            x: (B, T, width).
            lengths: (B,) frames of each clip.
            valid: `valid_positions` of the lengths, for masked training; by default they are looked for here.

        Returns:
            (B, T, width). Masked, zeros beyond a clip's length.
        """
        frames = x.shape[1]
        positions = sinusoids(frames, x.shape[2], x.device)
        mask = None
        if self.padding == "masked":
            mask = valid_mask(lengths, frames, x.device)
            if self.training and valid is None:
                valid = valid_positions(lengths, frames, x.device)
        lengths = lengths.to(x.device, non_blocking=True)
        for layer in self.layers:
            x = layer(x, lengths, positions, mask, valid)
        return x if mask is None else mask_padding(x, mask)


class ConformerLayer(nn.Module):
    """One layer; every module is pre-norm and added to what it read."""

    def __init__(self, settings: ConformerSettings, padding: Padding) -> None:
        super().__init__()
        self.feed_forward_in = FeedForward(settings)
        self.attention_norm = nn.LayerNorm(settings.width)
        self.attention = RelativeAttention(settings.width, settings.heads, settings.dropout, padding)
        self.attention_dropout = nn.Dropout(settings.dropout)
        self.convolution = Convolution(settings)
        self.feed_forward_out = FeedForward(settings)
        self.norm = nn.LayerNorm(settings.width)

    def forward(
        self, x: Tensor, lengths: Tensor, positions: Tensor, mask: Tensor | None, valid: Tensor | None
    ) -> Tensor:
        x = x + 0.5 * self.feed_forward_in(x)
        x = x + self.attention_dropout(self.attention(self.attention_norm(x), lengths, positions))
        x = x + self.convolution(x, mask, valid)
        x = x + 0.5 * self.feed_forward_out(x)
        normed: Tensor = self.norm(x)
        return normed


class FeedForward(nn.Module):
    """Layer norm, a wider linear layer with Swish, and back."""

    def __init__(self, settings: ConformerSettings) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(settings.width)
        self.expand = nn.Linear(settings.width, settings.width * settings.expansion)
        self.contract = nn.Linear(settings.width * settings.expansion, settings.width)
        self.dropout = nn.Dropout(settings.dropout)
        for linear in (self.expand, self.contract):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.dropout(F.silu(self.expand(self.norm(x))))
        out: Tensor = self.dropout(self.contract(wide))
        return out


class Convolution(nn.Module):
    """Layer norm, a gated linear unit, depthwise convolution, batch norm, Swish, a linear layer."""

    def __init__(self, settings: ConformerSettings) -> None:
        super().__init__()
        width = settings.width
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(
            width, width, settings.kernel, padding=settings.kernel // 2, groups=width, bias=False
        )
        self.batch_norm = nn.BatchNorm1d(width)
        self.contract = nn.Linear(width, width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, mask: Tensor | None, valid: Tensor | None) -> Tensor:
        gated = F.glu(self.expand(self.norm(x)), dim=-1)
        if mask is not None:
            gated = mask_padding(gated, mask)
        filtered = self._filtered(gated)
        normed = norm_frames(self.batch_norm, filtered, valid)
        out: Tensor = self.dropout(self.contract(F.silu(normed)))
        return out

    def _filtered(self, x: Tensor) -> Tensor:
        """The depthwise convolution of (B, T, width), as one over pictures of one line: on a CPU that takes channels
        last as they lie, and is ten times as fast."""
        lines = x.transpose(1, 2)[:, :, None]
        weight = self.depthwise.weight.flatten(1)[:, None, None]
        lines = lines.contiguous() if lines.is_cuda else lines
        return F.conv2d(lines, weight, padding=(0, weight.shape[-1] // 2), groups=len(weight))[:, :, 0].transpose(1, 2)
