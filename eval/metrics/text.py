"""Word and character errors (WER, CER) of a hypothesis against its reference, and the text normalization before it.

Errors are counted, not averaged: the rate of a test set is all errors over the length of all references.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from eval.metrics.optional import import_extra


class ErrorCount(NamedTuple):
    """Substitutions, deletions and insertions together, and the reference's length, in the same unit."""

    errors: int
    length: int


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
    `PackageMissingError` without whisper-normalizer.
    """
    return str(load_whisper_english()(text))


@cache
def load_whisper_english() -> Any:
    return import_extra("whisper_normalizer.english", "whisper").EnglishTextNormalizer()


NORMALIZERS: dict[str, Callable[[str], str]] = {
    "plain": normalize_text,
    "whisper-english": whisper_english,
    "none": str,
}
"""Text normalizers by the names that they have in settings and reports. Rates of different normalizers are not to be
compared."""


def normalizer_of(name: str) -> Callable[[str], str]:
    """The normalizer of a name, ready to use; `ValueError` where there is none, `PackageMissingError` where the package
    that it needs is not installed."""
    if name not in NORMALIZERS:
        raise ValueError(f"normalizer {name!r}: expected one of {', '.join(NORMALIZERS)}")
    if name == "whisper-english":
        load_whisper_english()  # fails now if the package is missing, not at the first clip
    return NORMALIZERS[name]


def word_errors(reference: str, hypothesis: str) -> ErrorCount:
    """Errors in words (separated by white space), and the words of the reference: the two halves of the WER.

    Texts are compared as they are: give both through the same of `NORMALIZERS`.
    """
    from jiwer import process_words

    return _counted(process_words, reference, hypothesis, len(reference.split()), len(hypothesis.split()))


def character_errors(reference: str, hypothesis: str) -> ErrorCount:
    """Errors in characters, the space between words among them; else as `word_errors`."""
    from jiwer import process_characters

    reference, hypothesis = " ".join(reference.split()), " ".join(hypothesis.split())
    return _counted(process_characters, reference, hypothesis, len(reference), len(hypothesis))


def _counted(process: Callable[..., Any], reference: str, hypothesis: str, length: int, inserted: int) -> ErrorCount:
    if not length:  # jiwer refuses an empty reference
        return ErrorCount(inserted, 0)
    counts = process(" ".join(reference.split()), " ".join(hypothesis.split()))
    return ErrorCount(counts.substitutions + counts.deletions + counts.insertions, length)


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
