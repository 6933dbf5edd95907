"""Video transforms and augmentation of a batch of lip regions: crop, flip, resize, normalize, erase, mask frames.

docs/method.md, Video and Masked prediction. Shards keep the grey lip region at native resolution with a margin;
everything else happens here, on the batch, on the device. Drawing is apart from applying: `draw_augmentation` makes a
batch's random numbers on the CPU from one seeded generator, `transform` is a fixed function of pictures and numbers, so
what a clip looks like depends neither on the device nor on who draws. Unlike in the published order, flipping comes
before resizing, which changes nothing, since the map is symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_PUBLISHED_SIZE = 112


@dataclass(frozen=True)
class TransformSettings:
    """The pictures the networks see, and how they vary in training. The defaults are the published ones, for LRS2.

    Attributes:
        crop_radius: half the side of the lip square, native pixels: 40 for LRS2, 50 for LRS3.
        margin: what shards keep around the square, native pixels.
        size: side of the picture that the networks see.
        mean, std: of grey levels in [0, 1].
        subtract_temporal_mean: subtract each pixel's mean over the segment in place of `mean`, since what does not move
            shows face and light and not speech. It helps where a network learns from few faces. Not as published.
        max_shift: the most native pixels by which the square moves, in x and y alike.
        flip_probability: of a horizontal flip.
        erase_size: side of the square that is set to 0, in pixels of a 112x112 picture, scaled along with `size`;
            0 erases nothing.
        erase_overhang: how far that square may reach out of the picture, same unit.
        mask_probability: of a run of frames set to 0.
        mask_min_frames, mask_max_frames: the run's length.

    Raises:
        ValueError: a shift that leaves the stored margin, or numbers that make no sense.
    """

    crop_radius: int = 40
    margin: int = 5
    size: int = 112
    mean: float = 0.4136
    std: float = 0.1700
    subtract_temporal_mean: bool = False
    max_shift: int = 5
    flip_probability: float = 0.5
    erase_size: int = 56
    erase_overhang: int = 10
    mask_probability: float = 0.5
    mask_min_frames: int = 2
    mask_max_frames: int = 7

    def __post_init__(self) -> None:
        if not 0 <= self.max_shift <= self.margin:
            found = f"max_shift {self.max_shift}: shards keep a margin of {self.margin}"
            raise ValueError(f"{found}, so 0 to {self.margin}")
        if not 1 <= self.mask_min_frames <= self.mask_max_frames:
            found = f"mask_min_frames {self.mask_min_frames}, mask_max_frames {self.mask_max_frames}"
            raise ValueError(f"{found}: expected 1 or more, and no fewer")
        if not 0 <= self.erase_size <= _PUBLISHED_SIZE:
            raise ValueError(f"erase_size {self.erase_size}: expected 0 to {_PUBLISHED_SIZE}, whatever `size` is")
        for name in ("flip_probability", "mask_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 0 to 1")
        if min(self.crop_radius, self.size) < 1 or self.std <= 0 or self.erase_overhang < 0:
            raise ValueError(f"crop_radius, size and std must be positive, erase_overhang not negative: found {self}")

    @property
    def stored_side(self) -> int:
        """R: the side of a stored lip region, native pixels."""
        return 2 * (self.crop_radius + self.margin)

    @property
    def erased(self) -> tuple[int, int]:
        """Side and overhang of the erased square in pixels of a picture of `size`."""
        scale = self.size / _PUBLISHED_SIZE
        return round(self.erase_size * scale), round(self.erase_overhang * scale)


@dataclass(frozen=True)
class Augmentation:
    """One batch's random numbers, int64 unless said, all on one device.

    Attributes:
        shift: (B,) native pixels, added to x and y.
        flip: bool (B,).
        erase_corner: (B, 2) x and y of the erased square's corner, pixels of the resized (and flipped) picture.
        mask_start, mask_length: (B,) the run of masked frames, counted from the segment's first; length 0: none.
    """

    shift: Tensor
    flip: Tensor
    erase_corner: Tensor
    mask_start: Tensor
    mask_length: Tensor


def draw_augmentation(
    starts: Tensor, sizes: Tensor, generator: torch.Generator, settings: TransformSettings = TransformSettings()
) -> Augmentation:
    """Draw what varies in training, for a batch.

    The same number of values is drawn whatever they turn out to be. Seed the generator by what is drawn for (run,
    epoch, micro-batch), never by the process that draws.

    Args:
        starts, sizes: (B,) generation windows in frames, on the CPU: masked frames lie inside. A run longer than its
            window is cut to it.
        generator: of the CPU, as the numbers are.
        settings: the ranges, ends included.
    """
    clips = len(starts)

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, (clips, *shape), generator=generator)

    def uniform() -> Tensor:
        return torch.rand(clips, generator=generator, dtype=torch.float64)

    side, overhang = settings.erased
    shift = whole(-settings.max_shift, settings.max_shift)
    flip = uniform() < settings.flip_probability
    corner = whole(-overhang, settings.size - side + overhang, 2)
    masked = uniform() < settings.mask_probability
    length = torch.minimum(whole(settings.mask_min_frames, settings.mask_max_frames), sizes)
    start = starts + (uniform() * (sizes - length + 1)).long()
    return Augmentation(shift, flip, corner, start, length * masked)


def transform(
    roi: Tensor,
    lengths: Tensor,
    augmentation: Augmentation | None = None,
    settings: TransformSettings = TransformSettings(),
) -> Tensor:
    """Lip regions as stored to pictures as the networks take them.

    Args:
        roi: uint8 (B, T, R, R) grey lip regions, R = 2 (crop_radius + margin), padded at the end of T.
        lengths: (B,) frames of each clip.
        augmentation: what varies in training; None in evaluation. It and `lengths` may lie on the CPU, where their
            values are looked at without waiting for the device, or on roi's device, where they are trusted.
        settings: sizes and levels.

    Returns:
        float32 (B, 1, T, size, size) on roi's device, normalized; 0 in erased squares, in masked frames and beyond each
        clip's length.

    Raises:
        ValueError: regions of another kind or size than the settings say, shifts beyond the margin, lengths beyond T.
    """
    _check(roi, lengths, augmentation, settings)
    lengths = lengths.to(roi.device, non_blocking=True)
    if augmentation is not None:
        numbers = (values.to(roi.device, non_blocking=True) for values in vars(augmentation).values())
        augmentation = Augmentation(*numbers)
    # autocast would round the weights to 8 bits
    with torch.autocast(roi.device.type, enabled=False):
        pictures = resize(_crop(roi, augmentation, settings), settings.size)
    frames = torch.arange(roi.shape[1], device=roi.device)
    shown = frames < lengths[:, None]
    level: Tensor | float = 255 * settings.mean
    if settings.subtract_temporal_mean:
        level = (pictures * shown[:, :, None, None]).sum(1, keepdim=True) / lengths.clamp_min(1)[:, None, None, None]
    if augmentation is not None:
        since = frames - augmentation.mask_start[:, None]
        shown &= (since < 0) | (since >= augmentation.mask_length[:, None])
    pictures.sub_(level).mul_((shown / (255 * settings.std))[:, :, None, None])
    if augmentation is not None:
        pictures.mul_(_kept_pixels(augmentation.erase_corner, settings)[:, None])
    return pictures[:, None]


def _crop(roi: Tensor, augmentation: Augmentation | None, settings: TransformSettings) -> Tensor:
    """The shifted, flipped lip squares, in one gather: uint8 (B, T, R, R) -> (B, T, 2 crop_radius, 2 crop_radius)."""
    clips, frames, stored, _ = roi.shape
    side = 2 * settings.crop_radius
    if augmentation is None:
        return roi[:, :, settings.margin : settings.margin + side, settings.margin : settings.margin + side]
    pixel = torch.arange(side, device=roi.device)
    corner = (settings.margin + augmentation.shift)[:, None]
    rows = corner + pixel
    columns = corner + torch.where(augmentation.flip[:, None], pixel.flip(0), pixel)
    # one index a pixel of the flattened region: three times as fast on a CPU as an index for each dimension
    index = (rows[:, :, None] * stored + columns[:, None, :]).view(clips, 1, side * side)
    pixels = roi.reshape(clips, frames, stored * stored).gather(2, index.expand(-1, frames, -1))
    return pixels.view(clips, frames, side, side)


def resize(pictures: Tensor, size: int) -> Tensor:
    """Pillow's `Image.resize(..., BILINEAR)`, antialiased: uint8 (B, T, N, N) -> float32 (B, T, size, size) of whole
    grey levels. Not under autocast, which would round its weights.

    By hand, since torch's antialiased `interpolate` rounds otherwise than Pillow, which published weights saw. It is a
    linear map along the width and then along the height: two products with a small fixed matrix. After each, grey
    levels are rounded half up, as Pillow does: from 80 to 112 pixels all are Pillow's own; elsewhere ties may be
    rounded the other way, one level off in a few pixels of a hundred.
    """
    clips, frames, side, _ = pictures.shape
    weights = _resize_weights(side, size, pictures.device)
    widened = (pictures.float().reshape(-1, side) @ weights.T).add_(0.5).floor_()
    # the matrix is expanded, not copied, and the product needs no turning of pictures
    both = torch.bmm(weights.expand(clips * frames, -1, -1), widened.view(clips * frames, side, size))
    return both.add_(0.5).floor_().view(clips, frames, size, size)


def _resize_weights(source: int, size: int, device: torch.device) -> Tensor:
    """float32 (size, source): a triangle around each new pixel's centre, wider when shrinking."""
    scale = source / size
    centres = (torch.arange(size, dtype=torch.float64, device=device)[:, None] + 0.5) * scale
    distance = (torch.arange(source, dtype=torch.float64, device=device) + 0.5 - centres).abs()
    triangles = (1 - distance / max(scale, 1.0)).clamp_min(0)
    weights = triangles / triangles.sum(dim=1, keepdim=True)
    # Pillow's fixed point: it decides which way a tie between two grey levels is rounded
    return ((weights * 2**22 + 0.5).floor() / 2**22).float()


