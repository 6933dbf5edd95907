"""Errors in words and characters are jiwer's, of text normalized as stated."""

from __future__ import annotations

import math
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import Errors, PackageMissingError, character_errors, normalize_text, total, word_errors
from eval.metrics.text import NORMALIZERS, _whisper_english, normalizer_of

jiwer = pytest.importorskip("jiwer")

TEXT = st.lists(st.sampled_from(["bin", "blue", "at", "f", "two", "now"]), min_size=1, max_size=7).map(" ".join)

ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")) | st.just(" "), max_size=30)
"""Of any script and marks; of white space the plain space, the only one that jiwer parts words at."""


@given(ANY_TEXT, ANY_TEXT)
def test_rates_of_whatever_was_said_are_jiwers(said: str, heard: str) -> None:
    said, heard = " ".join(said.split()), " ".join(heard.split())
    if said:
        assert word_errors(said, heard).rate == pytest.approx(jiwer.wer(said, heard), abs=1e-12)
        assert character_errors(said, heard).rate == pytest.approx(jiwer.cer(said, heard), abs=1e-12)


@given(TEXT, st.one_of(TEXT, st.just("")))
def test_rates_are_jiwers(said: str, heard: str) -> None:
    assert word_errors(said, heard).rate == pytest.approx(jiwer.wer(said, heard), abs=1e-12)
    assert character_errors(said, heard).rate == pytest.approx(jiwer.cer(said, heard), abs=1e-12)


def test_errors_are_counted_in_their_unit() -> None:
    assert word_errors("bin blue at f", "bin blew f now") == Errors(3, 4)
    assert character_errors("bin blue", "bin blew") == Errors(2, 8)
    assert word_errors("a b", "c d e f g").rate == 2.5


def test_white_space_does_not_matter() -> None:
    assert word_errors(" bin\tblue \n", "bin   blue") == Errors(0, 2)
    assert character_errors(" bin\tblue \n", "bin   blue") == Errors(0, 8)


def test_where_nothing_was_said_whatever_was_heard_is_an_error() -> None:
    assert word_errors("", "place blue") == Errors(2, 0)
    assert character_errors(" ", "ab c") == Errors(4, 0)
    assert word_errors("", "place blue").rate == math.inf
    assert word_errors("", " ") == Errors(0, 0)
    assert word_errors("", "").rate == 0


def test_the_rate_of_a_set_weighs_texts_by_their_length() -> None:
    pairs = [("a b c d e f g h", "a b c d e f g h"), ("x y", "z")]
    together = total(word_errors(said, heard) for said, heard in pairs)
    assert together == Errors(2, 10)
    assert together.rate == pytest.approx(jiwer.wer(*map(list, zip(*pairs, strict=True))), abs=1e-12)
    assert total([]) == Errors(0, 0)


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
def test_text_is_normalised(text: str, expected: str) -> None:
    assert normalize_text(text) == expected
    assert normalize_text(expected) == expected


def test_a_normaliser_is_had_by_its_name() -> None:
    assert list(NORMALIZERS) == ["plain", "whisper-english", "none"]
    assert normalizer_of("plain")("It's 'F', now.") == "it's f now"
    assert normalizer_of("none")(" It's  'F', now.") == " It's  'F', now."
    with pytest.raises(ValueError, match="normalizer 'english': expected one of plain, whisper-english, none"):
        normalizer_of("english")


def test_whispers_normaliser_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[None] = []

    class Normalizer:
        def __init__(self) -> None:
            made.append(None)

        def __call__(self, text: str) -> str:
            return f"<{text}>"

    english = ModuleType("english")
    english.EnglishTextNormalizer = Normalizer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", english)
    _whisper_english.cache_clear()
    try:
        normalize = normalizer_of("whisper-english")
        assert made == [None]  # before the first text, so that what is missing is said
        assert [normalize("One"), normalize("two ")] == ["<One>", "<two >"]
        assert made == [None]
    finally:
        _whisper_english.cache_clear()


def test_numbers_contractions_and_spellings_are_one_to_whispers_normaliser() -> None:
    pytest.importorskip("whisper_normalizer")
    normalize = normalizer_of("whisper-english")
    assert normalize("Twenty-one colours, it's [noise] Mr. Smith!") == normalize("21 colors it is mister smith")
    assert normalize("Place blue at F two, now.") == "place blue at f 2 now"


def test_without_whisper_normalizer_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _whisper_english.cache_clear()
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    with pytest.raises(PackageMissingError, match=r"whisper_normalizer.*pip install -e '\.\[whisper\]'"):
        normalizer_of("whisper-english")


def test_without_jiwer_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(PackageMissingError, match=r"package jiwer.*pip install -e '\.\[eval\]'"):
        word_errors("a", "b")
