"""Command line of the evaluation: `python -m eval --checkpoint runs/x/best.pt --shards data/x --split test --out ...`.

    python -m eval compare reports/a reports/b --out reports/a-and-b      evaluations beside each other, clip by clip
    python -m eval synthesize --checkpoint ... --video talking.mp4 ...    speech of the lips of one video

Settings may also stand in a YAML file (`--config`); flags go over it.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence

from jsonargparse import ArgumentParser

from eval.compare import command as compare
from eval.evaluation import evaluate
from eval.settings import EvaluationSettings
from eval.synthesize import command as synthesize
from runtime.command_line import as_setting

_COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int], str]] = {
    "compare": (compare.add_arguments, compare.run, "evaluations beside each other, clip by clip"),
    "synthesize": (synthesize.add_arguments, synthesize.run, "speech of the lips of one video"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status: 0 done, 1 evaluation failed, 2 unusable input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given and given[0] in _COMMANDS:
            add_arguments, run, what = _COMMANDS[given[0]]
            parser = argparse.ArgumentParser(prog=f"python -m eval {given[0]}", description=what)
            add_arguments(parser)
            return run(parser.parse_args(given[1:]))
        page = evaluate(parse(given), shlex.join(["python", "-m", "eval", *given]))
        print(f"report: {page}")
        return 0
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parse(arguments: Sequence[str]) -> EvaluationSettings:
    """The settings of a command line."""
    parser = ArgumentParser(
        prog="python -m eval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", action="config", help="YAML file of settings")
    parser.add_class_arguments(EvaluationSettings, as_group=False)
    values = parser.instantiate(parser.parse_args([as_setting(argument) for argument in arguments]))
    return EvaluationSettings(
        **{field.name: getattr(values, field.name) for field in dataclasses.fields(EvaluationSettings)}
    )


if __name__ == "__main__":
    sys.exit(main())
