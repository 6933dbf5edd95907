"""Command lines: typed flags from dataclasses, recipes from YAML, dashes in flags, unknown keys refused."""

from __future__ import annotations

import re
from argparse import SUPPRESS, HelpFormatter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from pipeline.config import DATASETS, BuildSettings, config_file
from runtime.command_line import as_setting, read_yaml


class CommandParser(ArgumentParser):
    """jsonargparse with flags spelled with dashes: `--shard-mb` sets `shard_mb`, which is its name in YAML."""

    repeated: tuple[str, ...] = ()

    def __init__(self, command: str, about: str, **settings: Any) -> None:
        super().__init__(prog=f"pipeline {command}", description=about, allow_abbrev=False, **settings)

    def parse(self, arguments: Sequence[str]) -> Namespace:
        """The values of a command line; a wrong flag or value is said on standard error and ends the program."""
        return self.parse_args([self._as_parsed(argument) for argument in arguments])

    def _as_parsed(self, argument: str) -> str:
        """`--shard-mb=1` -> `--shard_mb=1`; `--split`, where it may be repeated, -> `--split+`, which appends."""
        name, equals, value = as_setting(argument).partition("=")
        return f"{name}+{equals}{value}" if name in self.repeated else f"{name}{equals}{value}"

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        return re.sub(r"--[a-z]\w*", lambda match: match[0].replace("_", "-"), super().format_help(formatter))


def build_parser(command: str, about: str, arguments: Sequence[str]) -> CommandParser:
    """A parser with every setting of a recipe as a flag, whose defaults are the recipe of `--dataset`.

    Raises:
        ValueError: `--dataset` or the `dataset` of a `--config` is not known, or the file is not readable YAML.
    """
    parser = CommandParser(command, about, default_config_files=[str(config_file(_named_dataset(arguments)))])
    parser.add_argument("--config", action="config", help="a recipe of your own; flags override it")
    parser.add_class_arguments(BuildSettings, skip={"split"})
    parser.add_argument(
        "--split", type=list[str], default=[], metavar="NAME=FILE", help="a further split list; may be repeated"
    )
    parser.add_argument("--train", type=dict | None, default=None, help=SUPPRESS)  # the file's section for training
    parser.repeated = ("--split",)
    return parser


def settings_of(values: Namespace) -> BuildSettings:
    """The recipe among parsed values (ValueError: a setting cannot be)."""
    return BuildSettings(**{name: getattr(values, name) for name in BuildSettings.__dataclass_fields__})


def _named_dataset(arguments: Sequence[str]) -> str:
    """The dataset that a command line asks for, by flag or in its recipe file: it decides the other defaults."""
    flags = dict(_flag_values(arguments))
    if "--dataset" in flags:
        return flags["--dataset"]
    if "--config" in flags and Path(flags["--config"]).is_file():
        content = read_yaml(flags["--config"])
        if isinstance(content, dict) and "dataset" in content:
            return str(content["dataset"])
    return DATASETS[0]


def _flag_values(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each flag with its value, whether written `--flag value` or `--flag=value`."""
    for argument, following in pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        yield name, value if equals else following
