"""Make what is no regular file, or only claims to be large: sockets and sparse giants."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def a_socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # its name has room for 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(before)


def a_sparse_giant(path: Path) -> None:
    """A terabyte of holes."""
    with path.open("wb") as file:
        file.truncate(1 << 40)
