"""Stored JSON against its schema: whatever a file holds, it is an instance or an error that names file and field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.stored_json import Count, Name, Sha256, StoredJsonError, check_depth, convert, decode_json


@dataclass(frozen=True)
class Entry:
    name: Name
    clips: Count
    sha256: Sha256


@dataclass(frozen=True)
class Whole:
    entries: dict[str, list[Entry]]
    recipe: dict[str, Any]


ENTRY = {"name": "a", "clips": 3, "sha256": "0" * 64}
GOOD = {"entries": {"train": [ENTRY]}, "recipe": {"seed": 1}}


def encoded(**changed: Any) -> bytes:
    return json.dumps({"entries": {"train": [ENTRY | changed]}, "recipe": {}}).encode()


def test_decode_json_gives_the_dataclass() -> None:
    found = decode_json(json.dumps(GOOD), Whole, "file")
    assert found == Whole({"train": [Entry("a", 3, "0" * 64)]}, {"seed": 1})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (encoded(clips=None), "clips: Expected int, got null"),
        (encoded(clips=-1), "clips: Expected int >= 0"),
        (encoded(clips=10**30), "clips: Expected int <="),
        (encoded(clips=True), "clips: Expected int, got bool"),
        (encoded(name="x" * 301), "name: Expected str of length <= 300"),
        (encoded(sha256="../../etc"), "sha256: Expected str matching"),
        (b'{"entries": {}}', "missing required field recipe"),
        (b'{"entries": {}, "recipe": {}, "later": 1}', "unknown field later"),
        (b"[1]", "Expected object, got array"),
        (b"", "no readable JSON"),
        (b'{"entries": {"\xff": []}}', "no readable JSON"),
        (b'{"entries": {}, "recipe": {"a": "\\ud800"}}', "no readable JSON"),
        (b'{"entries": {}, "recipe": {"a": NaN}}', "no readable JSON"),
        (b'{"entries": {}, "recipe": {"a": ' + b"[" * 100_000, "too many levels"),
    ],
)
def test_decode_json_names_file_and_field(content: bytes, said: str) -> None:
    with pytest.raises(StoredJsonError, match=r"^file: ") as caught:
        decode_json(content, Whole, "file")
    assert said in str(caught.value)


def test_decode_json_refuses_more_bytes_than_allowed() -> None:
    with pytest.raises(StoredJsonError, match="file: 11 bytes, and at most 10 are allowed"):
        decode_json(b'{"a": [1] }', dict, "file", max_bytes=10)


def test_convert_names_the_field() -> None:
    with pytest.raises(StoredJsonError, match="row 3: clips: Expected int, got str"):
        convert(ENTRY | {"clips": "3"}, Entry, "row 3")


def test_check_depth_refuses_levels() -> None:
    check_depth({"a": [{"b": 1}]}, "file", levels=3)
    with pytest.raises(StoredJsonError, match="file: values lie inside each other"):
        check_depth({"a": [{"b": 1}]}, "file", levels=2)


@given(st.binary(max_size=64) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(repr))
def test_decode_json_of_any_content_raises_nothing_else(content: bytes | str) -> None:
    with pytest.raises(StoredJsonError):
        decode_json(content, Whole, "file")
