"""How much of what was said was understood: errors in words and in characters, and the text normalised for that.

Errors are counted, not averaged: the rate of a test set is that of its `total`, all errors over all that was said.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from eval.metrics.packages import package


class Errors(NamedTuple):
    """Substitutions, deletions and insertions together, and the length of what was said, in the same unit."""

    errors: int
    length: int

    @property
    def rate(self) -> float:
        """Errors over length; may pass 1. Where nothing was said: 0 if nothing was heard either, else infinite."""
        if self.length:
            return self.errors / self.length
        return math.inf if self.errors else 0.0


def total(of: Iterable[Errors]) -> Errors:
    """The errors of several texts as those of one."""
    counted = list(of)
    return Errors(sum(one.errors for one in counted), sum(one.length for one in counted))


def normalised(text: str) -> str:
    """Text as it is compared: lower case, without punctuation, one space between words.

    An apostrophe inside a word stays, a curly one made straight. A dash parts words ("twenty-one" is two), any other
    mark vanishes ("3,000" is "3000").
    """
    straight = unicodedata.normalize("NFKC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    kept = "".join(_replaced(straight, place) for place in range(len(straight)))
    return " ".join(kept.split())


def word_errors(said: str, heard: str) -> Errors:
    """Errors in words (parted by white space), over the words said: the word error rate's two halves.

    Texts are compared as they are: give both through `normalised`.

    Raises:
        PackageMissingError: jiwer is not installed.
    """
    words = said.split()
    if not words:
        return Errors(len(heard.split()), 0)
    counts = package("jiwer").process_words(" ".join(words), " ".join(heard.split()))
    return Errors(counts.substitutions + counts.deletions + counts.insertions, len(words))


def character_errors(said: str, heard: str) -> Errors:
    """Errors in characters, the space between words among them, over the characters said; else as `word_errors`."""
    said, heard = " ".join(said.split()), " ".join(heard.split())
    if not said:
        return Errors(len(heard), 0)
    counts = package("jiwer").process_characters(said, heard)
    return Errors(counts.substitutions + counts.deletions + counts.insertions, len(said))


def _replaced(text: str, place: int) -> str:
    """What becomes of one character: itself, a space or nothing."""
    character = text[place]
    if character == "'":
        inside = 0 < place < len(text) - 1 and text[place - 1].isalnum() and text[place + 1].isalnum()
        return "'" if inside else ""
    category = unicodedata.category(character)
    if category == "Pd":
        return " "
    return "" if category[0] in "PS" else character
