"""Download a file from a store that may fail or stop answering, with a timeout on every chunk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress

from shards.format.errors import DatasetError, StorageError
from shards.format.store import Store

CHUNK = 16 << 20
"""Bytes that are asked for at once."""


class StoreError(StorageError):
    """The store failed in a way that may pass."""


def chunks(store: Store, name: str, size: int, timeout: float) -> Iterator[bytes]:
    """A file's content in chunks, read by a thread of its own: where the store does not answer, the thread waits on.

    Raises:
        DatasetError: there is no such file.
        StoreError: the store failed, or gave nothing for `timeout` seconds.
    """
    pieces: queue.Queue[bytes | Exception] = queue.Queue(maxsize=2)
    given_up = threading.Event()

    def read() -> None:
        done = 0
        while done < size and not given_up.is_set():
            wanted = min(CHUNK, size - done)
            piece: bytes | Exception
            try:
                piece = store.read_range(name, done, wanted)
            except Exception as error:  # whatever it is, it has to come out where somebody looks
                piece = error
            while not given_up.is_set():
                with suppress(queue.Full):
                    pieces.put(piece, timeout=1.0)
                    break
            if isinstance(piece, Exception) or len(piece) < wanted:
                return
            done += wanted

    threading.Thread(target=read, name=f"reading {name}", daemon=True).start()
    where, done = store.path(name), 0
    try:
        while done < size:
            try:
                piece = pieces.get(timeout=timeout)
            except queue.Empty:
                raise StoreError(0, f"no answer from the store for {timeout:g} s", where) from None
            if isinstance(piece, FileNotFoundError):
                raise DatasetError(f"{where}: the shard is missing") from piece
            if isinstance(piece, OSError):
                raise StoreError(piece.errno or 0, piece.strerror or str(piece), where) from piece
            if isinstance(piece, Exception):
                raise piece
            yield piece
            if len(piece) < min(CHUNK, size - done):
                return
            done += len(piece)
    finally:
        given_up.set()
