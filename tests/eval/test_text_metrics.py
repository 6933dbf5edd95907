"""Errors in words and characters are jiwer's, of text normalized as stated."""

from __future__ import annotations

import sys
from types import ModuleType

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.optional import PackageMissingError
from eval.metrics.text import (
    NORMALIZERS,
    ErrorCount,
    character_errors,
    load_whisper_english,
    normalize_text,
    normalizer_of,
    word_errors,
)

TEXT = st.lists(st.sampled_from(["bin", "blue", "at", "f", "two", "now"]), min_size=1, max_size=7).map(" ".join)

ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")) | st.just(" "), max_size=30)
"""Of any script and marks; of white space only the plain space, the one at which jiwer separates words."""


def assert_rates_are_jiwers(reference: str, hypothesis: str) -> None:
    for count, rate in ((word_errors, jiwer.wer), (character_errors, jiwer.cer)):
        errors, length = count(reference, hypothesis)
        assert errors / length == pytest.approx(rate(reference, hypothesis), abs=1e-12)


@given(ANY_TEXT, ANY_TEXT)
def test_error_rates_of_any_text_are_jiwers(reference: str, hypothesis: str) -> None:
    reference, hypothesis = " ".join(reference.split()), " ".join(hypothesis.split())
    if reference:
        assert_rates_are_jiwers(reference, hypothesis)


@given(TEXT, st.one_of(TEXT, st.just("")))
def test_error_rates_of_words_are_jiwers(reference: str, hypothesis: str) -> None:
    assert_rates_are_jiwers(reference, hypothesis)


def test_error_counts_are_in_their_unit() -> None:
    assert word_errors("bin blue at f", "bin blew f now") == ErrorCount(3, 4)
    assert character_errors("bin blue", "bin blew") == ErrorCount(2, 8)
    assert word_errors("a b", "c d e f g") == ErrorCount(5, 2)


def test_error_counts_ignore_white_space() -> None:
    assert word_errors(" bin\tblue \n", "bin   blue") == ErrorCount(0, 2)
    assert character_errors(" bin\tblue \n", "bin   blue") == ErrorCount(0, 8)


def test_error_counts_of_an_empty_reference_are_all_of_the_hypothesis() -> None:
    assert word_errors("", "place blue") == ErrorCount(2, 0)
    assert character_errors(" ", "ab c") == ErrorCount(4, 0)
    assert word_errors("", " ") == ErrorCount(0, 0)
    assert word_errors("", "") == ErrorCount(0, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Place  BLUE,\tat 'F' -- two; now.", "place blue at f two now"),
        ("It\N{RIGHT SINGLE QUOTATION MARK}s the dogs' rock'n'roll", "it's the dogs rock'n'roll"),
        ("Twenty-one, or 3,000?", "twenty one or 3000"),
        ("Caf\u00e9 cafe\u0301 na\u00efve \u0939\u093f\u0928\u094d\u0926\u0940", "café café naïve हिन्दी"),
        ("\u201cYes\u201d \u2014 and\u2026 no_way @home 100%", "yes and noway home 100"),
        ("...!?", ""),
        ("'", ""),
    ],
)
def test_normalize_text(text: str, expected: str) -> None:
    assert normalize_text(text) == expected
    assert normalize_text(expected) == expected


def test_normalizer_of_a_name() -> None:
    assert list(NORMALIZERS) == ["plain", "whisper-english", "none"]
    assert normalizer_of("plain")("It's 'F', now.") == "it's f now"
    assert normalizer_of("none")(" It's  'F', now.") == " It's  'F', now."
    with pytest.raises(ValueError, match="normalizer 'english': expected one of plain, whisper-english, none"):
        normalizer_of("english")


def test_whisper_normalizer_is_loaded_once_and_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[None] = []

    class Normalizer:
        def __init__(self) -> None:
            made.append(None)

        def __call__(self, text: str) -> str:
            return f"<{text}>"

    english = ModuleType("english")
    english.EnglishTextNormalizer = Normalizer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", english)
    load_whisper_english.cache_clear()
    try:
        normalize = normalizer_of("whisper-english")
        assert made == [None]  # before the first text, so that what is missing is said
        assert [normalize("One"), normalize("two ")] == ["<One>", "<two >"]
        assert made == [None]
    finally:
        load_whisper_english.cache_clear()


def test_whisper_normalizer_unifies_numbers_contractions_and_spellings() -> None:
    pytest.importorskip("whisper_normalizer")
    normalize = normalizer_of("whisper-english")
    assert normalize("Twenty-one colours, it's [noise] Mr. Smith!") == normalize("21 colors it is mister smith")
    assert normalize("Place blue at F two, now.") == "place blue at f 2 now"


def test_whisper_normalizer_missing_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    load_whisper_english.cache_clear()
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    with pytest.raises(PackageMissingError, match=r"whisper_normalizer.*pip install -e '\.\[whisper\]'"):
        normalizer_of("whisper-english")
