"""List a corpus: which files lie below its root and how large they are, without opening any of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import fsspec

from shards import StorageError, Store


def list_files(store: Store) -> dict[str, int]:
    """Every file below `store`, path below it -> size in bytes; hidden files and folders are passed over.

    Raises:
        ValueError: there is no such folder, or one in it may not be read: naming it, since a folder passed over in
            silence would be missing from the dataset.
        StorageError: the disk or network failed.
    """
    if not store.exists():
        raise ValueError(f"{store.url}: no such folder")
    if store.is_local:
        return dict(_walk_local(store.path()))
    filesystem, root = fsspec.core.url_to_fs(store.url)
    try:
        found = filesystem.find(root, detail=True)
    except PermissionError as error:
        raise ValueError(f"{store.url}: may not be listed: {error}") from error
    except Exception as error:  # object-store clients raise classes of their own
        raise StorageError(0, f"listing failed: {type(error).__name__}: {error}", store.url) from error
    prefix = root.rstrip("/") + "/"
    files = {str(path).removeprefix(prefix): int(info["size"] or 0) for path, info in found.items()}
    return {path: size for path, size in files.items() if not any(part.startswith(".") for part in path.split("/"))}


def _walk_local(root: str) -> Iterator[tuple[str, int]]:
    def refuse(error: OSError) -> None:
        raise ValueError(
            f"{error.filename}: cannot be listed: {error.strerror}: give it read permission or move it away"
        )

    if not os.path.isdir(root):
        raise ValueError(f"{root}: not a folder")
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        here = os.path.join(os.path.realpath(folder), "")
        subfolders[:] = [
            name
            for name in sorted(subfolders)
            # a link to a folder that we are in would lead round in circles
            if not name.startswith(".") and not here.startswith(os.path.join(os.path.realpath(f"{folder}/{name}"), ""))
        ]
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.startswith("."):
                continue
            try:
                size = os.stat(path).st_size
                name.encode()
            except (FileNotFoundError, NotADirectoryError):  # a link to nowhere
                continue
            except UnicodeEncodeError as error:
                raise ValueError(f"{path!r}: its name is not UTF-8: rename it") from error
            yield os.path.relpath(path, root).replace(os.sep, "/"), size
