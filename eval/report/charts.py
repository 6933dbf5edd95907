"""Charts as inline SVG: distributions of figures, and figures against the length of clips.

Drawn by hand: matplotlib's SVG has style attributes, which the page's security policy blocks, colours that do not
follow a dark screen, and an element for each point.

A distribution has a row of bars a system, one above the other on one axis, so that they are told apart without colour.
All clips of a system are one path, so that ten thousand of them keep a page small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from eval.metrics import Display

Array = np.ndarray[Any, np.dtype[np.float64]]

_WIDTH = 360
_LEFT, _RIGHT = 84, 10
_ROW, _AXIS = 46, 34
_PLOT = 200
_PIXELS = _WIDTH - _LEFT - _RIGHT
_MAX_BINS = 30
_WINDOWS = 48  # points of the running mean
_MIN_CLIPS = 30  # clips that have a running mean
_LARGE_POINTS = 300  # fewer points are drawn larger


def distribution(display: Display, figures: Mapping[str, tuple[str, Array, float]]) -> Markup:
    """Histograms of figures, a row a system: an svg element that says in words what it shows.

    `figures`: system -> its title, its figures and its mean, in stored units; at least one has figures.
    """
    of = {
        system: (title, values * display.scale, mean * display.scale)
        for system, (title, values, mean) in figures.items()
    }
    low, high = _range(np.concatenate([values for _, values, _ in of.values()]))
    bins = int(np.clip(2 * math.sqrt(max(len(values) for _, values, _ in of.values())), 8, _MAX_BINS))
    shares = {
        system: np.histogram(values.clip(low, high), bins, (low, high))[0] / max(1, len(values))
        for system, (_, values, _) in of.items()
    }
    most = max(float(share.max()) for share in shares.values())
    parts, said = [], []
    for row, (system, (title, values, mean)) in enumerate(of.items()):
        base = (row + 1) * _ROW
        tops = base - (_ROW - 10) * shares[system] / most
        steps = "".join(f"V{_short(top)}h{_short(_PIXELS / bins)}" for top in tops)
        parts.append(Markup('<text class="label" x="{}" y="{}">{}</text>').format(_LEFT - 8, base - 6, title))
        parts.append(Markup('<path class="bars {}" d="M{} {}{}V{}Z"/>').format(system, _LEFT, base, steps, base))
        parts.append(Markup('<path class="base" d="M{} {}h{}"/>').format(_LEFT, base, _PIXELS))
        if math.isfinite(mean):
            x = _short(_x(mean, low, high))
            parts.append(Markup('<path class="mean" d="M{} {}v{}"/>').format(x, base - _ROW + 8, _ROW - 8))
            said.append(f"{title}: mean {mean:.{display.digits}f} of {len(values):,}")
    height = len(of) * _ROW + _AXIS
    parts.append(_across(low, high, len(of) * _ROW, display.label))
    return _svg(height, f"How {display.label} is distributed. {'; '.join(said)}", parts)


def against_length(display: Display, seconds: Array, values: Array, weights: Array) -> Markup:
    """A point a clip, and the running mean over clips of about the same length.

    `seconds`, `values` (in stored units) and `weights` in the mean are (N,) of the clips, N > 0.
    """
    values = values * display.scale
    low, high = _range(values)
    first, last = _range(seconds)
    x, y = _x(seconds, first, last), _y(values, low, high)
    points = dict.fromkeys(f"M{_short(one)} {_short(other)}h0" for one, other in zip(x, y, strict=True))
    size = " few" * (len(points) < _LARGE_POINTS)
    parts = [_down(low, high), Markup('<path class="points{}" d="{}"/>').format(size, "".join(points))]
    if len(values) >= _MIN_CLIPS:
        along, means = _running_mean(seconds, values, weights)
        x, y = _x(along, first, last), _y(means, low, high)
        line = [f"{_short(one)} {_short(other)}" for one, other in zip(x, y, strict=True)]
        parts.append(Markup('<path class="running" d="M{}"/>').format("L".join(line)))
    parts.append(_across(first, last, _PLOT, "length of the clip, s"))
    said = (
        f"{display.label} of {len(values):,} clips against their length, {seconds.min():.1f} to {seconds.max():.1f} s"
    )
    if len(values) >= _MIN_CLIPS:
        said += f". Running mean: {means[0]:.{display.digits}f} among the shortest, "
        said += f"{means[-1]:.{display.digits}f} among the longest"
    return _svg(_PLOT + _AXIS, said, parts)


def beyond(display: Display, values: Array) -> int:
    """How many figures lie outside of what the charts span; they are drawn at their edge."""
    low, high = _range(values * display.scale)
    return int(((values * display.scale < low) | (values * display.scale > high)).sum())


def _running_mean(seconds: Array, values: Array, weights: Array) -> tuple[Array, Array]:
    """Means of windows of an eighth of the clips, by length: where they are, and what."""
    order = np.lexsort((values, seconds))
    seconds, values, weights = seconds[order], values[order], weights[order]
    size = max(10, len(values) // 8)
    starts = np.unique(np.linspace(0, len(values) - size, _WINDOWS).round().astype(int))
    summed, weighed, timed = (np.concatenate([[0.0], np.cumsum(of)]) for of in (values * weights, weights, seconds))
    ends = starts + size
    return (timed[ends] - timed[starts]) / size, (summed[ends] - summed[starts]) / (weighed[ends] - weighed[starts])


def _x(values: Any, low: float, high: float) -> Any:
    return _LEFT + _PIXELS * np.clip((values - low) / (high - low), 0, 1)


def _y(values: Any, low: float, high: float) -> Any:
    return 8 + (_PLOT - 8) * (1 - np.clip((values - low) / (high - low), 0, 1))


def _range(values: Array) -> tuple[float, float]:
    """What an axis spans: all values, but for a few that lie far from the rest."""
    low, high = float(values.min()), float(values.max())
    inner = np.quantile(values, [0.005, 0.995])
    reach = float(inner[1] - inner[0]) / 4
    if reach > 0:
        low, high = max(low, float(inner[0]) - reach), min(high, float(inner[1]) + reach)
    if not high - low > 1e-12 * max(1.0, abs(low), abs(high)):  # equal, but for rounding
        low, high = low - max(0.05, abs(low) / 20), high + max(0.05, abs(high) / 20)
    return low, high


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high, `most` of them or fewer."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [count * step for count in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _across(low: float, high: float, top: int, title: str) -> Markup:
    """The axis below a chart."""
    parts = [Markup('<path class="base" d="M{} {}h{}"/>').format(_LEFT, top, _PIXELS)]
    for tick in _ticks(low, high, 5):
        x = _short(_x(tick, low, high))
        parts.append(Markup('<path class="tick" d="M{} {}v4"/>').format(x, top))
        parts.append(Markup('<text class="at" x="{}" y="{}">{:g}</text>').format(x, top + 16, round(tick, 9)))
    parts.append(Markup('<text class="at title" x="{}" y="{}">{}</text>').format(_LEFT + _PIXELS / 2, top + 31, title))
    return Markup("").join(parts)


def _down(low: float, high: float) -> Markup:
    """The axis at the left, with lines across."""
    parts = []
    for tick in _ticks(low, high, 5):
        y = _y(tick, low, high)
        parts.append(Markup('<path class="grid" d="M{} {}h{}"/>').format(_LEFT, _short(y), _PIXELS))
        where = _LEFT - 8, _short(y + 4), round(tick, 9)
        parts.append(Markup('<text class="label" x="{}" y="{}">{:g}</text>').format(*where))
    return Markup("").join(parts)


def _svg(height: int, said: str, parts: Sequence[Markup]) -> Markup:
    content = Markup("").join(parts)
    start = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">')
    return start.format(_WIDTH, height, escape(said)) + content + Markup("</svg>")


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
