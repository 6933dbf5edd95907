"""Fuzz every command with damaged files: `make fuzz MINUTES=30`, or `python -m tests.fuzz --minutes 30`.

Cases are drawn at random from a seed, which is printed. Those whose outcome may not be are kept in `.fuzz`, and
`python -m tests.fuzz --replay .fuzz/0001` runs one again. Ends with a table of cases by form, command and outcome;
status 1 when something was found.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.cases import Bench
from tests.fuzz.exploration import PAIRS
from tests.fuzz.findings import read_case
from tests.fuzz.forms import FORMS
from tests.fuzz.long_run import fuzz
from tests.fuzz.server import CommandServer


def main() -> int:
    """Run the command line; returns the exit status: 0 nothing found, 1 something was."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--forms", nargs="+", metavar="FORM", choices=list(FORMS), help="default: all")
    parser.add_argument("--commands", nargs="+", metavar="COMMAND", help="by their names in tests/fuzz/commands.py")
    parser.add_argument("--processes", type=int, default=2, help="that run cases side by side")
    parser.add_argument("--replay", type=Path, metavar="CASE", help="run a case that was kept, and nothing else")
    values = parser.parse_args()
    if values.replay is not None:
        return replay(values.replay)
    pairs = [
        (form, command)
        for form, command in PAIRS
        if form in (values.forms or FORMS) and (values.commands is None or command in values.commands)
    ]
    print(f"seed {values.seed}: {len(pairs)} pairs of a form and a command for {values.minutes:g} minutes", flush=True)
    return fuzz(pairs, values.seed, 60 * values.minutes, values.processes)


def replay(folder: Path) -> int:
    """Run a case that was kept."""
    form, command, damage = read_case(folder)
    with tempfile.TemporaryDirectory() as bench, CommandServer() as server:
        outcome, wrong = Bench(Path(bench), server).run(form, command, damage)
    print(f"{form}, {command}: {damage.what}\nstatus {outcome.status} in {outcome.seconds:.1f} s, {outcome.peak_mb} MB")
    print(ascii(outcome.out.decode(errors="replace") + outcome.err.decode(errors="replace")).replace("\\n", "\n"))
    print("\n".join(wrong) or "nothing is wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
