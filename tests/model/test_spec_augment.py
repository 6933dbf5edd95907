"""SpecAugment masks as much as it says, where it says, with the clip's own mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.spec_augment import Masks, SpecAugmentSettings, draw_masks, mask_mel

LENGTHS = torch.tensor([400, 150, 37, 4, 1])


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _mels(batch: int = 5, frames: int = 400) -> torch.Tensor:
    return torch.rand(batch, 80, frames, generator=_generator(9)) * 2 - 1


def _by_hand(mel: np.ndarray, masks: Masks, lengths: torch.Tensor) -> np.ndarray:
    expected = mel.copy()
    for clip, length in enumerate(lengths.tolist()):
        mean = mel[clip, :, :length].astype(np.float64).mean()
        for start, width in zip(masks.time_start[clip].tolist(), masks.time_width[clip].tolist(), strict=True):
            expected[clip, :, start : start + width] = mean
        for start, width in zip(masks.band_start[clip].tolist(), masks.band_width[clip].tolist(), strict=True):
            expected[clip, start : start + width, :length] = mean
    return expected


@pytest.mark.parametrize("seed", range(5))
def test_masked_places_take_the_mean_of_the_clip_and_all_others_stay(seed: int) -> None:
    mel = _mels()
    masks = draw_masks(LENGTHS, 80, _generator(seed))
    # a mean of 32,000 values in float32
    torch.testing.assert_close(
        mask_mel(mel, masks, LENGTHS), torch.from_numpy(_by_hand(mel.numpy(), masks, LENGTHS)), atol=1e-6, rtol=0
    )


def test_frames_beyond_a_clip_stay_and_count_for_nothing() -> None:
    mel = _mels()
    for clip, length in enumerate(LENGTHS.tolist()):
        mel[clip, :, length:] = torch.nan
    masks = draw_masks(LENGTHS, 80, _generator())
    masked = mask_mel(mel, masks, LENGTHS)
    there = torch.arange(400) < LENGTHS[:, None]
    assert torch.equal(masked.isnan(), ~there[:, None].expand_as(mel))
    for clip, length in enumerate(LENGTHS.tolist()):
        one = Masks(*(values[clip : clip + 1] for values in vars(masks).values()))
        alone = mask_mel(mel[clip : clip + 1, :, :length], one, LENGTHS[clip : clip + 1])
        torch.testing.assert_close(masked[clip : clip + 1, :, :length], alone, atol=1e-6, rtol=0)


def test_mask_mel_does_not_change_its_input_and_returns_it_without_masks() -> None:
    mel = _mels()
    before = mel.clone()
    none = draw_masks(LENGTHS, 80, _generator(), SpecAugmentSettings(time_masks=0, band_masks=0))
    assert torch.equal(mask_mel(mel, none, LENGTHS), before)
    assert not torch.equal(mask_mel(mel, draw_masks(LENGTHS, 80, _generator()), LENGTHS), before)
    assert torch.equal(mel, before)


def test_widths_are_uniform_up_to_the_most_allowed_and_places_uniform_inside_the_clip() -> None:
    clips = 20_000
    masks = draw_masks(torch.full((clips,), 100), 80, _generator())
    assert masks.time_width.shape == masks.time_start.shape == (clips, 2)
    assert masks.band_width.shape == masks.band_start.shape == (clips, 2)
    for start, width, most, room in (
        (masks.time_start, masks.time_width, 20, 100),  # a fifth of the clip, below 40
        (masks.band_start, masks.band_width, 15, 80),
    ):
        # each of n widths 40,000 / n times, to 5 standard deviations
        expected = 2 * clips / (most + 1)
        counts = torch.bincount(width.flatten(), minlength=most + 1)
        assert len(counts) == most + 1
        assert (counts - expected).abs().max() < 5 * expected**0.5
        assert start.min() == 0
        assert (start + width).max() == room
        widest = start[width == most]
        # the mean of n uniform numbers, to 5 standard deviations
        spread = (room - most) / 12**0.5 / len(widest) ** 0.5
        assert abs(widest.double().mean() - (room - most) / 2) < 5 * spread


def test_masks_are_no_longer_than_their_share_of_the_clip() -> None:
    lengths = torch.arange(1, 301).repeat_interleave(300)
    masks = draw_masks(lengths, 80, _generator())
    widest = torch.stack([masks.time_width[lengths == length].max() for length in range(1, 301)])
    allowed = torch.arange(1, 301).div(5, rounding_mode="floor").clamp_max(40)
    assert (widest <= allowed).all()
    # of 600 draws the widest of 41 is missed once in three million
    assert torch.equal(widest, allowed)
    assert (masks.time_start >= 0).all()
    assert (masks.time_start + masks.time_width <= lengths[:, None]).all()


def test_share_that_is_a_whole_number_of_frames_is_not_rounded_down() -> None:
    settings = SpecAugmentSettings(time_share=0.29)  # times 100: 28.999999999999996
    assert draw_masks(torch.full((3000,), 100), 80, _generator(), settings).time_width.max() == 29


def test_masks_are_the_same_for_the_same_seed_and_as_much_is_drawn_whatever_comes_out() -> None:
    first, second = _generator(3), _generator(3)
    one, two = draw_masks(LENGTHS, 80, first), draw_masks(LENGTHS, 80, second)
    assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True))
    draw_masks(LENGTHS, 80, first)
    draw_masks(LENGTHS // 4 + 1, 40, second, SpecAugmentSettings(bands=3, time_frames=9))
    assert torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=second))


def test_mask_mel_keeps_the_dtype() -> None:
    mel, masks = _mels(), draw_masks(LENGTHS, 80, _generator())
    exact, rounded = mask_mel(mel, masks, LENGTHS), mask_mel(mel.bfloat16(), masks, LENGTHS)
    assert rounded.dtype == torch.bfloat16
    # half a step of 8 bits below 1
    torch.testing.assert_close(rounded.float(), exact, atol=2**-8, rtol=0)


def test_mask_mel_compiles_as_one_graph() -> None:
    compiled = torch.compile(mask_mel, fullgraph=True, backend="eager")
    mel, masks = _mels(), draw_masks(LENGTHS, 80, _generator())
    assert torch.equal(compiled(mel, masks, LENGTHS), mask_mel(mel, masks, LENGTHS))


def test_mask_mel_has_gradients_of_what_is_not_masked() -> None:
    mel = _mels().requires_grad_()
    masks = draw_masks(LENGTHS, 80, _generator())
    mask_mel(mel, masks, LENGTHS).sum().backward()
    assert mel.grad is not None
    # a masked place still has its part in the mean; that is little
    assert (mel.grad[0] >= 1).any()
    assert (mel.grad[0] < 0.9).any()


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"time_share 1\.5: expected 0 to 1"):
        SpecAugmentSettings(time_share=1.5)
    for wrong in ({"time_masks": -1}, {"time_frames": -1}, {"band_masks": -2}, {"bands": -1}):
        with pytest.raises(ValueError, match=r"must be 0 or more: found .*-"):
            SpecAugmentSettings(**wrong)
    with pytest.raises(ValueError, match=r"bands 15: .* a mel of 14 bands"):
        draw_masks(LENGTHS, 14, _generator())
