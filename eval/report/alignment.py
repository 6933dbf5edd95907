"""What was said beside what was recognised, aligned word by word, so that a page can mark the errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from eval.metrics.optional import package
from eval.metrics.text import NORMALIZERS, normalizer_of
from eval.results import Evaluation

Kind = Literal["equal", "substitute", "delete", "insert"]


@dataclass(frozen=True)
class Stretch:
    """Words in a row with one fate: `said` in place of `heard`; one of them is empty where words are missing or new."""

    kind: Kind
    said: str
    heard: str


@dataclass(frozen=True)
class Marked:
    """An alignment, with its errors counted in words."""

    stretches: list[Stretch]
    substitutions: int
    deletions: int
    insertions: int

    @property
    def counts(self) -> str:
        """The errors in words, such as `1 substituted, 2 left out`."""
        kinds = ((self.substitutions, "substituted"), (self.deletions, "left out"), (self.insertions, "put in"))
        return ", ".join(f"{count} {kind}" for count, kind in kinds if count) or "no error"


def mark(said: str, heard: str) -> Marked:
    """Align two texts as word errors are counted, with the fewest errors; both normalized before, for they are compared
    as they are.

    Raises:
        PackageMissingError: jiwer is not installed.
    """
    one, other = said.split(), heard.split()
    if not one:
        stretches = [Stretch("insert", "", " ".join(other))] if other else []
        return Marked(stretches, 0, 0, len(other))
    found = package("jiwer").process_words(" ".join(one), " ".join(other))
    stretches = [
        Stretch(
            chunk.type,
            " ".join(one[chunk.ref_start_idx : chunk.ref_end_idx]),
            " ".join(other[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in found.alignments[0]
    ]
    return Marked(stretches, found.substitutions, found.deletions, found.insertions)


def normalizer_used(evaluation: Evaluation) -> Callable[[str], str]:
    """What texts went through before their errors were counted."""
    name = evaluation.about.get("settings", {}).get("normalizer", "plain")
    return normalizer_of(name if name in NORMALIZERS else "plain")
