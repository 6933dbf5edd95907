"""The page of a comparison: its table, how the differences are spread, and the same clips side by side.

Of each evaluation those clips are shown that it gained and lost the most on beside the first, in the main metric, and
some in the middle: the extremes say what to listen for, the middle what is usual.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from markupsafe import Markup

from eval.compare.comparison import Compared, Comparison
from eval.compare.table import heading, left_out_of, lines_of, notes_of, signed
from eval.report.about import settings_of
from eval.report.alignment import align_words, normalizer_used
from eval.report.charts import beyond, distribution
from eval.report.clips import MOST_SECONDS, Sound, Text, sound_of
from eval.report.report import PAGE_NAME
from eval.report.tables import Look, look_of
from eval.report.waveforms import draw_scale
from eval.results import Evaluation
from eval.scoring import wav_name
from runtime.constants import FPS, SAMPLES_PER_FRAME
from runtime.html_page import write_page

_LABEL = 11  # letters that have room beside a chart


class Rank(NamedTuple):
    """Why a clip is shown: what evaluation `name` gained or lost on it, and by how much its figure changed."""

    name: str
    what: str
    change: str


@dataclass(frozen=True)
class Card:
    """What the template shows of a clip.

    Attributes:
        ranks: why it is shown.
        row: the first evaluation's.
        seconds: of the time axis.
        sounds: the original's, and then every evaluation's; `system` is what `titles` names.
        texts: what was recognised in each evaluation, where a recogniser listened.
        figures: metric -> evaluation, by what `titles` names -> figure.
        notes: what is not shown.
    """

    ranks: list[Rank]
    row: dict[str, Any]
    seconds: float
    sounds: list[Sound]
    texts: list[Text]
    figures: list[tuple[Look, dict[str, float | None]]]
    notes: list[str]


class Spread(NamedTuple):
    """How the clips' differences in a metric are distributed: drawn, and in words how many are better."""

    look: Look
    drawn: Markup
    better: str
    beyond: int


def write_compared(folder: Path, comparison: Comparison, evaluations: Mapping[str, Evaluation], shown: int = 2) -> Path:
    """Write `report.html` into a folder; it appears whole or not at all, and fetches nothing.

    Args:
        folder: of the comparison.
        comparison: of these evaluations.
        evaluations: by the names that it has.
        shown: clips of the largest gain, of the median and of the largest loss, of each evaluation.

    Returns:
        The page's path.

    Raises:
        ValueError: the page cannot be a file.
        PackageMissingError: texts were recognised, and jiwer is not installed.
        StorageError: the disk failed.
    """
    first, *others = comparison.names
    looks = {metric: look_of(metric) for metric in comparison.metrics}
    main = looks[comparison.main]
    chosen: dict[str, list[Rank]] = {}
    for name in others:
        for key, rank in choose(comparison.metrics[comparison.main], main, name, shown).items():
            chosen.setdefault(key, []).append(rank)
    return write_page(
        folder / PAGE_NAME,
        "compare.html",
        styles=("figures.css", "report.css"),
        scripts=("tables.js", "report.js"),
        package="eval.report",
        title=f"{' and '.join(others)} compared with {first}",
        comparison=comparison,
        columns=heading(comparison),
        looks=looks,
        lines={metric: lines_of(comparison, metric) for metric in looks},
        notes=notes_of(comparison),
        left_out={
            look.title: left_out_of(comparison, metric)
            for metric, look in looks.items()
            if comparison.metrics[metric].left_out
        },
        spreads=[_spread(comparison, look) for look in looks.values()],
        main=main,
        cards=[_card(ranks, key, comparison, evaluations) for key, ranks in chosen.items()],
        titles={"original": "Original", **_systems(comparison)},
        scale=draw_scale(),
        evaluations=[
            {"name": name, "folder": of.folder, "command": of.about.get("command"), "settings": settings_of(of.about)}
            for name, of in evaluations.items()
        ],
    )


