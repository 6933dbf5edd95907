"""Damage to a checkpoint: settings, weights and training state changed, the zip's members, what its pickle calls."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.fuzz.damaged_bytes import FITTING, Damaged, damaged_bytes
from tests.fuzz.damaged_values import damaged_values, odd_values


class _RunsCode:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


_TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "nan": lambda x: torch.full_like(x.float(), torch.nan),
    "infinite": lambda x: torch.full_like(x.float(), torch.inf),
    "huge": lambda x: torch.full_like(x.float(), 3e38),
    "zero": torch.zeros_like,
    "half": lambda x: x.half(),
    "double": lambda x: x.double(),
    "whole numbers": lambda x: x.long(),
    "complex": lambda x: x.to(torch.complex64),
    "bool": lambda x: x.bool(),
    "a view of one number": lambda x: torch.zeros(1).expand(10**6, 10**5),
    "a view of its shape": lambda x: torch.zeros(()).expand(x.shape),
    "transposed": lambda x: x.T if x.ndim == 2 else x.flatten(),
    "one more": lambda x: torch.cat([x.reshape(-1), torch.zeros(1)]),
    "empty": lambda x: torch.zeros(0),
    "no dimensions": lambda x: torch.tensor(1.0),
    "sparse": lambda x: x.float().to_sparse(),
    "a text": lambda x: "x",
    "none": lambda x: None,
    "code": lambda x: _RunsCode(),
}


@st.composite
def damaged_checkpoint(draw: st.DrawFn, content: bytes) -> Damaged:
    """A file of `torch.save`: bytes, members of the zip with fitting checksums, values or tensors."""
    way = draw(st.sampled_from(["bytes", "bytes", "member", "values", "values", "tensor", "tensor"]))
    if way == "bytes":
        return draw(damaged_bytes(content))
    if way == "member":
        return draw(_with_member(content))
    values = torch.load(io.BytesIO(content))
    if way == "values":
        what, values = draw(_with_values(values))
    else:
        what, values = draw(_with_tensor(values))
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return f"{what}{FITTING}", buffer.getvalue()


@st.composite
def _with_values(draw: st.DrawFn, content: Any) -> tuple[str, Any]:
    """What is no tensor, changed: settings, names, the optimizer's groups, the run's state."""
    names = [name for name in content if name != "weights" and not name.endswith("state_dict")]
    if not names or draw(st.integers(0, 5)) == 0:
        name = draw(st.sampled_from(sorted(content)))
        odd = draw(odd_values(raw=False))
        return f"{name} is {repr(odd)[:40]}", content | {name: odd}
    name = draw(st.sampled_from(sorted(names)))
    what, values = draw(damaged_values({name: content[name]}, raw=False))
    return what, {**content, **values} if isinstance(values, dict) else values


@st.composite
def _with_tensor(draw: st.DrawFn, content: Any) -> tuple[str, Any]:
    places = [(name, key) for name, part in content.items() if isinstance(part, dict) for key in part]
    places = [place for place in places if isinstance(content[place[0]][place[1]], Tensor)]
    name, key = draw(st.sampled_from(places))
    change = draw(st.sampled_from([*sorted(_TENSORS), "remove", "rename"]))
    part = dict(content[name])
    if change in _TENSORS:
        part[key] = _TENSORS[change](part[key])
    else:
        tensor = part.pop(key)
        part |= {f"{key}.\x1b[2J": tensor} if change == "rename" else {}
    return f"{name}.{key}: {change}", {**content, name: part}


@st.composite
def _with_member(draw: st.DrawFn, content: bytes) -> Damaged:
    """The zip written anew with a member changed: its checksums fit."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = draw(st.sampled_from(sorted(members)))
    way = draw(st.sampled_from(["bytes", "bytes", "bytes", "deflate", "drop", "code", "pickle", "twice"]))
    deflate, what = zipfile.ZIP_STORED, way
    pickled = next(each for each in members if each.endswith("/data.pkl"))
    if way == "bytes":
        what, members[name] = draw(damaged_bytes(members[name]))
    elif way == "deflate":
        deflate, members[name] = zipfile.ZIP_DEFLATED, bytes(50_000_000)
    elif way == "drop":
        del members[name]
    elif way == "code":
        name, members[pickled] = pickled, pickle.dumps(_RunsCode(), protocol=draw(st.integers(0, 4)))
    elif way == "pickle":
        name, members[pickled] = pickled, draw(st.sampled_from(_PICKLES))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", deflate) as archive:
        for each, inner in members.items():
            archive.writestr(each, inner)
        if way == "twice":
            archive.writestr(f"{name}", b"")
    return f"{name.rpartition('/')[2]}: {what}{FITTING}", buffer.getvalue()


_PICKLES = (
    b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
    b"\x80\x02}q\x00.",
    b"\x80\x02]q\x00r\xff\xff\xff\x7f.",
    b"\x80\x02c__builtin__\neval\nq\x00X\x0b\x00\x00\x00open('ran')\x85R.",
    b"\x80\x02" + b"(" * 100_000 + b".",
    b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
)
