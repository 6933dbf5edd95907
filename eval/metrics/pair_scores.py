"""Scores of one pair of waveforms by several metrics, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eval.metrics.optional import PackageMissingError
from eval.metrics.registry import metric_of
from eval.metrics.waveforms import MetricError, Wave
from runtime.limits import MAX_FIGURE, MAX_REASON_LENGTH


class PairScores(NamedTuple):
    """Scores of one pair: figures by metric, and for metrics without one the reason."""

    values: dict[str, float]
    failed: dict[str, str]


def score(names: Sequence[str], original: Wave, generated: Wave) -> PairScores:
    """Score one pair, float32 (L,) at 16 kHz, compared over their common length, in this process. An error in a metric
    costs its figure only, and is the reason in `failed`.

    `ValueError` for a name that is no metric; `PackageMissingError` where a metric's package is not installed. Any
    ImportError is raised: all pairs would fail.
    """
    scored = PairScores({}, {})
    for name, metric in {name: metric_of(name) for name in names}.items():
        try:
            figure = float(metric.function(original, generated))
        except MetricError as error:
            scored.failed[name] = str(error)[:MAX_REASON_LENGTH]
        except (ImportError, PackageMissingError):
            raise
        except Exception as error:
            scored.failed[name] = f"{type(error).__name__}: {error}"[:MAX_REASON_LENGTH]
        else:
            if abs(figure) <= MAX_FIGURE:
                scored.values[name] = figure
            else:
                scored.failed[name] = f"comes out as {figure}"
    return scored
