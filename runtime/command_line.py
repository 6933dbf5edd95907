"""Command lines: typed flags, sections of YAML files, `--help`, `--print_config`, `--version`, errors with status 2.

    parser = CommandParser("python -m eval", __doc__, section="eval")
    parser.add_settings(EvaluationSettings)                    # a typed dataclass: every field is a flag
    settings = settings_of(parser.parse(arguments), EvaluationSettings)

Flags are spelled with dashes or underscores (`--max-seconds`, `--schedule.warmup-steps`). `--config FILE` reads one
section of a YAML file (`runtime.settings_file`); flags go over it wherever they stand. Unknown keys and flags are
refused by name, and old ones with the new name.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar, cast, get_args, get_type_hints

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from rich.console import Console

from runtime.renamed import dotted, refuse_renamed
from runtime.settings_file import merged, read_section
from runtime.terminal import printable, say, shortened
from runtime.versions import versions_of

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130

# jsonargparse takes import paths wherever a dataclass is expected, and imports their modules before it refuses them
set_parsing_settings(
    import_path_denylist=["*"], import_path_allowlist=["eval", "model", "pipeline", "runtime", "shards", "train"]
)

Settings = TypeVar("Settings")
Command = Callable[[Sequence[str]], int]


class CommandParser(ArgumentParser):
    """Parses one command.

    Args:
        prog: how the command is called.
        about: what it does; a docstring.
        section: of a `--config` file that is read; default: the last word of `prog`.
        variants: (mapping, setting, its values): a section's part `mapping`, which is none of its settings, has for
            each value of `setting` what goes over the rest of the section: `tasks: {vsr: {out: runs/vsr}}` for `task`.
    """

    def __init__(
        self,
        prog: str = "",
        about: str | None = None,
        *,
        section: str | None = None,
        variants: tuple[str, str, Sequence[str]] | None = None,
        **inner: Any,
    ) -> None:
        self.section = section or (prog.split() or [""])[-1]
        self.variants = variants
        self.kinds: list[type[Any]] = []
        if inner or not prog:  # jsonargparse makes parsers of this class for the settings inside of settings
            super().__init__(**inner)
            return
        super().__init__(
            prog=prog,
            description=about,
            allow_abbrev=False,
            version=_version(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--config", action="config", help=f"YAML file; its section `{self.section}` is read")

    def add_settings(self, kind: type[Any], skip: Sequence[str] = ()) -> None:
        """Every field of a dataclass as a flag, but for `skip`."""
        self.kinds.append(kind)
        self.add_class_arguments(kind, as_group=False, skip=set(skip))

    def parse(self, arguments: Sequence[str]) -> Namespace:
        """The values of a command line. A wrong flag or value is said on standard error and ends the program (2).

        Raises:
            ValueError: a settings file cannot be used, or an old name.
            OSError: it cannot be read.
        """
        files, flags = split_flag([as_setting(argument) for argument in arguments], "config")
        names = [flag[2:].partition("=")[0] for flag in flags if flag.startswith("--")]
        refuse_renamed(self.section, names)
        configs = [f"--config={json.dumps(self._section(file, flags))}" for file in files]
        parsed = self.parse_args([*configs, *flags])
        for kind in self.kinds:
            _check_shape(parsed.as_dict(), kind, f"{self.section}.")
        values: Namespace = self.instantiate(parsed)
        return values

    def _section(self, path: str, flags: Sequence[str]) -> dict[str, Any]:
        section = self._varied(path, read_section(path, self.section), flags)
        for kind in self.kinds:
            _check_shape(section, kind, f"{path}: {self.section}.")
        return section

    def _varied(self, path: str, section: dict[str, Any], flags: Sequence[str]) -> dict[str, Any]:
        """A section with what it has for the chosen one of the variants laid over it."""
        if self.variants is None:
            return section
        part, setting, known = self.variants
        variants = section.pop(part, None) or {}
        if not isinstance(variants, dict) or not all(isinstance(each or {}, dict) for each in variants.values()):
            raise ValueError(f"{path}: {self.section}.{part}: a mapping of settings for each {setting} was expected")
        given, _ = split_flag(flags, setting)
        chosen = given[-1] if given else section.get(setting) or self.get_default(setting)
        unknown = set(variants) - set(known)
        if unknown:
            found = ", ".join(sorted(unknown))
            raise ValueError(f"{path}: {self.section}.{part}: no {setting} {found}: there is {', '.join(known)}")
        varied = variants.get(chosen) if isinstance(chosen, str) else None  # the parser refuses what is no name
        section = dict(merged(section, {**(varied or {}), setting: chosen}))
        refuse_renamed(self.section, dotted(section))
        return section

    def _print_message(self, message: str, file: Any = None) -> None:
        say(message.rstrip("\n"), file)  # it may quote a settings file

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        plain = re.sub(r"<class '(?:\w+\.)*(\w+)'>|\btyping\.", r"\1", message).replace("NoneType", "null")
        super().error(shortened(printable(plain)), ex)  # it quotes values of settings files

    def format_help(self, *given: Any) -> str:
        return _with_dashes(super().format_help(*given))

    def format_usage(self) -> str:
        return _with_dashes(super().format_usage())


def _check_shape(values: Mapping[str, Any], kind: type[Any], where: str) -> None:
    """Refuse what jsonargparse lets pass: a number or a list in the place of a mapping, null where it is no value."""
    for name, expected in get_type_hints(kind).items():
        if name not in values:
            continue
        value = values[name]
        if dataclasses.is_dataclass(expected):
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}{name}: {reprlib.repr(value)}, and a mapping of settings was expected")
            _check_shape(value, cast(type[Any], expected), f"{where}{name}.")
        elif value is None and type(None) not in get_args(expected):
            raise ValueError(f"{where}{name}: null, and a value was expected")


def _with_dashes(text: str) -> str:
    return re.sub(r"--[a-z]\w*", lambda match: match[0].replace("_", "-"), text)


def _version() -> str:
    return f"lip-to-speech {versions_of(['lip-to-speech']).get('lip-to-speech', '(not installed)')}"


def settings_of(values: Namespace, kind: type[Settings]) -> Settings:
    """The dataclass whose fields are among parsed values (ValueError: what the class refuses)."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(values, name) for name in names})


