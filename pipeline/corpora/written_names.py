"""Find the files that people mean by the names that they write in lists, and the nearest name where there is none."""

from __future__ import annotations

import difflib
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pipeline.media.text_files import clean_path
from runtime.limits import MAX_PATH_LENGTH
from shards.format.store import absolute_url

_COMPARED_LETTERS = 300
_COMPARED_NAMES = 20_000
"""Of so many names the nearest is looked for: comparing takes a second."""


@dataclass(frozen=True)
class WrittenNames:
    r"""Files below a root, found by what people write for them.

    As written comes first. Then names are compared as `clean_path` writes them (`\`, `./`, composed or decomposed
    accents, the extension's case), and last in any case, if only one file is meant. A path through the root's
    own folder (absolute, or from another working directory or machine) means what follows it. Of another absolute path
    the longest end that is there is meant, if it has a folder in it: the corpus was moved.

    Attributes:
        names: name -> the file it means, a path below the root. One file may have several names.
        root: the folder or URL that they lie below.
    """

    names: Mapping[str, str]
    root: str

    def find(self, written: str, prefix: str = "") -> str | None:
        """The file that is meant, or None.

        Args:
            written: a path, or a name that stands for one.
            prefix: what a path may leave out: a folder below the root that all of a list lie in, and `/`.
        """
        if len(written) > MAX_PATH_LENGTH:
            return None
        exact = self.names.get(prefix + written.removeprefix(prefix))
        if exact is not None:
            return exact
        for form in self._forms(written, moved=not prefix):
            path = prefix + form.removeprefix(prefix)
            found = self._by_clean_name.get(path) or self._by_case.get(path.casefold())
            if found is not None:
                return found
        return None

    def _forms(self, written: str, moved: bool) -> Iterator[str]:
        """What a written path may be below the root, the likeliest first."""
        path = clean_path(written.removeprefix(self.root.rstrip("/") + "/"))
        yield path.lstrip("/")
        parts = path.split("/")
        for position, part in enumerate(parts[:-1]):
            if part.casefold() in self._root_names:
                yield "/".join(parts[position + 1 :])
        if moved and path.startswith("/"):
            for position in range(2, len(parts) - 1):
                yield "/".join(parts[position:])

    def nearest(self, written: str) -> str | None:
        """The name that looks most like a written one, or None where there are no names."""
        names = sorted(set(self.names))
        written = written[:_COMPARED_LETTERS]
        last = posixpath.basename(clean_path(written)).casefold()
        stem = last.rpartition(".")[0] or last
        alike = [name for name in names if stem in posixpath.basename(name).casefold()]
        among = (alike or names)[:_COMPARED_NAMES]
        best = difflib.get_close_matches(clean_path(written), among, n=1, cutoff=0.0)
        return best[0] if best else None

    def quote_missing(self, written: str) -> str:
        """`'ann/7' is not below videos; the nearest name there is 'ann/07'`."""
        nearest = self.nearest(written)
        hint = f"; the nearest name there is {nearest!r}" if nearest is not None else ""
        return f"{written[:200]!r} is not below {self.root}{hint}"

    @cached_property
    def _root_names(self) -> set[str]:
        """The root folder's own name, and that of what it is a link to."""
        roots = {absolute_url(self.root)}
        if "://" not in self.root:
            roots |= {os.path.realpath(root) for root in roots}
        return {posixpath.basename(clean_path(root).rstrip("/")).casefold() for root in roots}

    @cached_property
    def _by_clean_name(self) -> dict[str, str]:
        return _unambiguous({name: clean_path(name) for name in self.names}, self.names)

    @cached_property
    def _by_case(self) -> dict[str, str]:
        return _unambiguous({name: clean_path(name).casefold() for name in self.names}, self.names)


def _unambiguous(compared: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """What names are compared as -> their file, without what would mean several files."""
    files: dict[str, str] = {}
    several: set[str] = set()
    for name, form in compared.items():
        if files.setdefault(form, names[name]) != names[name]:
            several.add(form)
    return {form: file for form, file in files.items() if form not in several}
