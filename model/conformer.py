"""Conformer: layers of half-step feed-forward, attention, convolution, half-step feed-forward and layer norm.

Source: Gulati et al., Conformer, 2020; docs/method.md, Visual encoder and ASR.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from model.padding import Padding, mask_padding, norm_frames, valid_mask, valid_positions

AfterLayer = Callable[[int, Tensor], Tensor]
"""Given a layer's number, from 1 on, and its output (B, T, width), returns what the next layer reads."""


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
        sizes = f"width {self.width}, heads {self.heads}, expansion {self.expansion}, layers {self.layers}"
        if min(self.width, self.heads, self.expansion) < 1 or self.layers < 0:
            raise ValueError(f"{sizes}: expected 1 or more, and layers 0 or more")
        if self.kernel % 2 == 0 or self.kernel < 1:
            raise ValueError(f"kernel: that of the depthwise convolution must be positive and odd, not {self.kernel}")
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout {self.dropout}: expected 0 to 1")


class Conformer(nn.Module):
    """(B, T, width) -> (B, T, width)."""

    def __init__(self, settings: ConformerSettings, padding: Padding) -> None:
        super().__init__()
        self.padding = padding
        self.layers = nn.ModuleList(ConformerLayer(settings, padding) for _ in range(settings.layers))

    def forward(
        self,
        x: Tensor,
        lengths: Tensor,
        valid: Tensor | None = None,
        after_layer: AfterLayer | None = None,
        layers: int | None = None,
    ) -> Tensor:
        """Features of clips of so many frames (B,); masked, zeros beyond them.

        Args:
            x: (B, T, width).
            lengths: (B,).
            valid: `valid_positions` of the lengths, for masked training; by default they are looked for here.
            after_layer: says what the layers after the first read.
            layers: how many are run, the first ones; None: all.
        """
        frames = x.shape[1]
        positions = sinusoids(frames, x.shape[2], x.device)
        mask = None
        if self.padding == "masked":
            mask = valid_mask(lengths, frames, x.device)
            if self.training and valid is None:
                valid = valid_positions(lengths, frames, x.device)
        lengths = lengths.to(x.device, non_blocking=True)
        for number, layer in enumerate(islice(self.layers, layers)):
            x = after_layer(number, x) if number and after_layer is not None else x
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
        # the depthwise convolution as one over pictures of one line: on a CPU that takes channels last as they lie, and
        # is ten times as fast
        lines = gated.transpose(1, 2)[:, :, None]
        weight = self.depthwise.weight.flatten(1)[:, None, None]
        lines = lines.contiguous() if lines.is_cuda else lines
        lines = F.conv2d(lines, weight, padding=(0, weight.shape[-1] // 2), groups=len(weight))
        normed = norm_frames(self.batch_norm, lines[:, :, 0].transpose(1, 2), valid)
        out: Tensor = self.dropout(self.contract(F.silu(normed)))
        return out


class RelativeAttention(nn.Module):
    """Self-attention over (B, T, width) with the relative positions of Transformer-XL, in the published one-sided form.

    The score of query i and key j is ((q_i + u) k_j + shifted position score) / sqrt(width). The position score comes
    from (q_i + v) p_c, p_c the projected sinusoid of position c in 0..T-1, through Transformer-XL's relative shift
    (Dai et al., 2019, section 3.3). With sinusoids of 0..T-1 alone that shift wraps around: for j <= i the score is
    (q_i + v) p[T-1-i+j], for j = i + 1 it is 0, and beyond it is (q_{i+1} + v) p[j-i-2]. Published weights were trained
    with it. T is the padded length in the published code. Masked, it is each clip's own.
    """

    def __init__(self, width: int, heads: int, dropout: float, padding: Padding) -> None:
        super().__init__()
        if width % heads or width % 2:
            raise ValueError(f"attention of width {width} cannot have {heads} heads: even, and a multiple is needed")
        self.heads, self.dropout, self.padding = heads, dropout, padding
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.position = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)
        self.content_bias = nn.Parameter(torch.empty(heads, width // heads))
        self.position_bias = nn.Parameter(torch.empty(heads, width // heads))
        for linear in (self.query, self.key, self.value, self.position, self.out):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        nn.init.xavier_uniform_(self.content_bias)
        nn.init.xavier_uniform_(self.position_bias)

    def forward(self, x: Tensor, lengths: Tensor, sinusoids: Tensor) -> Tensor:
        """Attention within each clip's length (B,), on x's device; what stands beyond means nothing. `sinusoids` is
        `sinusoids(T, width)`."""
        _, frames, width = x.shape
        query, key, value = (
            rearrange(linear(x), "b t (h d) -> b h t d", h=self.heads) for linear in (self.query, self.key, self.value)
        )
        positions = rearrange(self.position(sinusoids.to(x.dtype)), "t (h d) -> h t d", h=self.heads)
        scores = self._position_scores(query + self.position_bias[:, None], positions, lengths)
        valid = valid_mask(lengths, frames, x.device)[:, None, None]
        attended = F.scaled_dot_product_attention(
            query + self.content_bias[:, None],
            key,
            value,
            attn_mask=(scores / math.sqrt(width)).masked_fill(~valid, float("-inf")).to(value.dtype),
            dropout_p=self.dropout if self.training else 0.0,
            scale=1 / math.sqrt(width),  # of the whole width, not of a head's as usual: published weights want it
        )
        out: Tensor = self.out(rearrange(attended, "b h t d -> b t (h d)"))
        return out

    def _position_scores(self, query: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
        """(B, H, T, d) and (H, T, d) -> (B, H, T, T)"""
        raw = query @ positions.transpose(1, 2)
        if self.padding == "masked":
            # Of row i, the shift reads columns c >= T-1-i as row i's, and the others as row i-1's, which wrapped
            # around. Only the former count from the clip's end: theirs are the positions moved by its padding.
            frames = raw.shape[-1]
            columns = torch.arange(frames, device=raw.device)
            moved = (columns - (frames - lengths)[:, None]).clamp(0, frames - 1)  # (B, T)
            own_end = raw.gather(3, moved[:, None, None].expand_as(raw))
            raw = torch.where(columns[:, None] + columns >= frames - 1, own_end, raw)
        return _relative_shift(raw)


def _relative_shift(x: Tensor) -> Tensor:
    """(..., T, T) -> (..., T, T): a column of zeros before, read as if it had one row more, less the first."""
    frames = x.shape[-1]
    return F.pad(x, (1, 0)).view(*x.shape[:-2], frames + 1, frames)[..., 1:, :]


def sinusoids(frames: int, width: int, device: torch.device | None = None) -> Tensor:
    """float32 (T, width): positions 0..T-1, sines in even columns, cosines in odd ones (Vaswani et al., 2017)."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angles = torch.arange(frames, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
