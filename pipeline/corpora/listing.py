"""List a corpus: which files lie below its root and how large they are, without opening any of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import fsspec

from pipeline.media.source_store import SourceStore
from runtime.regular_file import IrregularFileError, check_regular
from shards import StorageError
from shards.format.sidecar import Reason

_MOST_VISITS = 8
"""Of a folder, by links to it: some name it under several names, and links among links make millions of them."""


class Refused(NamedTuple):
    """Why a file of a corpus, or all of a folder, is not to be read; `detail` says what was found."""

    reason: Reason
    detail: str
    is_folder: bool = False


_OUTSIDE = "a link that leads out of the corpus and of the folders that were named"


class Listing(dict[str, int]):
    """Path of every file below a root -> its bytes (0 of those that are not to be read).

    Attributes:
        refused: path -> why it is not to be read: of files, and of folders whose files are not listed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, Refused] = {}

    def refused_above(self, path: str) -> Refused | None:
        """Why a path is not to be read: by itself, or because of a folder that it lies in."""
        parts = path.split("/") if self.refused else []
        above = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        return next((self.refused[folder] for folder in above if folder in self.refused), None)

    def notices(self, url: str) -> list[str]:
        """What was refused, in words."""
        if not self.refused:
            return []
        path, first = next(iter(self.refused.items()))
        hint = " (--follow-links follows links)" if first.reason == "outside_corpus" else ""
        return [f"{url}: {len(self.refused)} files or folders are not read; the first is {path}: {first.detail}{hint}"]


def list_files(store: SourceStore) -> Listing:
    """Every file below `store`; hidden files and folders are passed over.

    Raises:
        ValueError: there is no such folder, or one in it may not be read: naming it, since a folder passed over in
            silence would be missing from the dataset.
        StorageError: the disk or network failed.
    """
    if not store.exists():
        raise ValueError(f"{store.url}: no such folder")
    listing = Listing()
    if store.is_local:
        for path, found in _walk_local(store):
            if isinstance(found, Refused):
                listing.refused[path] = found
            listing[path] = found if isinstance(found, int) else 0
        return listing
    filesystem, root = fsspec.core.url_to_fs(store.url)
    try:
        found_there = filesystem.find(root, detail=True)
    except PermissionError as error:
        raise ValueError(f"{store.url}: may not be listed: {error}") from error
    except Exception as error:  # object-store clients raise classes of their own
        raise StorageError(0, f"listing failed: {type(error).__name__}: {error}", store.url) from error
    prefix = root.rstrip("/") + "/"
    for full, info in found_there.items():
        path = str(full).removeprefix(prefix)
        if not any(part.startswith(".") for part in path.split("/")):
            listing[path] = int(info["size"] or 0)
    return listing


def _walk_local(store: SourceStore) -> Iterator[tuple[str, int | Refused]]:
    """Files in the order of `os.walk` with names sorted: path below the root, and bytes or why it is refused."""
    root = store.path()
    if not os.path.isdir(root):
        raise ValueError(f"{root}: not a folder")
    visits: Counter[str] = Counter()
    waiting: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]  # and the real paths above it
    while waiting:
        folder, above = waiting.pop()
        subfolders: list[tuple[str, tuple[str, ...]]] = []
        for entry in _entries(os.path.join(root, folder)):
            path = f"{folder}/{entry.name}" if folder else entry.name
            found: int | Refused
            try:
                link, is_folder = entry.is_symlink(), entry.is_dir()
                if link:
                    os.stat(entry.path)  # raises where it leads nowhere, or in a circle
                outside = link and not store.is_inside(entry.path)
                if is_folder and not outside:
                    real = os.path.realpath(entry.path) if link else os.path.join(above[-1], entry.name)
                    visits[real] += link
                    # a link to a folder that we are in would lead round in circles
                    if real not in above and visits[real] <= _MOST_VISITS:
                        subfolders.append((path, (*above, real)))
                    continue
                found = Refused("outside_corpus", _OUTSIDE, is_folder) if outside else _size(entry.path)
            except (FileNotFoundError, NotADirectoryError):  # a link to nowhere
                continue
            except OSError as error:
                found = Refused("not_regular", f"it cannot be looked at: {error.strerror}")
            yield path, found
        waiting += reversed(subfolders)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden, by name."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(
            f"{error.filename}: cannot be listed: {error.strerror}: give it read permission or move it away"
        ) from error
    for entry in entries:
        try:
            entry.name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{entry.path!r}: its name is not UTF-8: rename it") from error
    return entries


def _size(path: str) -> int | Refused:
    found = os.stat(path)
    try:
        check_regular(path, found)
    except IrregularFileError as error:
        return Refused("not_regular", str(error).removeprefix(f"{path}: "))
    return found.st_size
