"""Reads a file that `torch.save` wrote: plain values and tensors, with every checksum of the zip compared.

`torch.load` compares no checksum, calls what `weights_only` allows with any arguments, and takes as much memory as a
file claims. Here the same format is read with less: the CRCs are compared on the very bytes that become tensors
(`model.torch_archive`); the pickle may make dictionaries, lists, tuples, numbers, text, bytes and tensors; a tensor has
no more numbers than its storage, and all tensors together no more than the file has bytes, so that they stay in
proportion to it as float32, too.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.torch_archive import TorchArchive
from runtime import limits
from runtime.limits import check_limit
from runtime.regular_file import open_regular

_DTYPES = {
    **{"torch.DoubleStorage": torch.float64, "torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16},
    **{"torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32},
    **{"torch.ShortStorage": torch.int16, "torch.CharStorage": torch.int8, "torch.ByteStorage": torch.uint8},
    **{"torch.BoolStorage": torch.bool, "torch.ComplexFloatStorage": torch.complex64},
    **{"torch.ComplexDoubleStorage": torch.complex128},
}
_OPERATIONS = (
    *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND"),
    *("APPENDS", "SETITEM", "SETITEMS", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "GLOBAL", "REDUCE", "BUILD"),
    "BINPERSID",
)
"""What `torch.save` writes (pickle protocol 2)."""


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` wrote into a file: nested dictionaries, lists and tuples of plain values and CPU tensors.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, is damaged, holds anything else, or is larger than `runtime.limits` allows; says
            what was found.
    """
    with open_regular(path, limits.MAX_CHECKPOINT_BYTES) as file:
        archive = TorchArchive(file)
        structure = archive.read("data.pkl", limits.MAX_PICKLE_BYTES)
        _check_operations(structure)
        try:
            content = _Unpickler(structure).load()
        except ValueError:
            raise
        except Exception as error:  # the pickle of a damaged or hostile file may go wrong in any way
            raise ValueError(f"data.pkl: {type(error).__name__}: {str(error)[:200]}") from error
        return _Builder(archive).build(content, "", 0)


def _check_operations(structure: bytes | bytearray) -> None:
    """Refuse operations of a pickle that `torch.save` does not use, before any is carried out."""
    for number, (operation, argument, position) in enumerate(_operations(structure)):
        check_limit("operations of data.pkl", number, limits.MAX_VALUES)
        if operation.name not in _OPERATIONS:
            raise ValueError(f"data.pkl: the operation {operation.name}, which torch.save does not write")
        # memory is taken for as many values; each takes a byte at least
        if operation.name.endswith("BINPUT") and int(argument or 0) > int(position or 0):
            raise ValueError(f"data.pkl: remembers a value as number {argument}, at byte {position}")


def _operations(structure: bytes | bytearray) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    try:
        yield from pickletools.genops(bytes(structure))
    except Exception as error:
        raise ValueError(f"data.pkl: not a pickle: {str(error)[:200]!r}") from error


