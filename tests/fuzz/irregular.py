"""What may stand in a file's place and is no file to read: FIFOs, links, devices, folders, sparse giants."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path


def _socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # its name has room for 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(before)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


IRREGULAR: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": _socket,
    "a sparse file of a terabyte": _sparse,
    "a link to /dev/zero": _link("/dev/zero"),
    "a link to /dev/tty": _link("/dev/tty"),
    "a link to a text elsewhere": _link("/etc/passwd"),
    "a link to nothing": _link("nothing"),
    "a link to a folder": _link("/"),
    "nothing": lambda path: None,
}


def put(kind: str, path: Path) -> None:
    """Put it in the place of a file."""
    path.unlink()
    IRREGULAR[kind](path)


def link_to_itself(path: Path) -> None:
    """A link that leads in a circle."""
    path.symlink_to(path.name)


IRREGULAR["a link to itself"] = link_to_itself
