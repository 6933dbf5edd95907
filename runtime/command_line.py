"""What command lines have in common: how a flag may be spelt, and how a file of settings is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def as_setting(argument: str) -> str:
    """A flag as its setting is named: `--max-seconds=9` is `--max_seconds=9`; what is no flag stays as it is."""
    name, equals, value = argument.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else argument


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds.

    Raises:
        ValueError: it is not readable YAML.
        OSError: it cannot be read.
    """
    try:
        return yaml.safe_load(Path(path).read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable YAML: {error}") from error