class _StateDict(dict[Any, Any]):
    """An ordered dictionary; the attributes that state dicts carry (`_metadata`) are passed over."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage(NamedTuple):
    dtype: torch.dtype
    key: Any
    numbers: Any


class _StoredTensor(NamedTuple):
    """A tensor as its file describes it; nothing of it has been checked."""

    storage: Any
    offset: Any
    shape: Any
    stride: Any


class _Global(NamedTuple):
    """What a pickle names. It has no attributes that the pickle could change, and calls nothing but this."""

    name: str

    def __call__(self, *arguments: Any) -> Any:
        match self.name, arguments:
            case "collections.OrderedDict", ():
                return _StateDict()
            case "torch._utils._rebuild_tensor_v2", (storage, offset, shape, stride, *_):
                return _StoredTensor(storage, offset, shape, stride)
            case "torch._utils._rebuild_parameter", (_StoredTensor() as tensor, *_):
                return tensor
            case "_codecs.encode", (str() as text, "latin1"):  # bytes
                return text.encode("latin1")
            case (("__builtin__.bytes" | "builtins.bytes"), ()):
                return b""
        raise ValueError(f"data.pkl: {self.name} with arguments that torch.save does not write")


_CALLED = (
    *("collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"),
    *("_codecs.encode", "__builtin__.bytes", "builtins.bytes"),
)


class _Unpickler(pickle.Unpickler):
    """Builds plain values, and descriptions of tensors; nothing is imported."""

    def __init__(self, structure: bytes | bytearray) -> None:
        super().__init__(io.BytesIO(structure), fix_imports=False)

    def find_class(self, module: str, name: str, /) -> Any:
        full = f"{module}.{name}"
        if full not in _CALLED and full not in _DTYPES:
            printable = full[: limits.MAX_NAME_LENGTH].encode("unicode_escape").decode()
            raise ValueError(
                f"refused: it names {printable}, and a checkpoint holds only tensors and plain values; reading it "
                "could run code"
            )
        return _Global(full)

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _Global(name), str() as key, str(), int() as numbers) if name in _DTYPES and key.isalnum():
                return _Storage(_DTYPES[name], key, numbers)
        raise ValueError("data.pkl: names something else than a tensor's numbers")


class _Builder:
    """Makes tensors of their descriptions, after their sizes have been compared with what the file holds."""

    def __init__(self, archive: TorchArchive) -> None:
        self._archive = archive
        self._storages: dict[str, torch.UntypedStorage] = {}
        self._values = self._numbers = 0

    def build(self, value: Any, where: str, depth: int) -> Any:
        """The value with tensors in it; `where` names it in errors."""
        self._values += 1
        check_limit("values", self._values, limits.MAX_VALUES)
        check_limit(f"{where[: limits.MAX_NAME_LENGTH]}: values inside each other", depth, limits.MAX_DEPTH)
        if isinstance(value, _StoredTensor):
            return self._tensor(value, where or "the file")
        if isinstance(value, dict):
            return {_name(key, where): self.build(x, f"{where}{key}.", depth + 1) for key, x in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.build(x, f"{where}{at}.", depth + 1) for at, x in enumerate(value))
        if value is None or type(value) in (bool, int, float, str, bytes):
            return value
        raise ValueError(f"{where[:-1] or 'the file'} is no plain value and no tensor")

    def _tensor(self, stored: _StoredTensor, where: str) -> Tensor:
        storage, offset, shape, stride = stored
        name = where.removesuffix(".")
        numbers = [offset, *shape, *stride] if isinstance(shape, tuple) and isinstance(stride, tuple) else [None]
        if not isinstance(storage, _Storage) or not all(type(x) is int and 0 <= x < 2**62 for x in numbers):
            raise ValueError(f"{name} is no plain tensor")
        check_limit(f"{name}: dimensions", len(shape), limits.MAX_DIMENSIONS)
        held = self._archive.length(f"data/{storage.key}")
        count = prod(shape)
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if count else -1
        if storage.numbers * storage.dtype.itemsize != held:
            raise ValueError(f"{name}: a storage that claims {storage.numbers:,} numbers, and has {held:,} bytes")
        check_limit(f"{name}: its numbers, of a storage", max(count, last + 1), storage.numbers)
        self._numbers += count
        check_limit(f"{name}: numbers of all tensors until here, of a file's bytes", self._numbers, self._archive.size)
        if storage.key not in self._storages:
            content = self._archive.read(f"data/{storage.key}", limits.MAX_CHECKPOINT_BYTES)
            numbers_of = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
            self._storages[storage.key] = numbers_of.untyped_storage()
        return torch.empty(0, dtype=storage.dtype).set_(self._storages[storage.key], offset, shape, stride)


def _name(key: Any, where: str) -> Any:
    """A dictionary's key, if it can stand in a message."""
    if type(key) is int or (type(key) is str and key.isprintable() and len(key) <= limits.MAX_NAME_LENGTH):
        return key
    raise ValueError(f"{where[:-1] or 'the file'} has a key that is no number and no printable name")


def named_tensors(content: Any, prefix: str = "") -> Mapping[str, Tensor]:
    """All tensors of nested dictionaries, lists and tuples, by dotted names."""
    if isinstance(content, Tensor):
        return {prefix.removesuffix("."): content}
    parts = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content if isinstance(content, list | tuple) else ())
    )
    return {name: x for key, part in parts for name, x in named_tensors(part, f"{prefix}{key}.").items()}
