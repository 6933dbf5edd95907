"""What may stand in a file's place and is no file to read: FIFOs, links, devices, folders, sparse giants; odd names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.irregular_files import a_socket, a_sparse_giant


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _elsewhere(path: Path) -> Path:
    """A text beside the folder of the case."""
    case = next(folder for folder in path.parents if folder.name == "case")
    text = case.with_name("elsewhere.txt")
    text.write_text("root:x:0:0:root:/root:/bin/sh\n")
    return text


IRREGULAR: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": a_socket,
    "a sparse file of a terabyte": a_sparse_giant,
    "a link to /dev/zero": _link("/dev/zero"),
    "a link to /dev/tty": _link("/dev/tty"),
    "a link to a text elsewhere": lambda path: path.symlink_to(_elsewhere(path)),
    "a link to nothing": _link("nothing"),
    "a link to a folder": _link("/"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: None,
}

NAMES = {
    "renamed with control characters": b"\x1b[2J\r%s",
    "renamed with a line feed": b"a\n%s",
    "renamed with no UTF-8": b"\xff\xfe%s",
    "renamed with blanks and marks": b" --out=[bold]{0} %s",
}
"""What a file may be named."""


def put(kind: str, path: Path) -> None:
    """Put it in the place of a file, or rename the file."""
    if kind in NAMES:
        path.rename(path.with_name(os.fsdecode(NAMES[kind] % os.fsencode(path.name))))
        return
    path.unlink()
    IRREGULAR[kind](path)
