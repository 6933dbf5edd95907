"""Lines for the terminal: control characters of files are escaped, whatever the terminal's encoding."""

from __future__ import annotations

import io
from typing import Any

import pytest

from runtime.command_line import print_error, run_commands
from runtime.terminal import printable, say

HOSTILE = "a\x1b]0;title\x07\x1b[2J\r\x9bb\u202ec\ud800"


def test_printable_escapes_control_characters_and_keeps_text() -> None:
    assert printable(HOSTILE) == "a\\x1b]0;title\\x07\\x1b[2J\\x0d\\x9bb\\u202ec\\ud800".replace("\\x0d", "\\r")
    assert printable("Größe 東京 😀\tx\ny") == "Größe 東京 😀\tx\ny"


def test_say_escapes_what_a_terminals_encoding_lacks() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    say("Größe", file)
    file.flush()
    assert raw.getvalue() == b"Gr\\xf6\\xdfe\n"


def test_print_error_escapes_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(ValueError(HOSTILE))
    assert "\x1b]0" not in capsys.readouterr().err


def test_run_commands_escapes_the_name_of_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    commands: dict[str, Any] = {}
    assert run_commands("pipeline", commands, ["\x1b[2J"]) == 2
    assert "\x1b" not in capsys.readouterr().err
