"""Overlap-add: the last step of an inverse STFT, for batches of clips of several lengths.

Each clip is divided by its own sum of squared windows, so that padding changes nothing. `torch.istft` and `fold` take
no lengths.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.mel import MelSettings


def overlap_add(frames: Tensor, settings: MelSettings = MelSettings()) -> Tensor:
    """(B, N, win_length) windowed frames, a hop apart -> (B, (N - 1) hop_length), from the first frame's middle to the
    last one's. Loops over the few hops of a window. Gradients flow."""
    (batch, count, size), hop = frames.shape, settings.hop_length
    hops = math.ceil(size / hop)
    total = frames.new_zeros(batch, count + hops, hop)
    for number in range(hops):
        part = frames[:, :, number * hop : (number + 1) * hop]
        total[:, number : number + count, : part.shape[2]] += part
    middle = settings.n_fft // 2 - proper_window(settings).start
    return total.flatten(1)[:, middle : middle + (count - 1) * hop]


def overlap_gain(lengths: Tensor, frames: int, settings: MelSettings = MelSettings()) -> Tensor:
    """What `overlap_add` of frames that were windowed twice is to be multiplied by: 1 / the sum of the squared windows.

    Args:
        lengths: (B,) frames of each clip, on the device that is wanted; 0 to `frames`.
        frames: N of the batch.
        settings: window and hop.

    Returns:
        float32 (B, (N - 1) hop_length), 0 past each clip's own (length - 1) hop_length.
    """
    window = torch.hann_window(settings.win_length, periodic=True, device=lengths.device)
    squares = window.square()[:, None].expand(lengths.shape[0], -1, frames)
    total = overlap_add(zero_past(squares, lengths).transpose(1, 2), settings)
    samples = ((lengths - 1) * settings.hop_length)[:, None]  # none of a clip of 0 or 1 frame, which comes out as zeros
    return zero_past(1 / total.clamp_min(torch.finfo(total.dtype).tiny), samples)


def proper_window(settings: MelSettings) -> slice:
    """Where the window lies in a frame of n_fft samples."""
    start = (settings.n_fft - settings.win_length) // 2
    return slice(start, start + settings.win_length)


def zero_past(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, ..., L) with zeros past each clip's length (B,), or (B, 1), along the last axis."""
    own = torch.arange(x.shape[-1], device=x.device) < lengths.view(-1, *[1] * (x.dim() - 1))
    return x.where(own, 0.0)
