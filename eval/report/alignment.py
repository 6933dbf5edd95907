"""Word alignment of a hypothesis with its reference, so that a page can mark the recognition errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from eval.metrics.text import NORMALIZERS, normalizer_of
from eval.results import Evaluation


class Edit(NamedTuple):
    """Consecutive words of one kind; `reference` or `hypothesis` is empty where words are inserted or deleted."""

    kind: str  # equal, substitute, delete or insert
    reference: str
    hypothesis: str


class WordAlignment(NamedTuple):
    """Two texts aligned word by word, and the errors in words, such as `1 substituted, 2 deleted`."""

    edits: list[Edit]
    counts: str


def align_words(reference: str, hypothesis: str) -> WordAlignment:
    """Align two texts with the fewest errors, as word errors are counted. They are compared as they are: normalize both
    before."""
    import jiwer

    said, recognized = reference.split(), hypothesis.split()
    if not said:  # jiwer refuses an empty reference
        inserted = len(recognized)
        edits = [Edit("insert", "", " ".join(recognized))] if recognized else []
        return WordAlignment(edits, f"{inserted} inserted" if inserted else "no error")
    found = jiwer.process_words(" ".join(said), " ".join(recognized))
    edits = [
        Edit(
            chunk.type,
            " ".join(said[chunk.ref_start_idx : chunk.ref_end_idx]),
            " ".join(recognized[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in found.alignments[0]
    ]
    kinds = {"substituted": found.substitutions, "deleted": found.deletions, "inserted": found.insertions}
    return WordAlignment(edits, ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count) or "no error")


def normalizer_used(evaluation: Evaluation) -> Callable[[str], str]:
    """The text normalizer of an evaluation's error rates."""
    name = evaluation.about.get("settings", {}).get("normalizer", "plain")
    return normalizer_of(name if name in NORMALIZERS else "plain")
