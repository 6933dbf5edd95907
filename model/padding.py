"""Padding masks: clips of different lengths in one batch, which frames are valid, and what the others may do.

`masked`, the default: a clip's result in evaluation does not depend on what it is batched with. Every convolution over
time sees zeros beyond a clip's end, as it would if the clip were alone, the relative shift of attention goes by the
clip's own length, and in training batch norm counts only valid frames, gathered into one row.

`published`: padding is masked as attention keys only and leaks through everything else, as in the published code, whose
figures and arrays depend on it (docs/method.md, Differences from the published system).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

Padding = Literal["masked", "published"]


def check_padding(padding: str) -> None:
    """`ValueError` for what is no `Padding`."""
    if padding not in get_args(Padding):
        raise ValueError(f"padding {padding!r}: expected one of {', '.join(get_args(Padding))}")


def valid_mask(lengths: Tensor, frames: int, device: torch.device | None = None) -> Tensor:
    """bool (B, T): which of T frames are a clip's own, by lengths (B,), and not padding; on their device by default."""
    lengths = lengths.to(device or lengths.device, non_blocking=True)
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def mask_padding(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, ...) with zeros where the mask (B, T) is False."""
    return x.masked_fill(~mask.reshape(*mask.shape, *[1] * (x.dim() - 2)), 0.0)


def valid_positions(lengths: Tensor, frames: int, device: torch.device) -> Tensor:
    """int64 (N,) on the device: positions of the N valid frames in a batch whose first dimensions (B, T) are flattened.

    Their number follows from the lengths: where these lie on the CPU, a GPU need not be waited for.
    """
    return valid_mask(lengths, frames).flatten().nonzero().squeeze(1).to(device, non_blocking=True)


class ValidFrames(NamedTuple):
    """The valid frames of a batch, for a network that is trained masked. Found before it runs, from lengths on the CPU,
    they are looked for once a step, and torch.compile has no break in its graph.

    Attributes:
        positions: int64 (N,), `valid_positions`.
        rounded: int64 (N',), what goes through convolutions of single frames: the same, on a GPU `round_up` of them.
    """

    positions: Tensor
    rounded: Tensor


def valid_frames(lengths: Tensor, frames: int, device: torch.device) -> ValidFrames:
    """`ValidFrames` on the device; arguments as of `valid_positions`."""
    positions = valid_positions(lengths, frames, lengths.device)
    rounded = round_up(positions) if device.type == "cuda" else positions
    return ValidFrames(positions.to(device, non_blocking=True), rounded.to(device, non_blocking=True))


def round_up(positions: Tensor) -> Tensor:
    """(N,) -> (N',), N' a multiple of 64: the positions, then some of them again, evenly spread.

    cuDNN plans each convolution anew for every N, for more than a millisecond, and batches of speech have as many N as
    there are batches. It is an approximation: batch norm's statistics count at most 63 frames twice.
    """
    missing = -len(positions) % 64
    again = torch.arange(missing, device=positions.device) * len(positions) // max(missing, 1)
    return torch.cat([positions, positions[again]])


def pack(x: Tensor, valid: Tensor) -> Tensor:
    """(B, T, ...) -> (N, ...), the valid frames."""
    return x.flatten(0, 1).index_select(0, valid)


def unpack(packed: Tensor, valid: Tensor, batch: int, frames: int) -> Tensor:
    """(N, ...) -> (B, T, ...), zeros elsewhere."""
    x = packed.new_zeros(batch * frames, *packed.shape[1:]).index_copy(0, valid, packed)
    return x.view(batch, frames, *packed.shape[1:])


def norm_frames(norm: nn.Module, x: Tensor, valid: Tensor | None) -> Tensor:
    """Batch norm of (B, T, C), over all frames or, given `valid_positions`, over those only (zeros elsewhere)."""
    if valid is None:
        normed: Tensor = norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return normed
    return unpack(norm(pack(x, valid)), valid, *x.shape[:2])
