"""Transcripts are read by their headings, whatever the edition of the corpus and whoever wrote the file."""

from __future__ import annotations

import pytest

from pipeline.corpora.transcripts import parse_transcript

TEXT = "Text:  ONE TWO\nConf:  5\n"
WORDS = "WORD START END ASDSCORE\nONE 0.10 0.40 5.0\nTWO 0.40 0.70 5.0\n"
FACES = "FRAME \tX \tY \tW \tH \n000100 \t0.393 \t0.266 \t0.213 \t0.379 \n000101 \t0.393 \t0.266 \t0.213 \t0.379 \n"


@pytest.mark.parametrize(
    "content",
    [
        f"{TEXT}\n{WORDS}",
        f"{TEXT}Ref:  abcdefghijk\n\n{FACES}\n{WORDS}",
        f"{TEXT}Ref:  abcdefghijk\n\n{WORDS}",
        f"{TEXT}{WORDS}",
        f"{TEXT}\n\n{WORDS}\n{FACES}",
        f"{TEXT}{FACES}{WORDS}",
        f"{WORDS}\n{TEXT}",
        f"{TEXT}{WORDS}Ref:  abcdefghijk\n",
        f"{TEXT}\nWORD START END\n\nONE 0.1 0.4\n\nTWO 0.4 0.7\n",
        f"{TEXT}\nSTART END CONF WORD\n0.1 0.4 1 ONE\n0.4 0.7 1 TWO\n",
    ],
    ids=[
        "lrs2",
        "lrs3",
        "no faces",
        "no blank",
        "faces last",
        "no blanks",
        "words first",
        "ref last",
        "loose",
        "columns",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_parse_transcript_finds_text_and_word_times_by_their_headings(content: str, encoding: str, ending: str) -> None:
    transcript = parse_transcript(content.replace("\n", ending).encode(encoding))
    assert transcript.text == "one two"
    assert transcript.words == [("one", 0.1, 0.4), ("two", 0.4, 0.7)]
    assert (transcript.note is None) == encoding.startswith("utf-8")


def test_parse_transcript_notes_lines_that_it_cannot_place() -> None:
    transcript = parse_transcript(f"{TEXT}\nONE 0.10 0.40 5.0\nTWO 0.40 0.70 5.0\n".encode())
    assert transcript.words == []
    assert transcript.note == "transcript: 2 lines passed over, the first is 'ONE 0.10 0.40 5.0'"


def test_parse_transcript_without_text_takes_the_words_of_its_table() -> None:
    for plain in (False, True):
        transcript = parse_transcript(WORDS.encode(), plain)
        assert transcript.text == "one two"
        assert len(transcript.words) == 2
        assert "no Text" in str(transcript.note)


def test_parse_transcript_reads_times_with_a_comma() -> None:
    assert parse_transcript(f"{TEXT}\n{WORDS}".replace("0.", "0,").encode()).words[0] == ("one", 0.1, 0.4)


def test_parse_transcript_takes_text_that_runs_over_several_lines() -> None:
    assert parse_transcript(b"Text:  ONE\nTWO\nConf: 3\n").text == "one two"


def test_parse_transcript_reads_what_the_corpora_write() -> None:
    main = parse_transcript(b"Text:  HELLO  THERE\nConf:  3\n")
    assert (main.text, main.words, main.note) == ("hello there", [], None)
    timed = parse_transcript(b"Text:  HI ALL\nConf:  3\n\nWORD START END ASDSCORE\nHI 0.00 0.21 8.1\nALL 0.21 0.5 3\n")
    assert timed.words == [("hi", 0.0, 0.21), ("all", 0.21, 0.5)]


def test_parse_transcript_ends_word_times_at_an_empty_line() -> None:
    content = (
        b"Text:  HI ALL\nConf:  3\n\nWORD START END ASDSCORE\nHI 0.0 0.2 8\nALL 0.2 0.5 3\n\nFRAME X Y W H\n1 2 3 4 5\n"
    )
    assert [word for word, _, _ in parse_transcript(content).words] == ["hi", "all"]


@pytest.mark.parametrize(
    ("content", "text", "noted"),
    [
        ("Text:  CAFÉ".encode("utf-8-sig"), "café", False),
        ("Text:  CAFÉ".encode("utf-16"), "café", True),
        ("Text:  CAFÉ".encode("latin-1"), "café", True),
    ],
)
def test_parse_transcript_reads_odd_encodings_with_a_note(content: bytes, text: str, noted: bool) -> None:
    transcript = parse_transcript(content)
    assert transcript.text == text
    assert (transcript.note is not None) == noted


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "line 1 is ''"),
        (b"HELLO\n", "'Text:  THE WORDS' was expected"),
        (b"Text:   \n", "no words"),
        (b"Text: HI\nConf: 1\n\nWORD START END ASDSCORE\nHI 0.5 0.2 1\n", "cannot run from 0.5 to 0.2"),
        (b"Text: HI\nConf: 1\n\nWORD START END ASDSCORE\nHI soon later 1\n", "WORD START END SCORE"),
    ],
)
def test_parse_transcript_quotes_what_is_no_transcript(content: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_transcript(content)


def test_parse_transcript_takes_plain_text_of_a_folder() -> None:
    assert parse_transcript(b"Hello there,\nyou two", plain=True).text == "hello there, you two"


def test_parse_transcript_takes_plain_text_that_mentions_text() -> None:
    assert parse_transcript(b"I said\ntext: me", plain=True).text == "i said text: me"
