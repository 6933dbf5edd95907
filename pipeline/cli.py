"""The command `pipeline`: one function a subcommand, in pipeline/commands.py."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.commands import COMMANDS
from runtime.command_line import run_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status: 0 done, 1 problems found, 2 unusable input, 130 interrupted."""
    return run_commands("pipeline", COMMANDS, arguments)
