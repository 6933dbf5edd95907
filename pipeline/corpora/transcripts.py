"""Parse transcripts by their headings, as LRS2 and LRS3 write them in several editions, and plain text files.

    Text:  THE WORDS                   fields, one a line: Conf, Ref and others are read over
    Conf:  3

    FRAME 	X 	Y 	W 	H             a table of the face in each frame (LRS3): read over
    000100 	0.393 	0.266 	0.213 	0.379

    WORD START END ASDSCORE            a table of word times in seconds (pretrain sets, LRS3)
    THE 0.10 0.31 8.1

Order, empty lines between the parts and further columns differ between editions and do not matter.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import takewhile

from pipeline.media.text_files import clean_lines, decode_text, split_lines
from runtime.limits import MAX_TRANSCRIPT_BYTES, MAX_TRANSCRIPT_FILE_BYTES, MAX_TRANSCRIPT_LINES, check_limit

_FIELD = re.compile(r"([A-Za-z][A-Za-z_ ]{0,20}?)\s*:(.*)")
_SECONDS = re.compile(r"[-+]?(?:[0-9]{1,9}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][-+]?[0-9]{1,2})?")
_WORD_COLUMNS = ("word", "start", "end")
_FRAME_COLUMNS = ("frame", "x", "y")


@dataclass(frozen=True)
class Transcript:
    """The transcript of a clip.

    Attributes:
        text: lower case, single spaces.
        words: (word, start, end) in seconds from frame 0; empty where the file has none.
        note: what was odd about the file, or None.
    """

    text: str
    words: list[tuple[str, float, float]]
    note: str | None = None


def parse_transcript(content: bytes, plain: bool = False) -> Transcript:
    """Read a transcript file.

    Args:
        content: its bytes, in any encoding that `decode_text` knows.
        plain: also accept a file without `Text:`, all of which is then the text.

    Raises:
        ValueError: no `Text:` line, no words, or word times that are not times.
    """
    lines, notes = transcript_lines(content)
    text = _find_text(lines, plain)
    words, unread = _read_tables(lines) if text is not None or any(map(_heading, lines)) else ([], [])
    if text is None and words:
        text = " ".join(word for word, _, _ in words)
        notes.append("transcript has no Text: its words are those of its table")
    if text is not None:
        notes += [f"transcript: {len(unread)} lines passed over, the first is {unread[0][:60]!r}"] if unread else []
    elif plain:
        text = " ".join(lines)
    else:
        first = next((line for line in lines if line), "")
        raise ValueError(f"line 1 is {first[:40]!r}, 'Text:  THE WORDS' was expected")
    text = " ".join(text.lower().split())
    return checked(Transcript(text, words, "; ".join(notes) or None))


def transcript_lines(content: bytes) -> tuple[list[str], list[str]]:
    """The lines of a transcript's file, and what was odd about it, in words.

    Raises:
        ValueError: it is too large, or no text.
    """
    check_limit("bytes", len(content), MAX_TRANSCRIPT_FILE_BYTES)
    decoded, odd = decode_text(content)
    lines, removed = clean_lines(split_lines(decoded))
    check_limit("lines", len(lines), MAX_TRANSCRIPT_LINES)
    notes = [f"transcript {odd}"] if odd else []
    return lines, notes + ([f"transcript: {removed} control characters removed"] if removed else [])


def checked(transcript: Transcript) -> Transcript:
    """A transcript as it is (ValueError: it holds no words, or more text than a clip may have)."""
    if not transcript.text:
        raise ValueError("holds no words")
    check_limit("bytes of its text", len(transcript.text.encode()), MAX_TRANSCRIPT_BYTES)
    check_limit("bytes of its words", sum(len(word.encode()) for word, _, _ in transcript.words), MAX_TRANSCRIPT_BYTES)
    return transcript


def _find_text(lines: list[str], plain: bool) -> str | None:
    """What follows `Text:`, to the next empty line, field or table; None without it.

    In a plain file only other fields may stand before it: elsewhere `text:` may be what somebody says.
    """
    for number, line in enumerate(lines):
        match = _FIELD.fullmatch(line)
        if match is not None and match[1].lower() == "text":
            more = takewhile(
                lambda line: line and not _FIELD.fullmatch(line) and not _heading(line), lines[number + 1 :]
            )
            return " ".join([match[2], *more])
        if plain and line and match is None:
            return None
    return None


def _read_tables(lines: list[str]) -> tuple[list[tuple[str, float, float]], list[str]]:
    """The rows of the table of words, and lines that are neither text, fields nor in a table.

    A table begins with its heading and ends at another heading, at a field, or at an empty line that no row follows.
    """
    words: list[tuple[str, float, float]] = []
    unread: list[str] = []
    columns: dict[str, int] = {}
    table, after_empty = "", False
    for line in lines:
        field = _FIELD.fullmatch(line)
        if _heading(line):
            table, columns = _heading(line), {name: n for n, name in enumerate(line.lower().split())}
        elif table == "word" and line and _looks_timed(line, columns):
            words.append(_timed_word(line, columns))
        elif field is not None:
            table = "text" if field[1].lower() == "text" else ""
        elif table == "word" and line and not after_empty:
            raise ValueError(f"{line[:60]!r} was expected to be WORD START END SCORE, times in seconds")
        elif table == "text" and not line:
            table = ""
        elif line and table != "text" and not (table == "frame" and line.split()[0].isdecimal()):
            unread.append(line)
        after_empty = not line
    return words, unread


def _heading(line: str) -> str:
    """`word` or `frame` for the heading of such a table, else nothing."""
    fields = set(line.lower().split())
    return next((columns[0] for columns in (_WORD_COLUMNS, _FRAME_COLUMNS) if fields.issuperset(columns)), "")


def _looks_timed(line: str, columns: dict[str, int]) -> bool:
    fields = line.split()
    try:
        return all(math.isfinite(_seconds(fields[columns[name]])) for name in ("start", "end"))
    except (ValueError, IndexError):
        return False


def _timed_word(line: str, columns: dict[str, int]) -> tuple[str, float, float]:
    fields = line.lower().split()
    start, end = (_seconds(fields[columns[name]]) for name in ("start", "end"))
    if not 0 <= start <= end:
        raise ValueError(f"{line[:60]!r}: a word cannot run from {start} to {end} seconds")
    return fields[columns["word"]], start, end


def _seconds(field: str) -> float:
    """A time as programs write it (ValueError): `float` would also take `nan`, `1_0` and digits of other scripts."""
    written = field.replace(",", ".")
    if not _SECONDS.fullmatch(written):
        raise ValueError(f"{field[:20]!r} is not a time in seconds")
    return float(written)
