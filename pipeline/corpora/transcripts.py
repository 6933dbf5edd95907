"""Parse transcripts as LRS2 and LRS3 write them, and plain text files.

Line 1 is `Text:  THE WORDS`. Pretrain clips have word times from line 5 on: `WORD START END SCORE`, in seconds.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from itertools import takewhile

_TIMED_WORD = re.compile(r"(\S+)\s+(-?[\d.]+)\s+(-?[\d.]+)(?:\s+\S+)?")
_FIRST_TIMED_LINE = 4  # after text, confidence, an empty line and the table's heading; it ends with an empty line


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
        content: its bytes: UTF-8, UTF-16 with a byte-order mark, or, with a note, Windows-1252.
        plain: also accept a file without `Text:`, all of which is then the text.

    Raises:
        ValueError: no `Text:` line, no words, or word times that are not times.
    """
    decoded, note = _decode(content)
    lines = [line.strip() for line in decoded.splitlines()]
    first = next((line for line in lines if line), "")
    if first.lower().startswith("text:"):
        text = first[len("text:") :]
    elif plain:
        text = " ".join(lines)
    else:
        raise ValueError(f"line 1 is {first[:40]!r}, 'Text:  THE WORDS' was expected")
    text = " ".join(text.lower().split())
    if not text:
        raise ValueError("holds no words")
    timed = takewhile(bool, lines[_FIRST_TIMED_LINE:] if first.lower().startswith("text:") else [])
    return Transcript(text, [_timed_word(line) for line in timed], note)


def _decode(content: bytes) -> tuple[str, str | None]:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16"), "transcript was UTF-16"
    try:
        return content.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), "transcript was not UTF-8: read as Windows-1252"


def _timed_word(line: str) -> tuple[str, float, float]:
    match = _TIMED_WORD.fullmatch(line)
    if match is None:
        raise ValueError(f"{line[:60]!r} was expected to be WORD START END SCORE, times in seconds")
    word, start, end = match[1].lower(), float(match[2]), float(match[3])
    if not 0 <= start <= end:
        raise ValueError(f"{line[:60]!r}: a word cannot run from {start} to {end} seconds")
    return word, start, end