def choose(compared: Compared, look: Look, name: str, shown: int) -> dict[str, Rank]:
    """Up to `shown` clips each of the largest gain, of the median and of the largest loss, by key, in this order.

    No clip is there twice; of equal ones, the first by key counts as the larger gain.
    """
    gains, changes = compared.gains(name), compared.changes(name)
    ranked = sorted(range(len(gains)), key=lambda place: (-gains[place], place))
    each = min(shown, -(-len(ranked) // 3))
    start = (len(ranked) - each) // 2
    groups = {"gain": ranked[:each], "median": ranked[start : start + each], "loss": ranked[len(ranked) - each :]}
    found: dict[str, Rank] = {}
    for group, places in groups.items():
        for place in places:
            rank = Rank(name, _called(group, float(gains[place])), signed(look, float(changes[place])))
            found.setdefault(compared.keys[place], rank)
    return found


def _called(group: str, gain: float) -> str:
    """Where every clip gains, the last one has not lost."""
    if group == "median":
        return "about the median"
    if gain == 0:
        return "no difference"
    return f"{'largest' if (gain > 0) == (group == 'gain') else 'smallest'} {'gain' if gain > 0 else 'loss'}"


def _systems(comparison: Comparison) -> dict[str, str]:
    """What the page's styles and scripts call each evaluation -> its name, which may hold anything."""
    return {f"network of{place}": name for place, name in enumerate(comparison.names)}


def _spread(comparison: Comparison, look: Look) -> Spread:
    of = comparison.metrics[look.name]
    differences = replace(look, display=replace(look.display, title=f"difference in {look.display.title}"))
    systems = {system: name for system, name in _systems(comparison).items() if name in of.differences}
    drawn = distribution(
        differences,
        {
            system: (
                name if len(name) <= _LABEL else f"\N{HORIZONTAL ELLIPSIS}{name[1 - _LABEL :]}",
                of.changes(name),
                mean,
            )
            for system, name in systems.items()
            for mean in (of.differences[name].mean,)
        },
    )
    better = [f"{100 * of.differences[name].win_rate:.1f}% of clips better in {name}" for name in systems.values()]
    outside = beyond(differences, np.concatenate([of.changes(name) for name in systems.values()]))
    return Spread(look, drawn, ", ".join(better), outside)


def _card(ranks: list[Rank], key: str, comparison: Comparison, evaluations: Mapping[str, Evaluation]) -> Card:
    rows = {name: _row(evaluation, key) for name, evaluation in evaluations.items()}
    first, whole = comparison.names[0], max(row["frames"] for row in rows.values())
    frames = min(whole, MOST_SECONDS * FPS)
    length = frames * SAMPLES_PER_FRAME
    systems = _systems(comparison)
    sounds = [sound_of("original", evaluations[first].folder, wav_name("original", key), length)]
    for system, name in systems.items():
        sounds.append(sound_of(system, evaluations[name].folder, rows[name]["wav"], length))
    return Card(
        ranks,
        rows[first],
        frames / FPS,
        sounds,
        texts=[text for name, row in rows.items() for text in _texts(name, row, normalizer_used(evaluations[name]))],
        figures=[
            (look_of(metric), {system: _figure(of, name, key) for system, name in systems.items()})
            for metric, of in comparison.metrics.items()
        ],
        notes=[f"The first {MOST_SECONDS} of {whole / FPS:.1f} s are shown."] if frames < whole else [],
    )


def _row(evaluation: Evaluation, key: str) -> dict[str, Any]:
    row: dict[str, Any] = evaluation.rows("network").filter(pc.field("key") == key).to_pylist()[0]
    return row


def _figure(of: Compared, name: str, key: str) -> float | None:
    """Of a clip; None where not every evaluation has it."""
    place = bisect_left(of.keys, key)
    return float(of.figures[name][place]) if of.keys[place : place + 1] == [key] else None


def _texts(name: str, row: Mapping[str, Any], normalize: Callable[[str], str]) -> list[Text]:
    text, hypothesis = row["text"], row["hypothesis"]
    if hypothesis is None:
        return []
    return [Text(name, hypothesis, align_words(normalize(text), normalize(hypothesis)) if text else None)]