def _kept_pixels(corner: Tensor, settings: TransformSettings) -> Tensor:
    """(B, 2) corners in x and y -> float32 (B, size, size), rows first: 0 in the erased square, 1 elsewhere."""
    since = torch.arange(settings.size, device=corner.device) - corner[:, :, None]
    columns, rows = ((since >= 0) & (since < settings.erased[0])).unbind(1)
    return 1 - (rows[:, :, None] & columns[:, None, :]).float()


def _check(roi: Tensor, lengths: Tensor, augmentation: Augmentation | None, settings: TransformSettings) -> None:
    side = settings.stored_side
    if roi.dtype != torch.uint8 or roi.ndim != 4 or roi.shape[2:] != (side, side):
        raise ValueError(
            f"lip regions are {roi.dtype} {tuple(roi.shape)}: expected uint8 (B, T, {side}, {side}) for crop_radius "
            f"{settings.crop_radius} and margin {settings.margin}; do the settings match the dataset's?"
        )
    for name, values in [("lengths", lengths), ("shift", augmentation.shift if augmentation else None)]:
        if values is not None and values.shape != roi.shape[:1]:
            raise ValueError(f"{name} of shape {tuple(values.shape)} for a batch of {len(roi)}: expected one a clip")
    if torch.compiler.is_compiling():
        return
    if lengths.device.type == "cpu" and bool((lengths > roi.shape[1]).any()):
        raise ValueError(f"a clip of {int(lengths.max())} frames in a batch of {roi.shape[1]}: cut lengths to T")
    if augmentation is not None and augmentation.shift.device.type == "cpu":
        furthest = int(augmentation.shift.abs().max()) if len(roi) else 0
        if furthest > settings.margin:
            raise ValueError(f"a shift of {furthest} pixels: regions are stored with a margin of {settings.margin}")
