"""Self-attention with the relative positional encoding of Transformer-XL, in the published one-sided form.

The score of query i and key j is ((q_i + u) k_j + shifted position score) / sqrt(width). The position score comes from
(q_i + v) p_c, p_c the projected sinusoid of position c in 0..T-1, through Transformer-XL's relative shift. With
sinusoids of 0..T-1 alone that shift wraps around: for j <= i the score is (q_i + v) p[T-1-i+j], for j = i + 1 it is 0,
and beyond it is (q_{i+1} + v) p[j-i-2]. Published weights were trained with it (docs/method.md, Visual encoder).

T is the padded length in the published code. Masked, it is each clip's own.

Source: Dai et al., Transformer-XL, 2019, section 3.3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from model.padding import Padding, valid_mask


class RelativeAttention(nn.Module):
    """Multi-head self-attention over (B, T, width).

    Args:
        width: of the features.
        heads: a divisor of the width.
        dropout: of the attention weights, in training.
        padding: whether the shift goes by each clip's own length.
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
        """
        Args:
            x: (B, T, width).
            lengths: (B,) frames of each clip, on x's device.
            sinusoids: (T, width), `sinusoids(T, width)`.

        Returns:
            (B, T, width). What stands beyond a clip's length means nothing.
        """
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
    """Encodings of positions 0..T-1: sines in even columns, cosines in odd ones (Vaswani et al., 2017).

    Returns:
        float32 (T, width).
    """
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angles = torch.arange(frames, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
