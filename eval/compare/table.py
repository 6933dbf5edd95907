"""A comparison in words: the cells of its table, and what is to be said about it; and both as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from eval.compare.comparison import Compared, Comparison, LeftOut
from eval.compare.significance import FLIPS
from eval.report.tables import Look, look_of
from runtime.html_page import counted

ALPHA = 0.05
_MOST_REASONS = 5  # of a metric's left-out clips; the rest is summed up


class Line(NamedTuple):
    """A line of the table, an evaluation beside the first in a metric: cells as text."""

    metric: str
    evaluation: str
    first: str
    mean: str
    difference: str
    interval: str
    p: str
    p_holm: str
    wins: str
    verdict: str
    clips: str


def heading(comparison: Comparison) -> Line:
    """The table's first line."""
    means = f"Mean of {comparison.names[0]}", "Mean"
    return Line(
        "Metric", "Evaluation", *means, "Difference", "95% interval", "p", "p, Holm", "Wins", "Verdict", "Clips"
    )


def lines_of(comparison: Comparison, metric: str) -> list[Line]:
    """The lines of a metric."""
    of, look = comparison.metrics[metric], look_of(metric)
    return [
        Line(
            metric=f"{look.title} ({look.better})",
            evaluation=name,
            first=look.shown(of.means[comparison.names[0]]),
            mean=look.shown(of.means[name]),
            difference=signed(look, one.mean),
            interval=f"{signed(look, one.low)} to {signed(look, one.high)}",
            p=f"{one.p:.4f}",
            p_holm=f"{one.p_holm:.4f}",
            wins=f"{100 * one.win_rate:.1f}%",
            verdict=verdict(of, name),
            clips=f"{len(of.keys):,}",
        )
        for name, one in of.differences.items()
    ]


def signed(look: Look, value: float) -> str:
    """A difference as people read it: with its sign, and a digit more than figures have, which it is smaller than."""
    finer = replace(look, display=replace(look.display, digits=look.display.digits + 1))
    return finer.shown(value) if value < 0 else f"+{finer.shown(value)}"


def verdict(of: Compared, name: str) -> str:
    """What the corrected test says of an evaluation beside the first."""
    one = of.differences[name]
    if one.p_holm >= ALPHA:
        return "undecided"
    return "better" if (one.mean > 0) == of.display.higher_is_better else "worse"


def notes_of(comparison: Comparison) -> list[str]:
    """How the table is to be read."""
    first, tests = comparison.names[0], sum(len(of.differences) for of in comparison.metrics.values())
    return [
        f"{'; '.join([counted(comparison.clips, 'clip') + ' in every evaluation', *_told(comparison.left_out)])}. "
        "A metric is compared on those that every evaluation has a figure of.",
        f"Difference: less {first}, clip by clip; its 95% interval is by bootstrap over clips (percentiles of 10,000). "
        "Rates are those of all clips together, and so are their differences.",
        f"p: two-sided paired sign-flip test, {FLIPS:,} flips; p, Holm: corrected for the {tests} tests in the table. "
        f"The verdict is by the corrected p, below {ALPHA}; undecided does not mean equal.",
        f"Wins: share of clips where the evaluation is better than {first}; equal clips count one half.",
        "All of this is about these networks on clips like these: what training again with another seed would "
        "give, it does not say, and it takes clips of one speaker to be independent of each other.",
    ]


def left_out_of(comparison: Comparison, metric: str) -> list[str]:
    """Why clips are not among those that a metric is compared on, and how many."""
    left_out = comparison.metrics[metric].left_out
    more = left_out[_MOST_REASONS:]
    rest = f"{counted(sum(one.clips for one in more), 'clip')}: {len(more)} other reasons"
    return _told(left_out[:_MOST_REASONS]) + ([rest] if more else [])


def _told(left_out: list[LeftOut]) -> list[str]:
    return [f"{counted(one.clips, 'clip')}: {one.reason} ({' and '.join(one.evaluations)})" for one in left_out]


def markdown(comparison: Comparison) -> Iterator[str]:
    """Lines of Markdown: warnings, the table, what was left out, and how it is to be read."""
    for warning in comparison.warnings:
        yield f"**Beware:** {_plain(warning)}."
        yield ""
    yield f"| {' | '.join(_plain(cell) for cell in heading(comparison))} |"
    yield f"|---|---|{'---:|' * 7}---|---:|"
    for metric in comparison.metrics:
        for line in lines_of(comparison, metric):
            yield f"| {' | '.join(_plain(cell) for cell in line)} |"
    yield ""
    for metric, of in comparison.metrics.items():
        if of.left_out:
            yield f"- Left out of {_plain(of.display.title)}: {_plain('; '.join(left_out_of(comparison, metric)))}."
    for metric, reason in comparison.not_compared.items():
        yield f"- Not compared: {_plain(metric)}, {_plain(reason)}."
    for note in notes_of(comparison):
        yield f"- {_plain(note)}"


def _plain(text: str) -> str:
    """Text that Markdown takes for text, in one line."""
    escaped = "".join(f"\\{character}" if character in "\\`*_[]<>|#~" else character for character in text)
    return " ".join(escaped.split())
