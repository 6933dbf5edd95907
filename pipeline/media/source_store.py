"""A folder of a corpus: files are read only where they lie inside of it, or in another folder that the user named.

A link in a stranger's corpus may lead to any file of this machine, whose content would then be in shards that are
passed on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

from runtime.regular_file import IrregularFileError
from shards import Store

_HOW_TO_FOLLOW = "copy what it leads to, name the folder of that, or use --follow-links for links of your own"


class OutsideError(IrregularFileError):
    """A link that leads out of a corpus; the message names it and says what to do."""


@dataclass(frozen=True)
class SourceStore(Store):
    """A folder or URL of a corpus.

    Attributes:
        roots: further folders that links may lead into, as real paths; None: links are followed wherever they lead.
    """

    roots: tuple[str, ...] | None = ()

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "roots": self.roots}

    @cached_property
    def _real_folders(self) -> dict[str, str]:
        return {}

    @cached_property
    def _allowed(self) -> tuple[str, ...]:
        return (os.path.realpath(self.path()), *(self.roots or ()))

    def is_inside(self, path: str) -> bool:
        """Whether a local path, with its links followed, is in one of the folders."""
        if self.roots is None:
            return True
        if os.path.islink(path):
            return self._holds(os.path.realpath(path))
        folder, name = os.path.split(path)
        if name in ("", ".", ".."):
            return self._holds(os.path.realpath(path))
        if folder not in self._real_folders:  # many files lie in each
            self._real_folders[folder] = os.path.realpath(folder)
        return self._holds(os.path.join(self._real_folders[folder], name))

    def _holds(self, real: str) -> bool:
        return any(real == root or real.startswith(os.path.join(root, "")) for root in self._allowed)

    def check(self, name: str) -> None:
        """Refuse a file that lies elsewhere (OutsideError)."""
        path = self.path(name)
        if self.is_local and not self.is_inside(path):
            target = os.path.realpath(path)
            raise OutsideError(f"{path}: a link that leads out of {self.url}, to {target}: {_HOW_TO_FOLLOW}")

    def size(self, name: str) -> int:
        self.check(name)
        return super().size(name)

    def read(self, name: str, max_bytes: int | None = None) -> bytes:
        self.check(name)
        return super().read(name, max_bytes)

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        self.check(name)
        return super().read_range(name, offset, size)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        self.check(name)
        with super().open(name) as file:
            yield file
