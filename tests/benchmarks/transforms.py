"""How fast a batch of lip regions is made ready for the networks, beside a loop of Pillow over its frames."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.transforms import TransformSettings, draw_augmentation, transform

CLIPS, FRAMES = 4, 50


def measure(runs: int) -> Iterator[str]:
    """Lines of the report: a Markdown table. Frames a core-second on the CPU; ratios are medians over runs."""
    yield "| regions | result | training | evaluation | Pillow crop and resize | and normalise | training / Pillow |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for half, size in [(40, 112), (50, 112), (40, 48)]:
        settings = TransformSettings(crop_radius=half, size=size)
        generator = torch.Generator().manual_seed(0)
        shape = (CLIPS, FRAMES, settings.stored_side, settings.stored_side)
        roi = torch.randint(0, 256, shape, generator=generator).byte()
        lengths = torch.full((CLIPS,), FRAMES)
        drawn = draw_augmentation(torch.zeros_like(lengths), lengths, generator, settings)
        ways: list[Callable[[], object]] = [
            partial(transform, roi, lengths, drawn, settings),
            partial(transform, roi, lengths, None, settings),
            partial(resized_by_pillow, roi, settings),
            partial(normalised_by_pillow, roi, settings),
        ]
        taken: list[list[float]] = [[] for _ in ways]
        for _ in range(runs + 1):  # the first is a warm-up
            for way, times in zip(ways, taken, strict=True):
                began = time.process_time()
                way()
                times.append(time.process_time() - began)
        rates = [f"{CLIPS * FRAMES / statistics.median(times[1:]):,.0f}" for times in taken]
        ratio = statistics.median([pillow / ours for ours, pillow in zip(taken[0][1:], taken[3][1:], strict=True)])
        yield f"| {settings.stored_side}x{settings.stored_side} | {size}x{size} | {' | '.join(rates)} | {ratio:.1f} |"


def resized_by_pillow(roi: Tensor, settings: TransformSettings) -> list[np.ndarray[Any, Any]]:
    low, high = settings.margin, settings.margin + 2 * settings.crop_radius
    pictures = (Image.fromarray(frame).crop((low, low, high, high)) for frame in roi.flatten(0, 1).numpy())
    size = (settings.size, settings.size)
    return [np.asarray(picture.resize(size, Image.Resampling.BILINEAR)) for picture in pictures]


def normalised_by_pillow(roi: Tensor, settings: TransformSettings) -> Tensor:
    """The same result as ours in evaluation."""
    pictures = torch.from_numpy(np.stack(resized_by_pillow(roi, settings))).float()
    return pictures.div_(255).sub_(settings.mean).div_(settings.std).view(*roi.shape[:2], *pictures.shape[1:])[:, None]
