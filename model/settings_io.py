"""Read settings out of a checkpoint: dictionaries of plain values, checked against the dataclass they are to be.

A checkpoint may come from anywhere, so the type of every value is checked. `dataclasses.asdict` writes them.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import typing
from typing import Any

from runtime.limits import MAX_FRACTION, MAX_SETTING, MAX_SETTINGS, check_limit
from runtime.renamed import refuse_renamed


def read_settings(kind: Any, values: Any) -> Any:
    """A settings dataclass, whose fields are plain values, tuples of these, literals, or such dataclasses, from nested
    dictionaries. Missing settings have their default.

    Raises:
        ValueError: no dictionary, or settings that are unknown, renamed, ill-typed or larger than `runtime.limits`
            allows, which are named; or what `kind` itself refuses.
    """
    types = typing.get_type_hints(kind)
    if not isinstance(values, dict):
        raise ValueError(f"{kind.__name__} are a {type(values).__name__}, and a dictionary was expected")
    unknown = [str(name)[:50] for name in values if name not in types]
    refuse_renamed("checkpoint", unknown)
    if unknown:
        raise ValueError(f"unknown settings {', '.join(unknown)} of {kind.__name__}: made by a later version?")
    return kind(**{name: _typed(f"{kind.__name__}.{name}", types[name], value) for name, value in values.items()})


def _typed(name: str, hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return read_settings(hint, value)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        fits = isinstance(value, tuple) and all(type(x) is arguments[0] for x in value)
        fits = fits and (arguments[-1] is ... or len(value) == len(arguments))
    elif origin is typing.Literal:
        fits = value in arguments
    else:
        fits = type(value) is hint or (hint is float and type(value) is int)
    if not fits:
        found = reprlib.repr(value)  # whatever it is, a few words of it
        raise ValueError(f"{name} is {found}, and {getattr(hint, '__name__', hint)} was expected")
    for number in value if origin is tuple else (value,):
        _check_size(name, number)
    return value


def _check_size(name: str, value: Any) -> None:
    if type(value) is int:
        check_limit(name, abs(value), MAX_SETTINGS.get(name.rpartition(".")[2], MAX_SETTING))
    elif type(value) is float:
        check_limit(name, abs(value) if math.isfinite(value) else math.inf, MAX_FRACTION)
