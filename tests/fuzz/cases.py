"""A case: one stored file damaged in a copy of the scene, a command run there, and what is wrong with what came of it.

A command may write only where it writes. Where it compares checksums, damage that they do not fit may not change its
result in silence; what is built of damaged files must be found whole by `pipeline verify`.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.commands import COMMANDS, Command
from tests.fuzz.forms import FORMS
from tests.fuzz.irregular import NAMES, put
from tests.fuzz.scene import write_scene
from tests.fuzz.server import CommandServer, Outcome
from tests.fuzz.verdict import shown, wrong_with


@dataclass(frozen=True)
class Damage:
    """What is done to a form's file.

    Attributes:
        what: in words.
        content: the file's new bytes; None: something irregular is put in its place.
        irregular: what, of `tests.fuzz.irregular`.
        sealed: whether checksums are made to fit.
    """

    what: str
    content: bytes | None = None
    irregular: str = ""
    sealed: bool = False


class Bench:
    """Runs cases on copies of the scene below a folder.

    Args:
        folder: an empty one, for the scene and one case after the other.
        server: that runs the commands.
    """

    def __init__(self, folder: Path, server: CommandServer) -> None:
        self._server = server
        self.scene, self._cases = folder / "scene" / "whole", folder / "cases"
        self.scene.mkdir(parents=True)
        write_scene(self.scene, server)
        self._whole: dict[str, dict[str, str]] = {}

    def original(self, form: str) -> bytes:
        """The whole content of a form's file."""
        return (self.scene / FORMS[form].file).read_bytes()

    def run(self, form: str, name: str, damage: Damage) -> tuple[Outcome, list[str]]:
        """Damage a form's file in a copy of the scene and run a command there; what is wrong with what came of it."""
        command, case = COMMANDS[name], self._copy(COMMANDS[name])
        path = case / FORMS[form].file
        before = path.read_bytes()
        if damage.content is None:
            put(damage.irregular, path)
        else:
            path.write_bytes(damage.content)
            seal = FORMS[form].seal
            if damage.sealed and seal is not None:
                seal(case / FORMS[form].folder, path)
        changed = damage.content is None or path.read_bytes() != before
        entries = _entries(case)
        outcome = self._server.run(command.program, command.arguments, case)
        wrong = wrong_with(outcome, FORMS[form].file) + _written(case, command, entries)
        if outcome.status == 0 and name in FORMS[form].checked_by and changed and not damage.sealed:
            wrong += self._otherwise(name, case, outcome)
        if outcome.status == 0 and command.then is not None and not damage.sealed and damage.irregular not in NAMES:
            checking = COMMANDS[command.then]
            checked = self._server.run(checking.program, checking.arguments, case)
            if checked.status:
                said = (checked.out + checked.err).decode(errors="replace")[-600:]
                wrong.append(f"then {command.then}: status {checked.status}: {shown(said)}")
        return outcome, wrong

    def _copy(self, command: Command) -> Path:
        shutil.rmtree(self._cases, ignore_errors=True)
        case = self._cases / "case"
        for name in command.reads.split():
            source, target = self.scene / name, case / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            elif source.exists():
                shutil.copy(source, target)
        case.mkdir(exist_ok=True)
        (case / "stray_module.py").write_text("open('ran', 'w').close()\n")
        return case

    def _otherwise(self, name: str, case: Path, outcome: Outcome) -> list[str]:
        """What of a result differs from that of whole files; of a check, that nothing was found."""
        command = COMMANDS[name]
        if name.startswith("verify"):
            return ["status 0, and a checksum is another"]
        found = _result(command, case, outcome)
        if name not in self._whole:
            kept = self._cases.rename(self._cases.with_name("kept"))
            whole = self._copy(command)
            outcome = self._server.run(command.program, command.arguments, whole)
            self._whole[name] = _result(command, whole, outcome)
            shutil.rmtree(self._cases)
            kept.rename(self._cases)
        expected = self._whole[name]
        differ = sorted(each for each in expected if found.get(each) != expected[each])
        return [f"status 0 with another result: {', '.join(differ)[:300]}"] if differ else []


def _result(command: Command, case: Path, outcome: Outcome) -> dict[str, str]:
    """Checksums of the files that a command's result is, or of what it printed."""
    paths = [path for pattern in command.result.split() for path in case.glob(pattern) if path.is_file()]
    found = {str(path.relative_to(case)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return found or {"printed": hashlib.sha256(outcome.out).hexdigest()}


def _entries(case: Path) -> dict[str, tuple[int, ...]]:
    """What lies in a folder and beside it, with what changes when it is written."""
    found: dict[str, tuple[int, ...]] = {}
    for path in case.parent.rglob("*"):
        stat = path.lstat()
        is_file = not path.is_dir() or path.is_symlink()
        found[str(path.relative_to(case.parent))] = (stat.st_ino, stat.st_size, stat.st_mtime_ns) if is_file else ()
    return found


def _written(case: Path, command: Command, before: dict[str, tuple[int, ...]]) -> list[str]:
    """What was written, changed or removed where the command has nothing to write."""
    after = _entries(case)
    allowed = [f"case/{name}" for name in command.writes.split()] + ["out", "err", "home", "temporary"]
    touched = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    strays = [name for name in touched if not any(f"{name}/".startswith(f"{place}/") for place in allowed)]
    wrong = [f"writes {shown(', '.join(strays)[:300])}"] if strays else []
    left = [name for name in touched if name.startswith(("home/", "temporary/"))]
    return [*wrong, *([f"leaves {shown(', '.join(left)[:300])}"] if left else [])]
