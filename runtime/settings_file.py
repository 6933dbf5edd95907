"""Read YAML settings files: one section of a file, laid over that of the file that it names as its base.

base: lrs.yaml        # optional, and first: a file beside this one, that it is laid over, mapping by mapping
data: {dataset: lrs2}
train: {task: vsr}
eval: {split: test}
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from runtime.limits import MAX_DEPTH, MAX_SETTINGS_BYTES, MAX_YAML_NODES
from runtime.regular_file import read_regular_text
from runtime.renamed import dotted, refuse_renamed

SECTIONS = ("data", "train", "eval")
"""Of the file of a corpus. Other commands read a section of their own name."""

_MAX_BASES = 8

# libyaml, which PyYAML's wheels hold: PyYAML's own parser takes minutes for some thousand brackets
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_section(path: str | Path, section: str) -> dict[str, Any]:
    """A section of a settings file, over that of its `base`.

    Raises:
        ValueError: it is not readable YAML, larger or deeper than `runtime.limits` allows, holds anything but plain
            values, has no such section or others than there are, or an old name.
        OSError: it cannot be read.
    """
    found = _section_or_none(Path(path), section, _MAX_BASES)
    if found is None:
        raise ValueError(f"{path}: has no section `{section}`")
    return found


def merged(below: Any, above: Any) -> Any:
    """Mappings laid over each other, key by key."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {name: merged(below[name], value) if name in below else value for name, value in above.items()}


def _section_or_none(path: Path, section: str, bases: int) -> dict[str, Any] | None:
    content = _read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a mapping of sections was expected: {', '.join(SECTIONS)}")
    unknown = [name for name in content if name not in (*SECTIONS, section, "base")]
    if unknown:
        missing = "" if section in content else f"has no section `{section}`; "
        raise ValueError(f"{path}: {missing}{', '.join(unknown)}: no section: those are {', '.join(SECTIONS)}")
    base = None
    if "base" in content:
        if not isinstance(content["base"], str) or not bases:
            found = content["base"] if bases else f"more than {_MAX_BASES} files, each the base of the next"
            raise ValueError(f"{path}: base: the name of a settings file beside this one was expected, found {found!r}")
        base = _section_or_none(path.parent / content["base"], section, bases - 1)
    found = content.get(section)
    if found is None:
        return base
    if not isinstance(found, dict):
        raise ValueError(f"{path}: {section}: a mapping of settings was expected")
    try:
        refuse_renamed(section, dotted(found))
        for name in dotted(found):
            if name.endswith("class_path"):
                raise ValueError(f"{section}.{name}: settings name values, and no classes to import: remove it")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return dict(merged(base or {}, found))


def _read_yaml(path: Path) -> Any:
    text = read_regular_text(path, MAX_SETTINGS_BYTES)
    try:
        _check_nodes(text)
        content = yaml.load(text, _LOADER)
        _check_plain(content, "")
    # a date or a number that cannot be is a ValueError, a key that is a mapping a TypeError
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: not readable YAML: {error}") from error
    return content


def _check_nodes(text: str) -> None:
    """Refuse YAML that is too deep, or too large once its aliases are written out, from its events alone."""
    sizes: dict[str, tuple[int, int]] = {}  # anchor -> values and levels of what it names
    inner: list[tuple[str | None, int, int]] = [(None, 0, 0)]
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            inner.append((event.anchor, 1, 1))
            _check_size(0, len(inner))  # at once: the parser takes the longer for each level, the more there are
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, values, levels = inner.pop()
        elif isinstance(event, yaml.ScalarEvent):
            anchor, values, levels = event.anchor, 1, 0
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands for nothing, or for what it stands in")
            anchor, (values, levels) = None, sizes[event.anchor]
        else:
            continue
        if anchor is not None:
            sizes[anchor] = values, levels
        outer, sum_of_values, deepest = inner[-1]
        inner[-1] = outer, sum_of_values + values, max(deepest, levels + 1)
        _check_size(inner[-1][1], max(len(inner), inner[-1][2]))


def _check_size(values: int, levels: int) -> None:
    if values > MAX_YAML_NODES or levels > MAX_DEPTH:
        raise ValueError(
            f"more than {MAX_YAML_NODES:,} values once its aliases are written out, or more than {MAX_DEPTH} levels"
        )


def _check_plain(value: Any, name: str) -> None:
    """Refuse what a command line could not say: dates, bytes, sets, keys that are no text, what is no number."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{name}{key!r}: a name was expected as key: put it in quotes")
            _check_plain(inner, f"{name}{key}.")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_plain(inner, f"{name}{number}.")
    elif not (value is None or isinstance(value, str | bool | int | float)) or value != value:
        found = "not a number" if isinstance(value, float) and math.isnan(value) else f"a {type(value).__name__}"
        raise ValueError(f"{name.rstrip('.')}: text, a number, true or false was expected, found {found}")
