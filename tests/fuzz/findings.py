"""Findings: cases whose outcome may not be, kept in a folder so that each can be run again.

.fuzz/0001/case.json    form, command, damage and what is wrong
.fuzz/0001/content      the damaged file
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fuzz.cases import Damage

FOLDER = Path(".fuzz")
_KEPT_OF_A_KIND = 3


class Findings:
    """Keeps cases in a folder, a few of each kind."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder, self.kinds = folder, Counter[str]()

    def add(self, form: str, command: str, damage: Damage, wrong: list[str]) -> Path | None:
        """Keep a case; its folder, None: there are enough of its kind."""
        kind = f"{form}, {command}: {re.sub(r'[0-9]+', '#', re.sub(r': .*', '', wrong[0], flags=re.DOTALL))}"
        self.kinds[kind] += 1
        if self.kinds[kind] > _KEPT_OF_A_KIND:
            return None
        number = 1 + max((int(path.name) for path in self._folder.glob("[0-9]*")), default=0)
        folder = self._folder / f"{number:04}"
        folder.mkdir(parents=True)
        case: dict[str, Any] = {"form": form, "command": command, "what": damage.what, "wrong": wrong}
        case |= {"irregular": damage.irregular, "sealed": damage.sealed}
        if damage.content is not None:
            (folder / "content").write_bytes(damage.content)
        (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
        return folder


def read_case(folder: Path) -> tuple[str, str, Damage]:
    """Form, command and damage of a case that was kept."""
    case = json.loads((folder / "case.json").read_text())
    path = folder / "content"
    content = path.read_bytes() if path.exists() else None
    return case["form"], case["command"], Damage(case["what"], content, case["irregular"], case["sealed"])
