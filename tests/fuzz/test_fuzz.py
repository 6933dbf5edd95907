"""Damaged files of every stored form: each command that reads them ends as it may (`make fuzz` tries many more)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from zlib import crc32

import pytest

from tests.fuzz.cases import Bench, Damage
from tests.fuzz.exploration import PAIRS, explore
from tests.fuzz.forms import FORMS
from tests.fuzz.server import CommandServer, Outcome
from tests.fuzz.verdict import MAX_PEAK_MB, wrong_with


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with CommandServer() as server:
        yield Bench(tmp_path_factory.mktemp("fuzz"), server)


def _check(bench: Bench, form: str, command: str, cases: int) -> None:
    found: list[str] = []

    def on_case(form: str, command: str, damage: Damage, outcome: Outcome, wrong: list[str]) -> None:
        found.extend(f"{damage.what}: {each}" for each in wrong)

    explore(bench, form, command, cases, crc32(f"{form} {command}".encode()), on_case, lambda: False)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("form", FORMS)
def test_damaged_file_ends_its_first_command_as_it_may(bench: Bench, form: str) -> None:
    _check(bench, form, FORMS[form].commands[0], cases=1)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "command"), PAIRS)
def test_damaged_file_ends_each_command_as_it_may(bench: Bench, form: str, command: str) -> None:
    _check(bench, form, command, cases=2)


GOOD = Outcome(2, False, 0.1, 100, b"", b"error: data/manifest.json: no JSON\n")


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, None),
        ({"status": 0, "err": b""}, None),
        ({"status": 1, "err": b"Traceback (most recent call last):\n  manifest.json"}, "Traceback"),
        ({"err": b"error: manifest.json: 'NoneType' object\n"}, "NoneType"),
        ({"err": b"error: no\n"}, "names neither"),
        ({"err": b"error: manifest.json \x1b[2J\n"}, "control character"),
        ({"out": b"manifest.json" * 1000}, "without end"),
        ({"status": -11}, "status -11"),
        ({"status": -9, "hung": True}, "hangs"),
        ({"peak_mb": MAX_PEAK_MB + 1}, "MB"),
    ],
)
def test_verdict_finds_what_may_not_be(changed: dict[str, object], found: str | None) -> None:
    wrong = wrong_with(replace(GOOD, **changed), "data/manifest.json")  # type: ignore[arg-type]
    assert (found in "".join(wrong)) if found else wrong == []
