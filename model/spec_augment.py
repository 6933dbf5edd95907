"""SpecAugment (Park et al., 2019): runs of frames and of bands of a mel masked in training, so that none is relied on.

Time warping, which the paper finds to matter least, is not done. Drawing is apart from applying, as in transforms.py.
A masked place takes the clip's own mean: in this mel 0 is mid-level and -1 is silence (docs/method.md, Audio), and both
would be sounds to the network, where the mean is none in particular.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.padding import valid_mask


@dataclass(frozen=True)
class SpecAugmentSettings:
    """How much is masked.

    Attributes:
        time_masks: runs of frames a clip.
        time_frames: the longest run, mel frames.
        time_share: the longest run as a share of the clip's frames, rounded down; the shorter of both limits holds.
        band_masks: runs of bands a clip.
        bands: the widest run of bands.

    Raises:
        ValueError: numbers that make no sense.
    """

    time_masks: int = 2
    time_frames: int = 40
    time_share: float = 0.2
    band_masks: int = 2
    bands: int = 15

    def __post_init__(self) -> None:
        if min(self.time_masks, self.time_frames, self.band_masks, self.bands) < 0:
            raise ValueError(f"masks, frames and bands must be 0 or more: found {self}")
        if not 0 <= self.time_share <= 1:
            raise ValueError(f"time_share {self.time_share}: expected 0 to 1, a share of the clip")


@dataclass(frozen=True)
class Masks:
    """One batch's masks, int64, all on one device; a width of 0 masks nothing.

    Attributes:
        time_start, time_width: (B, time_masks) mel frames, counted from the clip's first; inside the clip.
        band_start, band_width: (B, band_masks) bands, counted from the lowest.
    """

    time_start: Tensor
    time_width: Tensor
    band_start: Tensor
    band_width: Tensor


def draw_masks(
    lengths: Tensor, n_mels: int, generator: torch.Generator, settings: SpecAugmentSettings = SpecAugmentSettings()
) -> Masks:
    """Draw masks for a batch: widths uniform from 0 to the most allowed, then places uniform among those that fit.

    The same number of values is drawn whatever they turn out to be. Seed the generator by what is drawn for (run,
    epoch, micro-batch), never by the process that draws.

    Args:
        lengths: (B,) mel frames of each clip, on the CPU, as generator and masks are.
        n_mels, generator, settings: bands of the mel, what to draw from, and how much is masked.

    Raises:
        ValueError: masks wider than the mel has bands.
    """
    if settings.bands > n_mels:
        raise ValueError(f"bands {settings.bands}: masks as wide as that do not fit a mel of {n_mels} bands")
    # the product of a share and a length may fall just short of the whole number it stands for: 0.29 * 100
    share = (settings.time_share * lengths.double() + 1e-6).long()
    times = _runs(share.clamp_max(settings.time_frames), lengths, settings.time_masks, generator)
    widest, bands = torch.full_like(lengths, settings.bands), torch.full_like(lengths, n_mels)
    return Masks(*times, *_runs(widest, bands, settings.band_masks, generator))


def mask_mel(mel: Tensor, masks: Masks, lengths: Tensor) -> Tensor:
    """New mels (B, n_mels, S) with their masked places set to each clip's mean over its valid frames.

    Args:
        mel: (B, n_mels, S) the network's mel, padded at the end of S with anything, which stays as it is.
        masks: of this batch, on the CPU or mel's device.
        lengths: (B,) mel frames of each clip, likewise.
    """
    batch, bands, frames = mel.shape
    valid = valid_mask(lengths, frames, mel.device)
    masked_frames = _covered(masks.time_start, masks.time_width, frames, mel.device)
    masked_bands = _covered(masks.band_start, masks.band_width, bands, mel.device)
    masked = (masked_frames[:, None, :] | masked_bands[:, :, None]) & valid[:, None, :]
    # in float32 whatever the mel's own kind: a sum of thousands
    level = mel.float().masked_fill(~valid[:, None, :], 0.0).sum(dim=(1, 2))
    mean = level / (valid.sum(dim=1) * bands).clamp_min(1)
    return torch.where(masked, mean.to(mel.dtype).view(batch, 1, 1), mel)


def _runs(widest: Tensor, room: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Starts and widths (B, count): widths from 0 to `widest` (B,), inside `room` (B,)."""
    width_draw, start_draw = torch.rand(2, len(room), count, generator=generator, dtype=torch.float64)
    width = (width_draw * (widest[:, None] + 1)).long()
    start = (start_draw * (room[:, None] - width + 1)).long()
    return start, width


def _covered(start: Tensor, width: Tensor, places: int, device: torch.device) -> Tensor:
    """(B, masks) runs -> bool (B, places), True inside any of them."""
    start, width = start.to(device, non_blocking=True), width.to(device, non_blocking=True)
    since = torch.arange(places, device=device) - start[:, :, None]
    return ((since >= 0) & (since < width[:, :, None])).any(dim=1)
