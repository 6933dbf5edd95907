"""Damage to plain values, as JSON and YAML hold them: wrong types, huge numbers, odd names, deep nesting."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.fuzz.damaged_bytes import Damaged, damaged_bytes

_RAW = {
    "deep": "[" * 20_000 + "]" * 20_000,
    "deeper": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "long number": "9" * 5000,
    "large float": "1e400",
    "surrogate": '"\\ud800"',
    "nan": "NaN",
    "infinity": "-Infinity",
    "two of a name": '{"a": 1, "a": [2]}',
}
"""JSON that Python would not write."""

ODD_TEXTS = (
    "",
    " ",
    "\0",
    "x" * 100_000,
    "\x1b]0;title\x07\x1b[2Jhidden",
    "\u202eright to left",
    "../../../escaped",
    "/etc/passwd",
    "stray_module:run",
    "stray_module.Network",
    "a\nb\r\nc",
    "nan",
    "[bold red]:smile:",
    "<script>alert(1)</script>{{ 7 * 7 }}",
    "main/a.b/c d",
    "ä" * 300,
    "%s%n{0}",
)
ODD_NUMBERS = (-1, 0, 1, 2, 3.5, 255, 70_000, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 1e308, -1e308, 5e-324, 10**30)
ODD_VALUES: tuple[Any, ...] = (None, None, True, False, [], {}, [[]], [None], {"": None}, *ODD_NUMBERS, *ODD_TEXTS)


@st.composite
def odd_values(draw: st.DrawFn, raw: bool = True) -> Any:
    """A value that is seldom the right one; with `raw`, some that only stand for text of `_RAW`."""
    options = [*ODD_VALUES, *(f"@raw {name}@" for name in _RAW if raw)]
    return draw(st.sampled_from(options))


@st.composite
def damaged_values(draw: st.DrawFn, content: Any, raw: bool = True) -> tuple[str, Any]:
    """A copy of nested dictionaries and lists with something changed, somewhere."""
    places = list(_places(content))
    place = draw(st.sampled_from(places)) if places else ()
    change = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "rename", "double", "wrap"]))
    name = ".".join(map(str, place)) or "everything"
    odd = draw(odd_values(raw))
    return f"{name}: {change} {repr(odd)[:40]}", _changed(content, place, change, odd)


def _places(content: Any, above: tuple[Any, ...] = ()) -> Any:
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, part in parts:
        yield (*above, key)
        yield from _places(part, (*above, key))


def _changed(content: Any, place: tuple[Any, ...], change: str, odd: Any) -> Any:
    if not place:
        return {"replace": odd, "wrap": [content], "remove": None, "rename": odd}.get(change, [content, odd])
    copied = dict(content) if isinstance(content, dict) else list(content)
    key, *deeper = place
    if deeper:
        copied[key] = _changed(copied[key], tuple(deeper), change, odd)
    elif change == "replace":
        copied[key] = odd
    elif change == "remove":
        del copied[key]
    elif change == "wrap":
        copied[key] = [copied[key]]
    elif isinstance(copied, list):
        copied.insert(key, copied[key] if change == "double" else odd)
    else:
        value = copied.pop(key) if change == "rename" else copied[key]
        copied[str(odd) if change == "rename" else f"{key}2"] = value if change != "add" else odd
    return copied


def dump_json(values: Any, ascii_only: bool, indent: int | None = None, end: str = "\n") -> bytes:
    """JSON of values with what stands for `_RAW` replaced."""
    text = json.dumps(values, ensure_ascii=ascii_only, indent=indent)
    for name, raw in _RAW.items():
        text = text.replace(f'"@raw {name}@"', raw)
    return (text + end).encode("utf-8", "surrogatepass")


@st.composite
def damaged_json(draw: st.DrawFn, content: bytes) -> Damaged:
    """A JSON file: its values changed, or its bytes."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged_bytes(content))
    what, values = draw(damaged_values(json.loads(content)))
    return what, dump_json(values, draw(st.booleans()), 1 if b"\n " in content[:100] else None)


@st.composite
def damaged_json_lines(draw: st.DrawFn, content: bytes) -> Damaged:
    """A file of JSON lines: one of them changed, or its bytes."""
    lines = content.splitlines(keepends=True)
    if not lines or draw(st.integers(0, 3)) == 0:
        return draw(damaged_bytes(content))
    number = draw(st.integers(0, len(lines) - 1))
    what, values = draw(damaged_values(json.loads(lines[number])))
    lines[number] = dump_json(values, draw(st.booleans()))
    return f"line {number + 1}: {what}", b"".join(lines)


_YAML = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(9 * ['*' + chr(97 + n)])}]\n" for n in range(8)),
    "python object": "data: !!python/object/apply:os.system ['touch ran']\n",
    "deep": "data: " + "[" * 3000 + "]" * 3000 + "\n",
    "deep mapping": "".join(" " * n + "a:\n" for n in range(1500)),
    "alias in itself": "data: &a [*a]\n",
    "merge": "data: {<<: [{root: x}, 3]}\n",
    "date": "data: {root: 2026-99-99}\n",
    "binary": "data: {root: !!binary AAAA}\n",
    "base of itself": "base: settings.yaml\ndata: {}\n",
    "base elsewhere": "base: /etc/passwd\ntrain: {}\n",
    "two documents": "data: {}\n---\ntrain: {}\n",
    "mapping as key": "{? {a: 1} : 2}\n",
    "tabs": "data:\n\troot: x\n",
    "set": "data: !!set {a, b}\n",
}


@st.composite
def damaged_yaml(draw: st.DrawFn, content: bytes) -> Damaged:
    """A YAML file: its values changed, its bytes, or another whole."""
    way = draw(st.integers(0, 5))
    if way == 0:
        return draw(damaged_bytes(content))
    if way == 1:
        name = draw(st.sampled_from(sorted(_YAML)))
        return name, _YAML[name].encode()
    what, values = draw(damaged_values(yaml.safe_load(content), raw=False))
    return what, yaml.safe_dump(values, allow_unicode=draw(st.booleans()), sort_keys=False).encode()
