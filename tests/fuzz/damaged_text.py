"""Damage to text files that people write: coordinates, transcripts, alignments, split lists."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.damaged_bytes import Damaged, damaged_bytes
from tests.fuzz.damaged_values import ODD_NUMBERS, ODD_TEXTS

_ODD_BYTES = (
    *(text.encode() for text in ODD_TEXTS),
    *(str(number).encode() for number in ODD_NUMBERS),
    *(
        b"\xff\xfe",
        b"\xc3",
        b"\xed\xa0\x80",
        b"nan",
        b"inf",
        b"1e9999",
        b"9" * 5000,
        b"0x10",
        "\N{FULLWIDTH DIGIT ONE}".encode(),
        b"-0",
    ),
)
_WHOLE = {
    "UTF-16": "Text:  A B\n".encode("utf-16"),
    "one long line": b"a " * 200_000,
    "many lines": b"a b\n" * 100_000,
    "blank lines": b"\n" * 100_000,
    "marks": b"\xef\xbb\xbf\xef\xbb\xbfText: x\n",
    "sixty megabytes": b"x" * 60_000_000,
    "control characters": bytes(range(32)) * 20,
}


@st.composite
def damaged_text(draw: st.DrawFn, content: bytes) -> Damaged:
    """A word or a line changed, the bytes, or another whole."""
    way = draw(st.sampled_from(["bytes", "whole", "word", "word", "word", "line", "lines"]))
    lines = content.split(b"\n")
    number = draw(st.integers(0, len(lines) - 1))
    if way == "bytes":
        return draw(damaged_bytes(content))
    if way == "whole":
        name = draw(st.sampled_from(sorted(_WHOLE)))
        return name, _WHOLE[name]
    odd = draw(st.sampled_from(_ODD_BYTES))
    what = f"line {number + 1}: {odd[:30]!r}"
    if way == "word":
        separator = draw(st.sampled_from([b" ", b"/", b":", b"\t"]))
        words = lines[number].split(separator)
        words[draw(st.integers(0, len(words) - 1))] = odd
        lines[number] = separator.join(words)
    elif way == "line":
        lines.insert(number, odd)
    else:
        what, lines = (
            f"line {number + 1} removed, or doubled",
            lines[:number] + draw(st.sampled_from([[], [lines[number]] * 2])) + lines[number + 1 :],
        )
    return what, draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])).join(lines)
