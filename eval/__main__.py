"""Evaluate a checkpoint: `python -m eval --checkpoint runs/x/best.pt --shards data/x --split test --out reports/x`.

    python -m eval compare reports/a reports/b --out reports/a-and-b      evaluations beside each other, clip by clip
    python -m eval synthesize --checkpoint ... --video talking.mp4 ...    inference on one video
    python -m eval serve --checkpoint ...                                 a page to try a checkpoint on
    python -m eval release --checkpoint ... --vocoder ... --out x.pt      networks in one small file, with a model card

Settings may also stand in the section `eval` of a YAML file (`--config`); flags go over it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from eval import release
from eval.compare import command as compare
from eval.evaluation import evaluate
from eval.serve import command as serve
from eval.settings import EvaluationSettings
from eval.synthesize import command as synthesize
from runtime.command_line import CommandParser, run_commands, settings_of
from runtime.terminal import say

PROG = "python -m eval"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status: 0 done, 1 evaluation failed, 2 unusable input."""
    commands = {"compare": compare.run, "synthesize": synthesize.run, "serve": serve.run, "release": release.run}
    return run_commands(PROG, commands, arguments, default=run, failures=(RuntimeError,))


def run(arguments: Sequence[str]) -> int:
    """Evaluate a checkpoint."""
    page = evaluate(parse(arguments), shlex.join([*PROG.split(), *arguments]))
    say(f"report: {page}")
    return 0


def parse(arguments: Sequence[str]) -> EvaluationSettings:
    """The settings of a command line."""
    parser = CommandParser(PROG, __doc__)
    parser.add_settings(EvaluationSettings)
    return settings_of(parser.parse(arguments), EvaluationSettings)


if __name__ == "__main__":
    sys.exit(main())
