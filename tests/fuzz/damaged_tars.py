"""Damage to the members of a shard: arrays, sound, lip videos, and the tar's own headers."""

from __future__ import annotations

import ast
import io
import struct
import tarfile
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.damaged_bytes import Damaged, damaged_bytes
from tests.fuzz.damaged_text import damaged_text
from tests.fuzz.damaged_values import damaged_json
from tests.fuzz.damaged_videos import damaged_lip_video

_SHAPES = ((), (0,), (-1, 4), (10**9, 10**9), (2**62,), (1, 1, 1), (10**6,) * 40, (True, 2))
_TYPES = ("|O", "<f8", ">f4", "<U8", "|V4", "<c8", "<M8[s]", "|b1", "<f4\x00", "[('a', '<f4'), ('b', 'O')]")
_NAMES = (
    *("../../../escaped.wav", "/tmp/escaped.wav", "main/speaker0/00000.WAV", "x", ".", "a" * 90, "main/a/b.json.json"),
    *("\x1b[2J.wav", "main/speaker0/00000.roi.mkv", "main//x.wav", "pretrain/speaker0/00000.wav"),
)
_HEADER_BYTES = 512


@st.composite
def damaged_npy(draw: st.DrawFn, content: bytes) -> Damaged:
    """An array: its header changed, its numbers, or its bytes."""
    way = draw(st.sampled_from(["bytes", "shape", "type", "order", "numbers", "deep", "version"]))
    if way == "bytes":
        return draw(damaged_bytes(content))
    if way == "version":
        major = draw(st.sampled_from([0, 2, 3, 9, 255]))
        return f"version {major}", content[:6] + bytes([major, 0]) + content[8:]
    length = struct.unpack("<H", content[8:10])[0]
    header, numbers = ast.literal_eval(content[10 : 10 + length].decode()), content[10 + length :]
    if way == "numbers":
        kind = np.dtype(header["descr"])
        odd = draw(st.sampled_from([float("nan"), float("inf"), 1e30, -1e30, 0.0]))
        array = np.frombuffer(numbers, kind).copy()
        with np.errstate(invalid="ignore"):
            array[draw(st.integers(0, len(array) - 1))] = np.array(odd if kind.kind == "f" else 7, kind)
        return f"a number {odd}", content[: 10 + length] + array.tobytes()
    if way == "deep":
        text = "(" * 400 + ")" * 400
    else:
        if way == "shape":
            header["shape"] = draw(st.sampled_from(_SHAPES))
        elif way == "type":
            header["descr"] = draw(st.sampled_from(_TYPES))
        else:
            header["fortran_order"] = draw(st.sampled_from([True, None, 2]))
        text = repr(header)
    padded = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return f"header {text[:80]}", content[:8] + struct.pack("<H", len(padded)) + padded + numbers


@st.composite
def damaged_wav(draw: st.DrawFn, content: bytes) -> Damaged:
    """Sound: a field of the header changed, or its bytes."""
    if draw(st.integers(0, 2)) == 0:
        return draw(damaged_bytes(content))
    at, kind = draw(
        st.sampled_from([(4, "<I"), (16, "<I"), (20, "<H"), (22, "<H"), (24, "<I"), (34, "<H"), (40, "<I")])
    )
    number = draw(st.sampled_from([0, 1, 2, 3, 8, 24, 48, 65_535, 2**31, 2**32 - 1])) % (1 << 8 * struct.calcsize(kind))
    packed = struct.pack(kind, number)
    return f"byte {at} of the header says {number}", content[:at] + packed + content[at + len(packed) :]


_MEMBERS: dict[str, Callable[[bytes], st.SearchStrategy[Damaged]]] = {
    "roi.npy": damaged_npy,
    "mel.npy": damaged_npy,
    "roi.mkv": damaged_lip_video,
    "wav": damaged_wav,
    "txt": damaged_text,
    "json": damaged_json,
}


@st.composite
def damaged_tar(draw: st.DrawFn, content: bytes) -> Damaged:
    """A shard: a member damaged in its own way, the list of members changed, a header, or its bytes."""
    way = draw(st.sampled_from(["bytes", "member", "member", "member", "member", "list", "header", "header"]))
    if way == "bytes":
        return draw(damaged_bytes(content))
    if way == "header":
        return draw(_with_header(content))
    members = read_tar(content)
    number = draw(st.integers(0, len(members) - 1))
    info, inner = members[number]
    if way == "member":
        what, inner = draw(_MEMBERS[info.name.partition(".")[2]](inner))
        members[number] = (info, inner)
        return f"{info.name}: {what}", write_tar(members)
    change = draw(st.sampled_from(["drop", "twice", "rename", "turn round", "link", "device", "extended"]))
    if change == "drop":
        del members[number]
    elif change == "twice":
        members.append(members[number])
    elif change == "turn round":
        members.reverse()
    elif change == "rename":
        info.name = draw(st.sampled_from(_NAMES))
    elif change == "extended":
        name = draw(st.sampled_from(["size", "path", "GNU.sparse.size", "GNU.sparse.map", "mtime", "hdrcharset"]))
        value = draw(st.sampled_from(["9" * 18, "-1", "../escaped", "nan", "0,9999999999999"]))
        info.pax_headers = {name: value}
        change = f"extended {name}={value}"
    else:
        kinds = {"link": [tarfile.SYMTYPE, tarfile.LNKTYPE], "device": [tarfile.CHRTYPE, tarfile.FIFOTYPE]}
        info.type, info.linkname = draw(st.sampled_from(kinds[change])), "/etc/passwd"
    return f"{info.name}: {change}", write_tar(members)


@st.composite
def _with_header(draw: st.DrawFn, content: bytes) -> Damaged:
    """A member's size, name or type changed, and the header's own checksum made to fit, or not."""
    starts = [at for at in range(0, len(content), _HEADER_BYTES) if content[at + 257 : at + 262] == b"ustar"]
    at = draw(st.sampled_from(starts))
    header = bytearray(content[at : at + _HEADER_BYTES])
    what = draw(st.sampled_from(["size", "size", "name", "type", "time"]))
    if what == "size":
        octal = [b"77777777777\0", b"00000000000\0", b"-0000000001\0", b"zzzzzzzzzzz\0", b"60000000000\0"]
        field = draw(st.sampled_from([*octal, b"\x80" + b"\0" * 7 + b"\xff" * 4, b"\xff" * 12]))
        header[124:136] = field
    elif what == "name":
        field = draw(st.sampled_from([b"\xff\xfe.json", b"\0", b"../escaped.json", b"main/a/\x1b[2J.json", b"/a.json"]))
        header[0:100] = field.ljust(100, b"\0")
    elif what == "time":
        field = b"\xff" * 12
        header[136:148] = field
    else:
        field = draw(st.sampled_from([b"5", b"2", b"S", b"L", b"K", b"x", b"g", b"\xff"]))
        header[156:157] = field
    fits = draw(st.booleans())
    if fits:
        header[148:156] = b" " * 8
        header[148:156] = f"{sum(header):06o}\0 ".encode()
    said = "whose checksum fits" if fits else "whose checksum does not fit"
    return f"{what} {field[:14]!r} in a header {said}", content[:at] + bytes(header) + content[at + _HEADER_BYTES :]


def read_tar(content: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The members of a whole tar."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(info, file.read()) for info in tar if (file := tar.extractfile(info)) is not None]


def write_tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar of members, whatever they are named."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return buffer.getvalue()
