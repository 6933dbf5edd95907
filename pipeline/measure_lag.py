"""Measure the lag at which lip movement and sound agree best, to find a corpus that is out of sync.

The sound's level in each frame is predicted from the lips by ridge regression, for every lag of up to half a second;
the score is the share of the level's variance that is explained on clips held out of the fit. It peaks at the corpus's
lag. Lips are a 5x5 thumbnail of the middle of the region and how much each of its cells moves: coarse enough for a
handful of clips and several speakers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.constants import FPS, SAMPLES_PER_FRAME
from shards import Sample

_MOST_FRAMES = 12
_CELLS = 5
_FOLDS = 5
_RIDGE = 0.03  # of the mean variance of a feature
_QUIET = 30.0  # in units of a 16-bit sample: changes of level below it are noise

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Lag:
    """How far the sound is behind the picture.

    Attributes:
        seconds: positive when the sound comes after the lips.
        explained: share of the level's variance that the lips explain at that lag on clips not fitted; near or below
            0, the lag means nothing.
        clips: how many it was measured on.
    """

    seconds: float
    explained: float
    clips: int


def measure_lag(samples: Iterable[Sample]) -> Lag | None:
    """The lag of a set of clips, to a fraction of a frame; None with fewer than two clips of two seconds or more."""
    inner = slice(_MOST_FRAMES, -_MOST_FRAMES)  # the same frames at every lag
    clips = [(_lips(sample)[inner], _level(sample)) for sample in samples if sample.meta.frames >= 2 * FPS]
    if len(clips) < 2:
        return None
    lips, levels = [clip[0] for clip in clips], [clip[1] for clip in clips]
    squares = np.stack([x.T @ x for x in lips])
    lags = range(-_MOST_FRAMES, _MOST_FRAMES + 1)
    scores = np.array([_explained(lips, squares, [np.roll(level, -lag)[inner] for level in levels]) for lag in lags])
    best = int(np.argmax(scores))
    return Lag((best - _MOST_FRAMES + _finer(scores, best)) / FPS, float(scores[best]), len(clips))


def _explained(lips: list[Array], squares: Array, levels: list[Array]) -> float:
    """Cross-validated share of the levels' variance that the lips explain; `squares`: their x.T @ x, one a clip."""
    products = np.stack([x.T @ y for x, y in zip(lips, levels, strict=True)])
    ridge = _RIDGE * np.trace(squares.sum(0)) / squares.shape[1] * np.eye(squares.shape[1])
    error = total = 0.0
    folds = min(_FOLDS, len(lips))
    for fold in range(folds):
        fitted = np.arange(len(lips)) % folds != fold
        weights = np.linalg.solve(squares[fitted].sum(0) + ridge, products[fitted].sum(0))
        for x, y in zip(lips[fold::folds], levels[fold::folds], strict=True):
            error += float(np.square(y - x @ weights).sum())
            total += float(np.square(y).sum())
    return 1 - error / max(total, 1e-9)


def _lips(sample: Sample) -> Array:
    """(T, 50): thumbnail of the middle of the region, its clip mean taken off, and how much each cell moves."""
    quarter = sample.roi.shape[1] // 4
    cell = (sample.roi.shape[1] - 2 * quarter) // _CELLS
    middle = sample.roi[:, quarter : quarter + _CELLS * cell, quarter : quarter + _CELLS * cell]
    cells = middle.reshape(-1, _CELLS, cell, _CELLS, cell).mean((2, 4), dtype=np.float32).reshape(-1, _CELLS**2)
    cells = (cells - cells.mean(0)) / (cells.std() + 1e-6)
    movement = np.abs(np.gradient(cells, axis=0))
    return np.concatenate([cells, movement - movement.mean(0)], axis=1)


def _level(sample: Sample) -> Array:
    """(T,): level of the sound in each frame, in log units, of mean 0 and deviation 1."""
    blocks = sample.wav.reshape(-1, SAMPLES_PER_FRAME).astype(np.float32)
    level = np.log(np.sqrt(np.square(blocks).mean(axis=1)) + _QUIET)
    standardized: Array = (level - level.mean()) / (level.std() + 1e-6)
    return standardized


def _finer(curve: Array, best: int) -> float:
    """Where between its neighbors a parabola through a peak has its top, in -0.5 to 0.5."""
    if not 0 < best < len(curve) - 1:
        return 0.0
    before, top, after = curve[best - 1 : best + 2]
    curvature = before - 2 * top + after
    return float(0.5 * (before - after) / curvature) if curvature < 0 else 0.0