def run_commands(
    prog: str,
    commands: Mapping[str, Command],
    arguments: Sequence[str] | None = None,
    *,
    default: Command | None = None,
    failures: tuple[type[Exception], ...] = (),
) -> int:
    """Run the command that a command line names, and say on standard error what goes wrong.

    Args:
        prog: how the commands are called.
        commands: by name; the first line of each docstring is its help.
        arguments: default: those of the process.
        default: what runs where no command is named.
        failures: errors that are no fault of the command line.

    Returns:
        The exit status: what the command returns; 1 after one of `failures`, 2 after ValueError and OSError, which are
        what a user can mend, 130 when interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = commands.get(given[0]) if given else None
    try:
        if command is not None:
            return command(given[1:])
        if default is not None:
            return default(given)
    except failures as error:
        print_error(error)
        return EXIT_FAILED
    except (ValueError, OSError) as error:
        print_error(error)
        return EXIT_USER
    except KeyboardInterrupt:
        say("interrupted: run the same command again to resume", sys.stderr)
        return EXIT_INTERRUPTED
    listing = "\n".join(f"  {name:<11}{(each.__doc__ or '').splitlines()[0]}" for name, each in commands.items())
    if given and given[0] in ("-h", "--help"):
        say(f"usage: {prog} COMMAND [--help | --version | --print-config | FLAGS]\n\n{listing}")
        return 0
    if given and given[0] == "--version":
        say(f"{prog} {_version()}")
        return 0
    say(f"{prog}: no command {given[0]!r}\n\n{listing}" if given else listing, sys.stderr)
    return EXIT_USER


def print_error(error: object) -> None:
    """An error on standard error, as it is: `[...]` in it is no markup, and `:factory` no emoji."""
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    console.print("error:", style="bold red", end=" ")
    console.print(shortened(printable(error)))


def split_flag(arguments: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """The values of a flag, written `--flag value` or `--flag=value`, and the other arguments, none yet understood."""
    values, others, waiting = [], [], iter(arguments)
    for argument in waiting:
        flag, equals, value = as_setting(argument).partition("=")
        found = None
        if flag == f"--{name}":
            found = value if equals else next(waiting, None)
        if found is None:
            others.append(argument)
        else:
            values.append(found)
    return values, others


def as_setting(argument: str) -> str:
    """A flag as its setting is named: `--max-seconds=9` is `--max_seconds=9`; what is no flag stays as it is."""
    name, equals, value = argument.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else argument
