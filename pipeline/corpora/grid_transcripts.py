"""Transcripts of GRID: `.align` files, or the words that a clip's name stands for.

A line of an `.align` file is `start end word`, 25,000 units a second; `sil` and `sp` are silence. A name has a
character a word: `bbaf2n` is "bin blue at f two now".
"""

from __future__ import annotations

import posixpath
import re
import string

from pipeline.corpora.transcripts import Transcript, checked, transcript_lines

UNITS_PER_SECOND = 25_000

_SILENCE = ("sil", "sp", "<sil>", "")
_WORDS: tuple[dict[str, str], ...] = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in string.ascii_lowercase if letter != "w"},
    {"z": "zero", "0": "zero", "1": "one", "2": "two", "3": "three", "4": "four"}
    | {"5": "five", "6": "six", "7": "seven", "8": "eight", "9": "nine"},
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)


def words_of_name(name: str) -> str | None:
    """`bbaf2n` -> `bin blue at f two now`; None for a name that is no sentence of GRID."""
    name = name.lower()
    if len(name) != len(_WORDS) or any(letter not in words for letter, words in zip(name, _WORDS, strict=True)):
        return None
    return " ".join(words[letter] for letter, words in zip(name, _WORDS, strict=True))


def parse_grid_transcript(video: str, content: bytes | None) -> Transcript:
    """The words of a clip: of its `.align` file, with their times, or else of its name.

    Args:
        video: path of the clip.
        content: of the `.align` file; None: there is none.

    Raises:
        ValueError: neither says them.
    """
    by_name = words_of_name(posixpath.basename(video).rpartition(".")[0])
    if content is None:
        if by_name is None:
            raise ValueError("there is no .align file, and the name is no sentence of GRID, such as bbaf2n")
        return Transcript(by_name, [])
    try:
        transcript = parse_align(content)
    except ValueError as error:
        if by_name is None:
            raise
        return Transcript(by_name, [], f"words are those of the name, without times: the .align file: {error}")
    if by_name is not None and transcript.text != by_name:
        return Transcript(transcript.text, transcript.words, f"the .align file says so; the name says {by_name!r}")
    return transcript


def parse_align(content: bytes) -> Transcript:
    """An `.align` file.

    Raises:
        ValueError: a line that is not `start end word`, times that do not run forward, or no words.
    """
    lines, notes = transcript_lines(content)
    words: list[tuple[str, float, float]] = []
    last = 0
    for line in filter(None, lines):
        match = re.fullmatch(r"([0-9]{1,12})\s+([0-9]{1,12})(?:\s+(\S+))?", line)
        if match is None:
            raise ValueError(f"{line[:60]!r} was expected to be START END WORD, {UNITS_PER_SECOND} units a second")
        start, end, word = int(match[1]), int(match[2]), (match[3] or "").lower()
        if not last <= start <= end:
            raise ValueError(f"{line[:60]!r}: times do not run forward")
        last = end
        if word not in _SILENCE:
            words.append((word, start / UNITS_PER_SECOND, end / UNITS_PER_SECOND))
    return checked(Transcript(" ".join(word for word, _, _ in words), words, "; ".join(notes) or None))
