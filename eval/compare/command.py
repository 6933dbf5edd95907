"""`python -m eval compare reports/a reports/b --out reports/a-b`: evaluations compared clip by clip.

comparison.json   every figure of the comparison
comparison.md     its table, which is printed too
report.html       the table, how the differences are spread, and the same clips side by side
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from eval.compare.comparison import compare
from eval.compare.page import write_comparison
from eval.compare.table import markdown
from eval.metrics.registry import metric_of
from eval.results import ABOUT_NAME, Evaluation, write_json
from runtime.command_line import CommandParser
from runtime.terminal import say
from shards import Store

JSON_NAME, MARKDOWN_NAME = "comparison.json", "comparison.md"


def run(arguments: Sequence[str]) -> int:
    """Compare evaluations clip by clip: print the table and write the folder; returns the exit status.

    `ValueError` for fewer than two evaluations, a folder that holds none, nothing that they have in common, names that
    do not fit, a metric that cannot be imported, or an evaluation's own folder as `--out`; `OSError` where a file
    cannot be read or written. The reports name no metric that is imported: `--metrics` does.
    """
    values = _parse(arguments)
    folders = [Path(report) for report in values.reports]
    if len(folders) < 2:
        raise ValueError(f"compare: only {folders[0]} was given, and it takes two evaluations at least")
    if values.examples < 1:
        raise ValueError(f"--examples {values.examples}: at least 1 was expected")
    for name in values.metrics:
        metric_of(name)
    out = Path(values.out)
    if (out / ABOUT_NAME).exists():
        raise ValueError(
            f"--out {out}: an evaluation lies there, whose report would be overwritten; name another folder"
        )
    evaluations = {
        name: Evaluation.open(folder) for name, folder in zip(names_of(folders, values.names), folders, strict=True)
    }
    comparison = compare(evaluations)
    lines = list(markdown(comparison))
    store = Store(str(out.absolute()))
    write_json(
        store, JSON_NAME, comparison.as_json() | {"folders": dict(zip(evaluations, values.reports, strict=True))}
    )
    with store.create(MARKDOWN_NAME) as file:
        file.write(("\n".join(lines) + "\n").encode("utf-8", "replace"))
    page = write_comparison(out, comparison, evaluations, values.examples)
    say("\n".join(lines))
    say(f"\nwritten to {out}; page: {page}")
    return 0


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = CommandParser("python -m eval compare", __doc__)
    add = parser.add_argument
    add("reports", nargs="+", metavar="REPORT", help="folders of evaluations; the others are compared with the first")
    add("--out", type=str, required=True, metavar="FOLDER", help="that the comparison is written into")
    add("--names", nargs="+", metavar="NAME", help="of the evaluations; default: those of the folders")
    add(
        "--metrics",
        nargs="+",
        default=[],
        metavar="METRIC",
        help="import paths of your own metrics, package.module:function; figures of others are not compared",
    )
    add("--examples", type=int, default=2, metavar="N", help="clips shown of the largest gain, loss and of the median")
    return parser.parse(arguments)


def names_of(folders: Sequence[Path], given: Sequence[str] | None = None) -> list[str]:
    """A name for each folder: the given one, or its own, with as many of those above as it takes to tell them apart;
    `ValueError` where one is named twice."""
    parts = [Path(os.path.realpath(folder)).parts for folder in folders]  # links in a circle are named when it is read
    twice = [str(folder) for place, folder in enumerate(folders) if parts[place] in parts[:place]]
    if twice:
        raise ValueError(f"{twice[0]}: named twice, and an evaluation does not differ from itself")
    if given is not None:
        if len(given) != len(folders) or len(set(given)) < len(given):
            raise ValueError(f"--names {' '.join(given)}: {len(folders)} names were expected, each another one")
        return list(given)
    depth = 1
    while True:
        names = ["/".join(of[-depth:]) for of in parts]
        if len(set(names)) == len(names):
            return names
        depth += 1
