"""Read stored JSON against a schema: a dataclass says which fields there are and of which types.

Whatever a file holds, the outcome is an instance of the dataclass or a `StoredJsonError` that names file, field, what
was found and what was expected. `msgspec` compares the types while it parses.

    @dataclass(frozen=True)
    class Entry:
        name: ShortText
        clips: Count

    entry = decode_json(content, Entry, "data/manifest.json")
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from runtime.limits import MAX_DEPTH, MAX_JSON_BYTES, MAX_NAME_LENGTH

Kind = TypeVar("Kind")

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
"""A whole number that a float holds, too: of clips, frames, bytes."""

Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]


class StoredJsonError(ValueError):
    """Stored JSON that is not what was written: names file, field, found and expected."""


def decode_json(
    content: bytes | str, kind: type[Kind], where: str, *, max_bytes: int = MAX_JSON_BYTES, extra: bool = False
) -> Kind:
    """An instance of `kind`, a dataclass or any type that msgspec knows, from JSON.

    Args:
        content: as it was read.
        kind: the schema.
        where: the file's name (and the field's, of JSON in a field), which errors begin with.
        max_bytes: allowed.
        extra: whether the outermost dataclass may have fields that it does not know.

    Raises:
        StoredJsonError: it is no JSON, too large, nested too deep, or not of this type.
    """
    if len(content) > max_bytes:
        raise StoredJsonError(f"{where}: {len(content):,} bytes, and at most {max_bytes:,} are allowed")
    try:
        if not extra and dataclasses.is_dataclass(kind):
            _refuse_unknown(content, kind, where)
        found: Kind = _decoder(kind).decode(content)  # type: ignore[arg-type]
        return found
    except msgspec.ValidationError as error:
        raise StoredJsonError(f"{where}: {_in_words(error)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoredJsonError(f"{where}: no readable JSON: {error}") from error
    except RecursionError as error:
        raise StoredJsonError(f"{where}: values lie inside each other on too many levels") from error


def convert(values: Any, kind: type[Kind], where: str) -> Kind:
    """The same from values that are there already: of a checkpoint, of a row of a table (errors as `decode_json`)."""
    try:
        try:
            return msgspec.convert(values, kind)
        except AttributeError:  # msgspec takes a tensor, which can be indexed, for a mapping
            return msgspec.convert(_named_kinds(values), kind)
    except msgspec.ValidationError as error:
        raise StoredJsonError(f"{where}: {_in_words(error)}") from error
    except RecursionError as error:
        raise StoredJsonError(f"{where}: values lie inside each other on too many levels") from error


def _named_kinds(values: Any) -> Any:
    """The same with bare objects, of classes of the same names, in place of all that is no plain value."""
    if isinstance(values, Mapping):
        return {name: _named_kinds(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(map(_named_kinds, values))
    plain = values is None or isinstance(values, bool | int | float | str | bytes)
    return values if plain else type(type(values).__name__, (), {})()


def check_depth(values: Any, where: str, levels: int = MAX_DEPTH) -> None:
    """Refuse values that lie inside each other on more levels than that, where a schema leaves them open (`Any`).

    Raises:
        StoredJsonError: they do.
    """
    parts = values.values() if isinstance(values, Mapping) else values if isinstance(values, list | tuple) else ()
    if parts and levels <= 0:
        raise StoredJsonError(f"{where}: values lie inside each other on more than the levels that are allowed")
    for part in parts:
        check_depth(part, where, levels - 1)


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _refuse_unknown(content: bytes | str, kind: Any, where: str) -> None:
    found = _decoder(dict[str, msgspec.Raw]).decode(content)
    unknown = sorted(set(found) - {field.name for field in dataclasses.fields(kind)})
    if unknown:
        names = ", ".join(name[:MAX_NAME_LENGTH] for name in unknown[:5])
        raise StoredJsonError(f"{where}: unknown field {names}: written by a later version, or changed")


def _in_words(error: msgspec.ValidationError) -> str:
    """``Expected `int`, got `str` - at `$.a.b` `` -> `a.b: Expected int, got str`."""
    message, _, place = str(error).partition(" - at `")
    field = re.sub(r"^\$\.?", "", place.rstrip("`"))
    text = message.replace("`", "")
    return f"{field}: {text}" if field else text
