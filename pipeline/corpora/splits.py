"""Read split lists, and find those that `--split NAME=FILE` names."""

from __future__ import annotations

import posixpath

from pipeline.config import parse_split
from shards import Store


def named_lists(entries: list[str], splits: Store) -> dict[str, tuple[Store, str]]:
    """Where the lists of `NAME=FILE` entries lie: a FILE without a folder in `splits`, another one as given.

    Returns:
        NAME -> the store and the name of the file in it.

    Raises:
        ValueError: a file is not there, or a NAME is given twice.
    """
    lists: dict[str, tuple[Store, str]] = {}
    for entry in entries:
        split, file = parse_split(entry)
        if split in lists:
            raise ValueError(f"split: {split!r} is given twice: by {lists[split][1]} and by {file}")
        folder, name = posixpath.split(file)
        store = Store(folder) if folder else splits
        if not store.exists(name):
            raise ValueError(f"{store.path(name)}: no such split list (--split NAME=FILE)")
        lists[split] = (store, name)
    return lists


def read_list(store: Store, name: str) -> list[str]:
    """The lines of a split list that are not empty."""
    content = store.read(name).decode("utf-8-sig", errors="replace")
    return [line.strip() for line in content.splitlines() if line.strip()]
