"""How much of what was said was understood: errors in words and in characters, and the text normalization for that.

Errors are counted, not averaged: the rate of a test set is that of its `total`, all errors over all that was said.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

from eval.metrics.optional import package


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


def normalize_text(text: str) -> str:
    """Text as it is compared: lower case, without punctuation, one space between words.

    An apostrophe inside a word stays, a curly one made straight. A dash parts words ("twenty-one" is two), any other
    mark vanishes ("3,000" is "3000").
    """
    straight = unicodedata.normalize("NFKC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    kept = "".join(_replaced(straight, place) for place in range(len(straight)))
    return " ".join(kept.split())


def whisper_english(text: str) -> str:
    """Text as Whisper's error rates are measured on it (Radford et al., 2022, appendix C): English only.

    Numbers become digits ("twenty one" is "21", and "o" and "oh" are "0"), contractions are written out ("it's" is "it
    is"), titles too, British spelling becomes American, and hesitations and what stands in brackets vanish.

    Raises:
        PackageMissingError: whisper-normalizer is not installed.
    """
    return str(_whisper_english()(text))


@cache
def _whisper_english() -> Any:
    return package("whisper_normalizer.english", "whisper").EnglishTextNormalizer()


def as_it_is(text: str) -> str:
    """The text, for those who have normalized it themselves."""
    return text


NORMALIZERS: dict[str, Callable[[str], str]] = {
    "plain": normalize_text,
    "whisper-english": whisper_english,
    "none": as_it_is,
}
"""What text goes through before it is compared, by the names that they have in settings and reports. Rates of different
normalizers are not to be compared."""


def normalizer_of(name: str) -> Callable[[str], str]:
    """The normalizer of a name, ready to use.

    Raises:
        ValueError: there is none of this name.
        PackageMissingError: the package that it needs is not installed.
    """
    if name not in NORMALIZERS:
        raise ValueError(f"normalizer {name!r}: expected one of {', '.join(NORMALIZERS)}")
    if name == "whisper-english":
        _whisper_english()  # says now what is missing
    return NORMALIZERS[name]


def word_errors(said: str, heard: str) -> Errors:
    """Errors in words (parted by white space), over the words said: the word error rate's two halves.

    Texts are compared as they are: give both through the same of `NORMALIZERS`.

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
