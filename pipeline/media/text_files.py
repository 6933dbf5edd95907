"""Read text files that people write (split lists, coordinates, transcripts): any byte-order mark, line ending, case.

Editors and shells on Windows write UTF-16 and CRLF, spreadsheets put quotes around a line, and a list that was pasted
together holds a byte-order mark in its middle.
"""

from __future__ import annotations

import codecs
import posixpath
import re
import unicodedata

from runtime.limits import MAX_LIST_BYTES, MAX_LIST_LINE_BYTES, check_limit
from shards import Store

_MARKS = (  # the four bytes first: UTF-32 begins as UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_INVISIBLE = "\ufeff\u200b\u200e\u200f\x00"
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""But for what `str.split` takes for white space."""

_NO_TEXT, _SPACES = ("Cc", "Cn", "Co", "Cs"), "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85"
_LOOKED_AT, _MOST_STRANGE = 2000, 0.05
_UTF16_ZEROS = 0.04
"""Share of zeros among the bytes of UTF-16: its spaces and line ends alone have as many."""
_BLOCK = 1 << 20


def decode_text(content: bytes) -> tuple[str, str | None]:
    """The text of a file, and what was odd about its encoding, or None.

    UTF-8 with or without a byte-order mark; UTF-16 with or without one; UTF-32 with one; else Windows-1252.

    Raises:
        ValueError: it is no text: it begins with much that no text holds.
    """
    text, odd = _decode(content)
    beginning = text[:_LOOKED_AT].rstrip("\0")
    strange = sum(
        letter == "\ufffd" or (unicodedata.category(letter) in _NO_TEXT and letter not in _SPACES)
        for letter in beginning
    )
    if strange > _MOST_STRANGE * len(beginning):
        raise ValueError(f"is no text: {strange} of the first {len(beginning)} characters are none")
    return text, odd


def _decode(content: bytes) -> tuple[str, str | None]:
    for mark, encoding, name in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace"), f"was {name}"
    # UTF-16 without a mark: every other byte of Latin letters is zero. A file that was padded has zeros at its end
    if content[:4096].rstrip(b"\0").count(0) > _UTF16_ZEROS * len(content[:4096]):
        encoding = "utf-16-be" if content[0:4096:2].count(0) > content[1:4096:2].count(0) else "utf-16-le"
        return content.decode(encoding, errors="replace"), "was UTF-16 without a byte-order mark"
    try:
        return content.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), "was not UTF-8: read as Windows-1252"


def clean_lines(lines: list[str]) -> tuple[list[str], int]:
    """Lines without control characters and marks that turn the direction of writing; and how many these were."""
    removed = sum(len(_CONTROLS.findall(line)) for line in lines)
    return [_CONTROLS.sub("", line) for line in lines] if removed else lines, removed


def split_lines(text: str) -> list[str]:
    """Lines, however they end (LF, CRLF, CR), without white space and invisible characters around them."""
    return [line.strip().strip(_INVISIBLE).strip() for line in re.split(r"\r\n|\r|\n", text)]


def read_lines(store: Store, name: str) -> dict[int, str]:
    """The lines of a list that are not empty, by their number from 1; quotes around a whole line are taken off.

    Raises:
        FileNotFoundError, PermissionError, StorageError: the file cannot be read.
        ValueError: as `read_text`.
    """
    text = read_text(store, name)
    lines = {number: _unquoted(line) for number, line in enumerate(split_lines(text), 1)}
    return {number: line for number, line in lines.items() if line}


def read_text(store: Store, name: str) -> str:
    """The text of a list of any length.

    Raises:
        FileNotFoundError, PermissionError, StorageError: the file cannot be read.
        ValueError: it is no text, no regular file, or too large; or a line is too long.
    """
    content, line_bytes = bytearray(), 0
    with store.open(name) as file:
        while block := file.read(_BLOCK):
            content += block
            last = max(block.rfind(b"\n"), block.rfind(b"\r"))
            line_bytes = len(block) - last - 1 if last >= 0 else line_bytes + len(block)
            if line_bytes > MAX_LIST_LINE_BYTES:
                where = f"{store.path(name)}: line {content.count(10) + 1}"
                raise ValueError(f"{where} has more than the {MAX_LIST_LINE_BYTES:,} bytes that are allowed")
            check_limit(f"{store.path(name)}: bytes", len(content), MAX_LIST_BYTES)
    try:
        return decode_text(bytes(content))[0]
    except ValueError as error:
        raise ValueError(f"{store.path(name)}: {error}") from error


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
