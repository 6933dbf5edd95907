"""Batches of lip regions become what the published system feeds its networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from model.transforms import Augmentation, TransformSettings, draw_augmentation, transform

LEVEL = 1 / 255 / 0.17
"""One grey level in normalised units."""


def regions(clips: int = 2, frames: int = 3, side: int = 90, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (clips, frames, side, side), generator=torch.Generator().manual_seed(seed)).byte()


def whole(roi: Tensor) -> Tensor:
    return torch.full((len(roi),), roi.shape[1])


def augmentation(clips: int = 2, **changes: Any) -> Augmentation:
    """No change, but for what is named: no shift, no flip, nothing erased or masked."""
    values = {"shift": 0, "flip": False, "erase_corner": [200, 200], "mask_start": 0, "mask_length": 0} | changes
    return Augmentation(**{name: torch.tensor([value] * clips) for name, value in values.items()})


def levels(pictures: Tensor, options: TransformSettings = TransformSettings()) -> np.ndarray[Any, Any]:
    """Back from normalised units to grey levels (B, T, size, size)."""
    return (pictures[:, 0].double().numpy() * options.std + options.mean) * 255


def by_pillow(roi: Tensor, crop_radius: int, size: int, shift: int = 0) -> np.ndarray[Any, Any]:
    """Frame by frame: crop, then resize."""
    low, high = 5 + shift, 5 + shift + 2 * crop_radius
    pictures = [Image.fromarray(frame).crop((low, low, high, high)) for frame in roi.flatten(0, 1).numpy()]
    resized = [np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)) for picture in pictures]
    return np.stack(resized).reshape(*roi.shape[:2], size, size).astype(float)


def stored_region(frames: np.ndarray[Any, Any], centres: np.ndarray[Any, Any], crop_radius: int) -> Tensor:
    """What a shard holds of these frames: uint8 (1, T, R, R), cut and turned to grey by Pillow."""
    reach = crop_radius + 5
    boxes = [(x - reach, y - reach, x + reach, y + reach) for x, y in centres.tolist()]
    pairs = zip(frames, boxes, strict=True)
    return torch.from_numpy(np.stack([np.asarray(Image.fromarray(f).crop(b).convert("L")) for f, b in pairs]))[None]


@pytest.mark.parametrize("clip", range(3))
def test_pictures_equal_the_published_ones_to_what_grey_before_resizing_costs(reference: Path, clip: int) -> None:
    arrays = np.load(reference / "b_video_roi.npz")
    crop_radius = int(arrays[f"half_{clip}"])
    roi = stored_region(arrays[f"frames_{clip}"], arrays[f"coords_{clip}"], crop_radius)
    pictures = transform(roi, whole(roi), None, TransformSettings(crop_radius=crop_radius))
    error = levels(pictures)[0] - arrays[f"gray_{clip}"]
    # rounding to whole levels happens once on grey, where the published code rounds three colours and then grey
    assert np.abs(error).max() <= 2.001
    assert np.abs(error).mean() < 0.5
    assert abs(error.mean()) < 0.5
    assert np.abs(pictures[0].numpy() - arrays[f"tensor_{clip}"]).max() <= 2.001 * LEVEL


@pytest.mark.parametrize("run", range(3))
def test_augmented_pictures_equal_the_published_ones(reference: Path, run: int) -> None:
    arrays = np.load(reference / "b_video_roi.npz")
    shift, flip, x, y = arrays[f"aug_params_{run}"].tolist()
    roi = stored_region(arrays["aug_frames"], arrays["aug_coords"], 40)
    changed = augmentation(1, shift=shift, flip=bool(flip), erase_corner=[x, y])
    pictures = transform(roi, whole(roi), changed)[0].numpy()
    expected = arrays[f"aug_tensor_{run}"]
    assert np.abs(pictures - expected).max() <= 2.001 * LEVEL
    assert np.abs(pictures - expected).mean() < 0.5 * LEVEL
    square = np.s_[:, :, max(y, 0) : y + 56, max(x, 0) : x + 56]
    assert (expected[square] == 0).all()
    assert (pictures[square] == 0).all()
    assert (pictures == 0).sum() == pictures[square].size


@pytest.mark.parametrize("crop_radius", [40, 50])
@pytest.mark.parametrize("size", [112, 128, 48, 17])
def test_resizing_is_pillows_to_one_grey_level(crop_radius: int, size: int) -> None:
    options = TransformSettings(crop_radius=crop_radius, size=size)
    roi = regions(side=options.stored_side)
    error = np.abs(levels(transform(roi, whole(roi), None, options), options) - by_pillow(roi, crop_radius, size))
    # products in another order of additions may round a tie the other way; not rounding would leave 0.25 on average
    assert error.max() < 1.001
    assert error.mean() < 0.02


def test_resizing_by_ratios_with_many_ties_is_rarely_two_levels_off() -> None:
    options = TransformSettings(size=96)
    roi = regions(frames=10)
    error = np.abs(levels(transform(roi, whole(roi), None, options), options) - by_pillow(roi, 40, 96))
    # 5/6 puts every twelfth value halfway between two levels, along the width and again along the height
    assert error.max() < 2.001
    assert (error > 1.001).mean() < 1e-3
    assert error.mean() < 0.1


@pytest.mark.parametrize("shift", [-5, -1, 0, 3, 5])
def test_shift_moves_the_square_by_native_pixels_in_x_and_y(shift: int) -> None:
    roi = regions()
    error = np.abs(levels(transform(roi, whole(roi), augmentation(shift=shift))) - by_pillow(roi, 40, 112, shift))
    assert error.max() < 1.001
    assert error.mean() < 0.02


def test_margin_is_not_seen_without_a_shift() -> None:
    roi = regions()
    inner = torch.zeros_like(roi)
    inner[:, :, 5:85, 5:85] = roi[:, :, 5:85, 5:85]
    assert torch.equal(transform(inner, whole(roi)), transform(roi, whole(roi)))


def test_flip_mirrors_the_picture_left_to_right() -> None:
    roi = regions()
    flipped, plain = transform(roi, whole(roi), augmentation(flip=True)), transform(roi, whole(roi))
    # the map is symmetric but for the rounding of ties
    assert (flipped - plain.flip(-1)).abs().max() < 1.001 * LEVEL
    assert (flipped - plain.flip(-1)).abs().mean() < 0.02 * LEVEL
    assert (flipped - plain).abs().mean() > 10 * LEVEL


def test_augmentation_is_of_each_clips_own_numbers() -> None:
    roi = regions(clips=3)
    varied = Augmentation(
        shift=torch.tensor([-4, 0, 5]),
        flip=torch.tensor([True, False, False]),
        erase_corner=torch.tensor([[-10, 66], [20, 30], [0, 0]]),
        mask_start=torch.tensor([0, 1, 2]),
        mask_length=torch.tensor([1, 0, 1]),
    )
    together = transform(roi, torch.tensor([3, 2, 3]), varied)
    for clip, frames in enumerate([3, 2, 3]):
        own = Augmentation(*(values[clip : clip + 1] for values in vars(varied).values()))
        alone = transform(roi[clip : clip + 1, :frames], torch.tensor([frames]), own)
        assert torch.equal(together[clip : clip + 1, :, :frames], alone)


@pytest.mark.parametrize(("x", "y"), [(-10, -10), (0, 0), (20, 41), (66, -3), (66, 66)])
def test_erased_square_is_one_in_all_frames_and_cut_at_the_border(x: int, y: int) -> None:
    roi = regions()
    plain = transform(roi, whole(roi))
    expected = plain.clone()
    expected[..., max(y, 0) : y + 56, max(x, 0) : x + 56] = 0
    assert torch.equal(transform(roi, whole(roi), augmentation(erase_corner=[x, y])), expected)
    assert (plain != 0).all()


def test_erased_square_scales_with_the_picture() -> None:
    assert TransformSettings().erased == (56, 10)
    assert TransformSettings(size=48).erased == (24, 4)
    roi = regions()
    small = transform(roi, whole(roi), augmentation(erase_corner=[4, 20]), TransformSettings(size=48))
    assert (small[..., 20:44, 4:28] == 0).all()
    assert (small == 0).sum() == 24 * 24 * 6


def test_masked_frames_are_zero_and_the_others_untouched() -> None:
    roi = regions(frames=12)
    plain, masked = transform(roi, whole(roi)), transform(roi, whole(roi), augmentation(mask_start=4, mask_length=3))
    assert (masked[:, :, 4:7] == 0).all()
    kept = [0, 1, 2, 3, 7, 8, 9, 10, 11]
    assert torch.equal(masked[:, :, kept], plain[:, :, kept])


def test_temporal_mean_is_subtracted_clip_by_clip() -> None:
    moving = TransformSettings(subtract_temporal_mean=True)
    roi, lengths = regions(frames=6), torch.tensor([6, 4])
    face = torch.randint(0, 100, (1, 1, 90, 90), generator=torch.Generator().manual_seed(1)).byte()
    seen = transform(roi // 2, lengths, settings=moving)
    for clip, length in enumerate([6, 4]):
        assert seen[clip, 0, :length].mean(dim=0).abs().max() < 1e-5
        assert torch.equal(seen[clip, 0, length:], torch.zeros_like(seen[clip, 0, length:]))
        alone = transform(roi[clip : clip + 1, :length] // 2, lengths[clip : clip + 1], settings=moving)
        torch.testing.assert_close(seen[clip : clip + 1, :, :length], alone)
    plain = transform(roi // 2, lengths)
    torch.testing.assert_close(seen[0], plain[0] - plain[0].mean(dim=1, keepdim=True), atol=1e-4, rtol=0)
    # two levels: rounding, after adding the face and without it
    other = transform(roi // 2 + face, lengths, settings=moving)
    assert (other[0] - seen[0]).abs().max() < 2 * LEVEL


def test_frames_beyond_a_clips_length_are_zero_whatever_they_hold() -> None:
    roi, lengths = regions(clips=3, frames=6), torch.tensor([6, 4, 0])
    for numbers in (None, augmentation(3, shift=2, flip=True)):
        pictures = transform(roi, lengths, numbers)
        assert (pictures[1, :, 4:] == 0).all()
        assert (pictures[2] == 0).all()
        assert (pictures[0] != 0).all()


def test_transform_gives_the_networks_shape_and_dtype() -> None:
    pictures = transform(regions(), whole(regions()))
    assert (pictures.shape, pictures.dtype) == ((2, 1, 3, 112, 112), torch.float32)


def test_resizing_is_not_made_coarse_by_autocast() -> None:
    roi = regions()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pictures = transform(roi, whole(roi))
    assert torch.equal(pictures, transform(roi, whole(roi)))


def draw(
    clips: int = 4000, seed: int = 0, options: TransformSettings = TransformSettings(), window: int = 50
) -> Augmentation:
    starts, sizes = torch.full((clips,), 7), torch.full((clips,), window)
    return draw_augmentation(starts, sizes, torch.Generator().manual_seed(seed), options)


def test_draws_cover_the_published_ranges_with_the_published_rates() -> None:
    drawn = draw()
    counts = torch.bincount(drawn.shift + 5, minlength=11)
    assert len(counts) == 11  # -5 to 5, ends included
    assert counts.min() > 4000 / 11 * 0.75  # five deviations of a fair draw
    assert abs(drawn.flip.double().mean() - 0.5) < 0.04
    for axis in range(2):
        assert set(drawn.erase_corner[:, axis].tolist()) == set(range(-10, 67))
    assert (drawn.erase_corner[:, 0] != drawn.erase_corner[:, 1]).any()
    assert set(drawn.mask_length.tolist()) == {0, 2, 3, 4, 5, 6, 7}
    assert abs((drawn.mask_length > 0).double().mean() - 0.5) < 0.04
    ends = (drawn.mask_start + drawn.mask_length)[drawn.mask_length > 0]
    assert (int(drawn.mask_start.min()), int(ends.max())) == (7, 57)


def test_draws_are_the_same_for_the_same_seed_only() -> None:
    first, again, other = draw(64), draw(64), draw(64, seed=1)
    for name, values in vars(first).items():
        assert torch.equal(values, vars(again)[name])
        assert not torch.equal(values, vars(other)[name])


def test_settings_turn_each_variation_off() -> None:
    still = TransformSettings(max_shift=0, flip_probability=0.0, erase_size=0, mask_probability=0.0)
    drawn = draw(50, options=still)
    assert (drawn.shift == 0).all()
    assert not drawn.flip.any()
    assert (drawn.mask_length == 0).all()
    roi = regions(50, 1)
    assert torch.equal(transform(roi, whole(roi), drawn, still), transform(roi, whole(roi)))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), min_size=1, max_size=8), st.integers(0, 999))
def test_masked_runs_lie_inside_their_windows(windows: list[tuple[int, int]], seed: int) -> None:
    starts, sizes = torch.tensor(windows).unbind(1)
    drawn = draw_augmentation(
        starts, sizes, torch.Generator().manual_seed(seed), TransformSettings(mask_probability=1.0)
    )
    assert (drawn.mask_start >= starts).all()
    assert (drawn.mask_start + drawn.mask_length <= starts + sizes).all()
    assert (drawn.mask_length >= sizes.clamp_max(2)).all()
    assert (drawn.mask_length <= 7).all()


def test_regions_that_do_not_fit_the_settings_are_refused_with_both_sizes() -> None:
    lrs3 = regions(side=110)
    with pytest.raises(ValueError, match=r"\(2, 3, 110, 110\): expected uint8 \(B, T, 90, 90\) for crop_radius 40"):
        transform(lrs3, whole(lrs3))
    with pytest.raises(ValueError, match=r"torch.float32"):
        transform(regions().float(), torch.tensor([3, 3]))
    with pytest.raises(ValueError, match=r"\(3, 90, 90\)"):
        transform(regions()[0], torch.tensor([3]))


def test_augmentation_that_does_not_fit_the_batch_is_refused() -> None:
    roi = regions()
    with pytest.raises(ValueError, match=r"4 frames in a batch of 3"):
        transform(roi, torch.tensor([3, 4]))
    with pytest.raises(ValueError, match=r"shift of 6 pixels: .* margin of 5"):
        transform(roi, whole(roi), augmentation(shift=-6))
    with pytest.raises(ValueError, match=r"shift of shape \(3,\) for a batch of 2"):
        transform(roi, whole(roi), augmentation(3))
    with pytest.raises(ValueError, match=r"lengths of shape \(1,\) for a batch of 2"):
        transform(roi, torch.tensor([3]))


@pytest.mark.parametrize(
    "wrong",
    [{"max_shift": 6}, {"max_shift": -1}, {"mask_min_frames": 8}, {"mask_min_frames": 0}, {"erase_size": 113},
     {"std": 0.0}, {"size": 0}, {"crop_radius": 0}],
)  # fmt: skip
def test_transform_settings_that_cannot_be_applied_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
        TransformSettings(**wrong)


@pytest.mark.slow
def test_transform_compiled_in_one_graph_gives_the_same() -> None:
    roi, drawn = regions(4, 5), draw(4)
    compiled = torch.compile(transform, fullgraph=True)(roi, torch.tensor([5, 5, 3, 1]), drawn)
    torch.testing.assert_close(compiled, transform(roi, torch.tensor([5, 5, 3, 1]), drawn), rtol=0, atol=1.001 * LEVEL)
