"""Resize grey pictures as Pillow does: antialiased bilinear, on a batch, on its device.

By hand, since torch's antialiased `interpolate` rounds otherwise than Pillow, which published weights saw.
It is a linear map along the width and then along the height: two products with a small fixed matrix. After each, grey
levels are rounded half up, as Pillow does: one more pass over the memory, and in return nearly every grey level is
Pillow's own (from 80 to 112 pixels all are; elsewhere ties may be rounded the other way, one level off in a few pixels
of a hundred).
"""

from __future__ import annotations

import torch
from torch import Tensor


def resize(pictures: Tensor, size: int) -> Tensor:
    """Pillow's `Image.resize(..., BILINEAR)` of square pictures. Not under autocast, which would round its weights.

    Args:
        pictures: uint8 (B, T, N, N).
        size: side of the result.

    Returns:
        float32 (B, T, size, size) of whole grey levels.
    """
    clips, frames, side, _ = pictures.shape
    weights = _weights(side, size, pictures.device)
    widened = (pictures.float().reshape(-1, side) @ weights.T).add_(0.5).floor_()
    # the matrix is expanded, not copied, and the product needs no turning of pictures
    both = torch.bmm(weights.expand(clips * frames, -1, -1), widened.view(clips * frames, side, size))
    return both.add_(0.5).floor_().view(clips, frames, size, size)


def _weights(source: int, size: int, device: torch.device) -> Tensor:
    """A line of pixels resized: a triangle around each new pixel's centre, wider when shrinking.

    Returns:
        float32 (size, source), whole multiples of 2^-22; each row sums to 1, but for that rounding.
    """
    scale = source / size
    centres = (torch.arange(size, dtype=torch.float64, device=device)[:, None] + 0.5) * scale
    distance = (torch.arange(source, dtype=torch.float64, device=device) + 0.5 - centres).abs()
    triangles = (1 - distance / max(scale, 1.0)).clamp_min(0)
    weights = triangles / triangles.sum(dim=1, keepdim=True)
    # Pillow's fixed point: it decides which way a tie between two grey levels is rounded
    return ((weights * 2**22 + 0.5).floor() / 2**22).float()
