"""Table of a comparison: its cells as text, the notes on how to read it, and both as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from eval.compare.comparison import Comparison, ExcludedClips, MetricComparison
from eval.statistics import FLIPS
from runtime.html_page import counted

ALPHA = 0.05
_MAX_REASONS = 5  # of a metric's excluded clips; the rest is summed up


def heading(comparison: Comparison) -> list[str]:
    """The table's header."""
    means = f"Mean of {comparison.names[0]}", "Mean"
    return ["Metric", "Evaluation", *means, "Difference", "95% interval", "p", "p, Holm", "Wins", "Verdict", "Clips"]


def rows_of(comparison: Comparison, metric: str) -> list[dict[str, str]]:
    """The rows of a metric, an evaluation beside the first in each: cells as text, in the order of the header."""
    of = comparison.metrics[metric]
    display, difference = of.display, of.display.format_difference
    return [
        {
            "metric": f"{display.label} ({display.better})",
            "evaluation": name,
            "first": display.format(of.means[comparison.names[0]]),
            "mean": display.format(of.means[name]),
            "difference": difference(one.mean),
            "interval": f"{difference(one.low)} to {difference(one.high)}",
            "p": f"{one.p:.4f}",
            "p_holm": f"{one.p_holm:.4f}",
            "wins": f"{100 * one.win_rate:.1f}%",
            "verdict": verdict(of, name),
            "clips": f"{len(of.paired.keys):,}",
        }
        for name, one in of.differences.items()
    ]


def verdict(of: MetricComparison, name: str) -> str:
    """What the corrected test says of an evaluation beside the first."""
    one = of.differences[name]
    if one.p_holm >= ALPHA:
        return "undecided"
    return "better" if (one.mean > 0) == of.display.higher_is_better else "worse"


def notes_of(comparison: Comparison) -> list[str]:
    """How the table is to be read."""
    first, tests = comparison.names[0], sum(len(of.differences) for of in comparison.metrics.values())
    return [
        f"{'; '.join([counted(comparison.clips, 'clip') + ' in every evaluation', *_counts(comparison.excluded)])}. "
        "A metric is compared on those that every evaluation has a figure of.",
        f"Difference: less {first}, clip by clip; its 95% interval is by bootstrap over clips (percentiles of 10,000). "
        "Rates are those of all clips together, and so are their differences.",
        f"p: two-sided paired sign-flip test, {FLIPS:,} flips, or all where there are fewer; p, Holm: corrected for "
        f"the {tests} tests in the table. The verdict is by the corrected p, below {ALPHA}; undecided is not equal.",
        f"Wins: share of clips where the evaluation is better than {first}; equal clips count one half.",
        "All of this is about these networks on clips like these: it does not say what training with another seed "
        "would give, and it takes clips of one speaker to be independent of each other.",
    ]


def exclusions(comparison: Comparison, metric: str) -> list[str]:
    """Why clips are not among those that a metric is compared on, and how many."""
    excluded = comparison.metrics[metric].excluded
    more = excluded[_MAX_REASONS:]
    rest = f"{counted(sum(one.clips for one in more), 'clip')}: {len(more)} other reasons"
    return _counts(excluded[:_MAX_REASONS]) + ([rest] if more else [])


def _counts(excluded: list[ExcludedClips]) -> list[str]:
    return [f"{counted(one.clips, 'clip')}: {one.reason} ({' and '.join(one.evaluations)})" for one in excluded]


def markdown(comparison: Comparison) -> Iterator[str]:
    """Lines of Markdown: warnings, the table, what was excluded, and how it is to be read."""
    for warning in comparison.warnings:
        yield f"**Warning:** {_plain(warning)}."
        yield ""
    yield f"| {' | '.join(_plain(cell) for cell in heading(comparison))} |"
    yield f"|---|---|{'---:|' * 7}---|---:|"
    for metric in comparison.metrics:
        for row in rows_of(comparison, metric):
            yield f"| {' | '.join(_plain(cell) for cell in row.values())} |"
    yield ""
    for metric, of in comparison.metrics.items():
        if of.excluded:
            yield f"- Excluded from {_plain(of.display.title)}: {_plain('; '.join(exclusions(comparison, metric)))}."
    for metric, reason in comparison.not_compared.items():
        yield f"- Not compared: {_plain(metric)}, {_plain(reason)}."
    for note in notes_of(comparison):
        yield f"- {_plain(note)}"


def _plain(text: str) -> str:
    """Text that Markdown takes for text, in one line."""
    escaped = "".join(f"\\{character}" if character in "\\`*_[]<>|#~" else character for character in text)
    return " ".join(escaped.split())
