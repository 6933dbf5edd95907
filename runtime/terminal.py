"""Print to the terminal: every line that a command says, with what files hold escaped.

A transcript or a file's name may hold control characters that move the cursor, change the window's title or hide text.
They are printed as Python writes them in a string: `\\x1b[2J`.
"""

from __future__ import annotations

import re
import sys
from typing import IO

_LONGEST_MESSAGE = 3000
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029"  # all but tab and line feed
_DIRECTIONS = "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # turn the order of letters around
_UNPRINTABLE = re.compile(f"[{_CONTROLS}{_DIRECTIONS}\ud800-\udfff]")


def printable(text: object) -> str:
    """A text as it can be shown in a terminal."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def shortened(text: str) -> str:
    """A message without the most of a long value that it quotes."""
    if len(text) <= _LONGEST_MESSAGE:
        return text
    return f"{text[:_LONGEST_MESSAGE]}... ({len(text):,} characters)"


def say(text: object = "", file: IO[str] | None = None) -> None:
    """Print a line, as `print` does, to standard output or a file, with unprintable characters escaped."""
    out: IO[str] = sys.stdout if file is None else file
    line = printable(text)
    try:
        print(line, file=out)
    except UnicodeEncodeError:  # a terminal of another encoding
        encoding = getattr(out, "encoding", None) or "ascii"
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=out)
