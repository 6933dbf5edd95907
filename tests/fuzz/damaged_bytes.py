"""Damage to the bytes of any file: flipped bits, cut and repeated parts, large numbers in place of others, garbage."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

Damaged = tuple[str, bytes]
"""What was done, in a few words, and the damaged content."""

FITTING = ", with fitting checksums"
"""At the end of what was done, where a file's own checksums were made to fit."""

_NUMBERS = (-1, 0, 1, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**40)
GARBAGE = (
    b"",
    b"\0",
    b"\0" * 4096,
    b"\xff" * 64,
    b"\x1b]0;title\x07\x1b[2J",
    b"PK\x03\x04",
    b"{" * 2000,
    b"[" * 100_000,
)


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> Damaged:
    """Any content, damaged without regard to what it means."""
    way = draw(st.sampled_from(["flip", "flip", "flip", "cut", "number", "insert", "remove", "repeat", "garbage"]))
    place = draw(st.integers(0, max(0, len(content) - 1)))
    if way == "flip" and content:
        damaged = bytearray(content)
        for _ in range(draw(st.integers(1, 4))):
            at, bit = draw(st.integers(0, len(content) - 1)), draw(st.integers(0, 7))
            damaged[at] ^= 1 << bit
        return f"bits flipped, the last at {at}", bytes(damaged)
    if way == "cut":
        return f"cut at {place}", content[:place]
    if way == "number":
        kind = draw(st.sampled_from(["<i", ">i", "<q", ">q"]))
        number = draw(st.sampled_from(_NUMBERS))
        bits = 8 * struct.calcsize(kind)
        packed = struct.pack(kind, (number + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1)))
        return f"{number} as {kind} at {place}", content[:place] + packed + content[place + len(packed) :]
    size = draw(st.integers(1, 2000))
    if way == "insert":
        return f"{size} bytes put in at {place}", content[:place] + draw(st.binary(max_size=size)) + content[place:]
    if way == "remove":
        return f"{size} bytes removed at {place}", content[:place] + content[place + size :]
    if way == "repeat":
        return f"{size} bytes repeated at {place}", content[: place + size] + content[place:]
    garbage = draw(st.sampled_from(GARBAGE))
    return f"garbage, {garbage[:8]!r}", garbage
