"""What is wrong with how a command ended and with what it said, whatever it was given.

It may end with its result (which may be without a clip, skipped with a reason), or with one clear sentence on standard
error that names file or key, and status 2, or 1 where it found problems or could not finish. Nothing else: no traceback
or words of Python's own, no signal or hang, no memory out of proportion, no control characters.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.fuzz.server import Outcome

MAX_PEAK_MB = 512
"""Above what importing takes. Files of the scene have at most 300 kB, whole ones take 150 MB."""

_LONGEST_LINE = 4000
_NO_SENTENCE = re.compile(
    r"Traceback \(most recent|'NoneType'|object has no attribute|not subscriptable|not iterable|unhashable type"
    r"|unsupported operand|unexpected keyword|positional argument|object is not callable|indices must be"
    r"|not supported between|invalid literal for|must be (?:str|real number|an integer), not|cannot unpack"
    r"|values to unpack|KeyError|TypeError|IndexError|AttributeError|RecursionError|OverflowError|UnicodeEncodeError"
    r"|AssertionError|ZeroDivisionError|MemoryError|maximum recursion depth"
)
"""Words of Python's own, that say nothing to who reads a file's error."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def wrong_with(outcome: Outcome, file: str) -> list[str]:
    """What is wrong with how a command ended, and with what it said."""
    out, err = (said.decode(errors="replace") for said in (outcome.out, outcome.err))
    wrong = []
    if outcome.hung:
        wrong.append(f"hangs: killed after {outcome.seconds:.0f} s")
    elif outcome.status not in (0, 1, 2):
        wrong.append(f"status {outcome.status}")
    if outcome.peak_mb > MAX_PEAK_MB:
        wrong.append(f"{outcome.peak_mb} MB at most")
    for said in (out, err):
        if match := _NO_SENTENCE.search(said):
            wrong.append(f"says {match[0]!r}: ...{shown(said[max(0, match.start() - 200) : match.end() + 100])}")
        if match := _CONTROL.search(said):
            wrong.append(f"prints the control character {match[0]!r}: ...{shown(said[max(0, match.start() - 200) :])}")
        if max(map(len, said.splitlines()), default=0) > _LONGEST_LINE:
            wrong.append("prints a line without end")
    if outcome.status in (1, 2) and not outcome.hung and not _names(out + err, file):
        wrong.append("names neither file nor key")
    return [*wrong, f"last said: {shown((err or out)[-600:])}"] if wrong else []


def _names(said: str, file: str) -> bool:
    """Whether it names the damaged file, one of its folder, a clip's key, or a setting."""
    path = Path(file)
    named = {path.name, path.stem, path.parent.name, "main/", "pretrain/", "errors.jsonl"}
    named |= {"--", "data.", "train.", "eval."}
    return any(name in said for name in named)


def shown(said: str) -> str:
    """What was said, on one line."""
    return ascii(said.strip())[1:-1].replace("\\n", " | ")
