"""Gray lip crops equal those of the published code, without its detour over RGB."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from pipeline.media.coordinates import parse_coordinates, read_coordinate_file
from pipeline.media.crop import GRAY_OF_LUMA, Orientation, crop_gray, gray_from_rgb, has_plain_luma
from shards import Store
from shards.format.roi import luma
from tests.corpora import pictures, write_video


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def resized(region: np.ndarray[Any, Any], size: int = 112) -> np.ndarray[Any, Any]:
    """Antialiased bilinear resize of uint8 (R, R), rounded to whole gray levels."""
    pixels = torch.from_numpy(region.astype(np.float32))[None, None]
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)[0, 0].round().numpy()


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_crop_of_the_stored_region_is_the_published_one_of_112_pixels(reference: Path, clip: int) -> None:
    arrays = np.load(reference / "b_video_roi.npz")
    half, differences = int(arrays[f"half_{clip}"]), []
    for rgb, (x, y), gray in zip(
        arrays[f"frames_{clip}"], arrays[f"coords_{clip}"], arrays[f"gray_{clip}"], strict=True
    ):
        # rgb24 frames take the general way
        region = crop_gray(av.VideoFrame.from_ndarray(rgb, format="rgb24"), int(x), int(y), half + 5)
        differences.append(resized(region[5:-5, 5:-5]) - gray)
    assert np.abs(differences).mean() < 0.25
    assert abs(np.mean(differences)) < 0.1
    assert np.abs(differences).max() <= 3


@pytest.mark.parametrize("run", [0, 1, 2])
def test_crop_margin_holds_what_the_training_shift_needs(reference: Path, run: int) -> None:
    arrays = np.load(reference / "b_video_roi.npz")
    shift, flipped, left, top = (int(value) for value in arrays[f"aug_params_{run}"])
    kept = np.ones((112, 112), bool)
    kept[max(0, top) : min(112, top + 56), max(0, left) : min(112, left + 56)] = False
    differences = []
    for rgb, (x, y), tensor in zip(
        arrays["aug_frames"], arrays["aug_coords"], arrays[f"aug_tensor_{run}"][0], strict=True
    ):
        region = crop_gray(av.VideoFrame.from_ndarray(rgb, format="rgb24"), int(x), int(y), 45)
        crop = resized(region[5 + shift : 85 + shift, 5 + shift : 85 + shift])
        gray = (tensor * 0.17 + 0.4136) * 255
        differences.append(((crop[:, ::-1] if flipped else crop) - gray)[kept])
    assert np.abs(np.concatenate(differences)).mean() < 0.25
    assert np.abs(np.concatenate(differences)).max() <= 3.01


@pytest.fixture(scope="module")
def real_frames(footage: Path) -> list[tuple[av.VideoFrame, int, int]]:
    """Every tenth frame of every sixtieth clip, with its lip center."""
    lines, _ = read_coordinate_file(Store(str(footage / "LRS2_crop")), "preprocess_main.txt")
    chosen = sorted(lines)[::60]
    centers = {path: parse_coordinates(lines[path]) for path in chosen}
    return [
        (frame, *centers[path][number].tolist())
        for path in chosen
        for number, frame in enumerate(frames_of(footage / "LRS2-BBC" / "main" / path))
        if number % 10 == 0
    ]


def test_crop_by_luma_agrees_with_rgb_on_footage(real_frames: list[tuple[av.VideoFrame, int, int]]) -> None:
    differences = []
    for frame, x, y in real_frames:
        assert has_plain_luma(frame)
        rgb = Image.fromarray(frame.to_ndarray(format="rgb24")).convert("L")
        published = np.asarray(rgb.crop((x - 45, y - 45, x + 45, y + 45)))
        differences.append(crop_gray(frame, x, y, 45).astype(float) - published)
    assert np.abs(differences).mean() < 0.5
    assert abs(np.mean(differences)) < 0.1


def test_crop_table_from_luma_to_grey_is_the_one_that_fits_footage(
    real_frames: list[tuple[av.VideoFrame, int, int]],
) -> None:
    counts, sums = np.zeros(256), np.zeros(256)
    for frame, _, _ in real_frames:
        values = luma(frame).ravel()
        counts += np.bincount(values, minlength=256)
        sums += np.bincount(values, weights=gray_from_rgb(frame).ravel(), minlength=256)
    common = counts > 1000
    fitted = sums[common] / counts[common]
    assert np.abs(fitted - GRAY_OF_LUMA[common]).max() < 1, "no entry of the table is a whole level off"
    slope, bias = np.polyfit(np.flatnonzero(common) - 16, fitted, 1, w=np.sqrt(counts[common]))
    assert slope == pytest.approx(1.164, abs=0.003)
    assert bias == pytest.approx(-1.33, abs=0.15)


@pytest.mark.parametrize(("tint", "allowed"), [((1.0, 0.85, 0.7), 0.5), ((1.0, 1.0, 1.0), 1.0)])
def test_crop_by_luma_agrees_with_rgb_from_dark_to_light(tint: tuple[float, float, float], allowed: float) -> None:
    # swscale's bias comes of rounding the three channels down: skin has it, neutral gray has not
    ramp = np.arange(256)[None, :, None] * np.array(tint) * np.ones((64, 1, 1))
    frame = av.VideoFrame.from_ndarray(ramp.astype(np.uint8), format="rgb24").reformat(format="yuv420p")
    assert has_plain_luma(frame)
    difference = GRAY_OF_LUMA[luma(frame)].astype(float) - gray_from_rgb(frame)
    assert np.abs(difference).mean() < allowed
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("pixels", ["yuvj420p", "yuv420p10le", "rgb24", "gray"])
def test_crop_converts_other_pixel_formats_through_rgb(pixels: str) -> None:
    picture = pictures(1, size=(96, 96))[0]
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
    assert not has_plain_luma(frame)
    published = np.asarray(Image.fromarray(frame.to_ndarray(format="rgb24")).convert("L"))
    np.testing.assert_array_equal(crop_gray(frame, 48, 48, 40), published[8:88, 8:88])


def test_crop_converts_bt709_and_full_range_through_rgb() -> None:
    frame = av.VideoFrame.from_ndarray(pictures(1)[0], format="rgb24").reformat(format="yuv420p")
    assert has_plain_luma(frame)
    frame.colorspace = 1
    assert not has_plain_luma(frame)
    frame.colorspace, frame.color_range = 2, 2
    assert not has_plain_luma(frame)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (159, 159), (5, 80), (80, 150), (-60, 80), (400, 400)])
def test_crop_is_black_outside_the_picture(x: int, y: int) -> None:
    frame = av.VideoFrame.from_ndarray(pictures(1)[0], format="rgb24")
    gray = Image.fromarray(frame.to_ndarray(format="rgb24")).convert("L")
    published = np.asarray(gray.crop((x - 45, y - 45, x + 45, y + 45)))
    np.testing.assert_array_equal(crop_gray(frame, x, y, 45), published)


@pytest.mark.parametrize(
    "flags",
    [
        ["-display_rotation", "90"],
        ["-display_rotation", "180"],
        ["-display_rotation", "270"],
        ["-display_hflip"],
        ["-display_vflip"],
        ["-display_rotation", "90", "-display_hflip"],
    ],
    ids=" ".join,
)
def test_crop_of_a_turned_or_mirrored_video_is_as_shown(tmp_path: Path, flags: list[str]) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
    write_video(tmp_path / "plain.mp4", pictures(3, size=(96, 160)), None)
    subprocess.run([*ffmpeg, *flags, "-i", "plain.mp4", "-c", "copy", "turned.mp4"], check=True, cwd=tmp_path)
    # what a player shows: ffmpeg turns pictures when it encodes them anew
    subprocess.run([*ffmpeg, "-i", "turned.mp4", "-c:v", "ffv1", "shown.mkv"], check=True, cwd=tmp_path)
    turned, shown = frames_of(tmp_path / "turned.mp4")[0], frames_of(tmp_path / "shown.mkv")[0]
    orientation = Orientation.of(turned)
    assert orientation.size(turned) == (shown.width, shown.height)
    for x, y in ((40, 40), (70, 60), (20, 80)):
        np.testing.assert_array_equal(crop_gray(turned, x, y, 20, orientation), crop_gray(shown, x, y, 20))
