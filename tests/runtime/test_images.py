"""Pictures of mels: time to the right, low bands below, dark where it is silent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime.images import GAP, MAGNIFIED, stack_mels


def _lightness(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """uint8 sRGB (3, H, W) -> CIE L* (H, W), 0 to 100."""
    value = picture / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    luminance = np.tensordot([0.2126, 0.7152, 0.0722], linear, 1)
    return np.where(luminance > (6 / 29) ** 3, 116 * np.cbrt(luminance) - 16, luminance * (29 / 3) ** 3)


def test_stack_mels_draws_a_value_as_a_square_with_low_bands_at_the_bottom_and_time_to_the_right() -> None:
    mel = np.full((80, 50), -1.0, np.float32)
    mel[3, 20] = 1.0
    picture = stack_mels([mel])
    assert picture.dtype == np.uint8
    assert picture.shape == (3, 80 * MAGNIFIED, 50 * MAGNIFIED)
    rows, columns = np.nonzero(_lightness(picture) > 50)
    assert set(rows) == {*range((79 - 3) * MAGNIFIED, (80 - 3) * MAGNIFIED)}
    assert set(columns) == {*range(20 * MAGNIFIED, 21 * MAGNIFIED)}


def test_stack_mels_leaves_a_light_gap_between_mels() -> None:
    mels = [np.full((80, 30), level, np.float32) for level in (-1.0, 0.0, -0.5)]
    picture = stack_mels(mels)
    height = 80 * MAGNIFIED
    assert picture.shape == (3, 3 * height + 2 * GAP, 30 * MAGNIFIED)
    for place, mel in enumerate(mels):
        top = place * (height + GAP)
        np.testing.assert_array_equal(picture[:, top : top + height], stack_mels([mel]))
        assert (_lightness(picture)[top + height : top + height + GAP] > 95).all()


def test_stack_mels_fills_up_a_shorter_mel_with_the_color_of_the_gap() -> None:
    picture = stack_mels([np.full((80, 30), -1.0), np.full((80, 20), -1.0)])
    lightness = _lightness(picture)
    assert (lightness[-80 * MAGNIFIED :, 20 * MAGNIFIED :] > 95).all()
    assert (lightness[-80 * MAGNIFIED :, : 20 * MAGNIFIED] < 5).all()


def test_stack_mels_draws_silence_dark_and_the_loudest_light_also_beyond_the_ends_and_for_nan() -> None:
    ends = np.array([[-7.0, -1.0, np.nan, -np.inf, 1.0, 3.0, np.inf]])
    lightness = _lightness(stack_mels([ends]))[0, ::MAGNIFIED]
    assert (lightness[:4] < 5).all()
    assert len(set(lightness[:4])) == 1
    assert (lightness[4:] > 95).all()
    assert len(set(lightness[4:])) == 1


def test_color_map_has_equal_steps_of_lightness() -> None:
    lightness = _lightness(stack_mels([np.linspace(-1, 1, 201)[None]]))[0, ::MAGNIFIED]
    # straight lines in sRGB between colors 9.5 apart, and whole numbers of 255
    np.testing.assert_allclose(lightness, np.linspace(2, 97, 201), atol=2.0)
    assert (np.diff(lightness[::5]) > 0).all()


def test_stack_mels_refuses_what_is_no_mel() -> None:
    with pytest.raises(ValueError, match="no mels"):
        stack_mels([])
    with pytest.raises(ValueError, match=r"mel 1 .*\(1, 80, 4\)"):
        stack_mels([np.zeros((80, 4)), np.zeros((1, 80, 4))])
    with pytest.raises(ValueError, match=r"mel 0 .*\(80, 0\)"):
        stack_mels([np.zeros((80, 0))])
