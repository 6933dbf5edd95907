"""The command `pipeline`: parse, run, say what came out.

pipeline demo       write the embedded demo corpus
pipeline build      videos -> shards
pipeline verify     recheck every checksum, count, shape and mel of a dataset
pipeline info       totals, lengths, and whether sound and picture are in step
pipeline preview    one page to look at and listen to
pipeline tokenizer  train a tokenizer on its transcripts
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from pipeline.commands import COMMANDS

EXIT_USER, EXIT_INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status: 0 done, 1 problems found, 2 unusable input, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: pipeline COMMAND [--help | FLAGS]\n\n{_listing()}")
        return 0 if arguments else EXIT_USER
    command = COMMANDS.get(arguments[0])
    if command is None:
        print(f"pipeline: no command {arguments[0]!r}\n\n{_listing()}", file=sys.stderr)
        return EXIT_USER
    try:
        return command(arguments[1:])
    except (ValueError, OSError) as error:
        console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        console.print("error:", style="bold red", end=" ")
        console.print(str(error))
        return EXIT_USER
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on from here", file=sys.stderr)
        return EXIT_INTERRUPTED


def _listing() -> str:
    return "\n".join(f"  {name:<11}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items())
