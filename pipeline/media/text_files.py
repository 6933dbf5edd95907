"""Read text files that people write (split lists, coordinates, transcripts): any byte-order mark, line ending, case.

Editors and shells on Windows write UTF-16 and CRLF, spreadsheets put quotes around a line, and a list that was pasted
together holds a byte-order mark in its middle.
"""

from __future__ import annotations

import codecs
import posixpath
import re
import unicodedata

from shards import Store

_MARKS = (  # the four bytes first: UTF-32 begins as UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_INVISIBLE = "\ufeff\u200b\u200e\u200f\x00"


def decode_text(content: bytes) -> tuple[str, str | None]:
    """The text of a file, and what was odd about its encoding, or None.

    UTF-8 with or without a byte-order mark; UTF-16 with or without one; UTF-32 with one; else Windows-1252, in which
    any bytes are text.
    """
    for mark, encoding, name in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace"), f"was {name}"
    # UTF-16 without a mark: every other byte of Latin letters is zero. A file that was padded has zeros at its end
    if b"\0" in content[:4096].rstrip(b"\0"):
        encoding = "utf-16-be" if content[0:4096:2].count(0) > content[1:4096:2].count(0) else "utf-16-le"
        return content.decode(encoding, errors="replace"), "was UTF-16 without a byte-order mark"
    try:
        return content.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), "was not UTF-8: read as Windows-1252"


def split_lines(text: str) -> list[str]:
    """Lines, however they end (LF, CRLF, CR), without white space and invisible characters around them."""
    return [line.strip().strip(_INVISIBLE).strip() for line in re.split(r"\r\n|\r|\n", text)]


def read_lines(store: Store, name: str) -> dict[int, str]:
    """The lines of a list that are not empty, by their number from 1; quotes around a whole line are taken off.

    Raises:
        FileNotFoundError, PermissionError, StorageError: the file cannot be read.
    """
    text, _ = decode_text(store.read(name))
    lines = {number: _unquoted(line) for number, line in enumerate(split_lines(text), 1)}
    return {number: line for number, line in lines.items() if line}


def find_text_file(store: Store, name: str) -> str | None:
    """The name under which a text file lies in a store: `train.txt` may be `train.TXT` there; None if it is not there.

    Raises:
        StorageError: the store could not be asked.
    """
    if store.exists(name):
        return name
    alike = [found for found in store.names() if found.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


def clean_path(written: str) -> str:
    r"""A path as it is compared: `.\Größe\1.MP4` -> `Größe/1.mp4`, composed (NFC), its extension in lower case.

    An absolute path stays one; a Windows drive and the start of a `file:` URL go.
    """
    path = re.sub(r"^(?:file://|\\\\\?\\)", "", written).replace("\\", "/")
    path = posixpath.normpath(re.sub(r"^[A-Za-z]:/", "/", path))
    stem, dot, extension = unicodedata.normalize("NFC", path).rpartition(".")
    return f"{stem}.{extension.lower()}" if dot and "/" not in extension else f"{stem}{dot}{extension}"


def _unquoted(line: str) -> str:
    return line[1:-1].strip() if len(line) > 1 and line[0] == line[-1] and line[0] in "\"'" else line
