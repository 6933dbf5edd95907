"""Word alignment of a hypothesis with its reference, so that a page can mark the recognition errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from eval.metrics.text import NORMALIZERS, normalizer_of
from eval.results import Evaluation


@dataclass(frozen=True)
class Edit:
    """Consecutive words of one kind; `reference` or `hypothesis` is empty where words are inserted or deleted."""

    kind: Literal["equal", "substitute", "delete", "insert"]
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class WordAlignment:
    """Two texts aligned word by word, and the number of words substituted, deleted and inserted."""

    edits: list[Edit]
    substitutions: int
    deletions: int
    insertions: int

    @property
    def counts(self) -> str:
        """The errors in words, such as `1 substituted, 2 deleted`."""
        kinds = ((self.substitutions, "substituted"), (self.deletions, "deleted"), (self.insertions, "inserted"))
        return ", ".join(f"{count} {kind}" for count, kind in kinds if count) or "no error"


def align_words(reference: str, hypothesis: str) -> WordAlignment:
    """Align two texts with the fewest errors, as word errors are counted. They are compared as they are: normalize both
    before."""
    import jiwer

    said, recognized = reference.split(), hypothesis.split()
    if not said:  # jiwer refuses an empty reference
        edits = [Edit("insert", "", " ".join(recognized))] if recognized else []
        return WordAlignment(edits, 0, 0, len(recognized))
    found = jiwer.process_words(" ".join(said), " ".join(recognized))
    edits = [
        Edit(
            chunk.type,  # type: ignore[arg-type]
            " ".join(said[chunk.ref_start_idx : chunk.ref_end_idx]),
            " ".join(recognized[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in found.alignments[0]
    ]
    return WordAlignment(edits, found.substitutions, found.deletions, found.insertions)


def normalizer_used(evaluation: Evaluation) -> Callable[[str], str]:
    """The text normalizer of an evaluation's error rates."""
    name = evaluation.about.get("settings", {}).get("normalizer", "plain")
    return normalizer_of(name if name in NORMALIZERS else "plain")
