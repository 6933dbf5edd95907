"""Cache of remote shards: local files in a folder of bounded size that the processes of a machine share.

By hand: fsspec's own caches know neither a bound, nor checksums, nor other processes.

A shard is fetched by whoever needs it first, written under a temporary name, compared with the manifest's checksum and
then renamed: a file under its final name is whole. Its name begins with the checksum, so datasets can share a folder.
When a new shard would not fit, those that were opened longest ago are deleted; a process can still read what it has
opened. A store that fails or does not answer for a while is tried again a few times, then named.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.atomic import PART_SUFFIX
from runtime.regular_file import IrregularFileError, regular_descriptor
from shards.format.errors import DatasetError, StorageError
from shards.format.manifest import Manifest, ShardEntry
from shards.format.store import Store
from shards.loading.download import StoreError, chunks

_POLL_SECONDS = 0.05
_OURS = re.compile(rf"[0-9a-f]{{16}}-[\w-]+\.tar|\.[0-9a-f]{{16}}-[\w-]+\.tar{re.escape(PART_SUFFIX)}")
"""Nothing else in the folder is counted or deleted, should it hold somebody's files."""


@dataclass(frozen=True)
class CacheSettings:
    """Where remote shards are kept, and how patient the reader is.

    Attributes:
        folder: on a local disk; it may be shared by datasets and processes.
        max_bytes: of all shards in it. Less than the shards of two windows of a plan means fetching again and again.
        timeout: seconds that the store may take for each 16 MiB; then an attempt is given up.
        batch_timeout: seconds that a batch is waited for, its shards included, before that is an error.
        attempts: to fetch a shard, before the error is raised.
        pause: seconds before the second attempt; twice as long before each further one.

    Raises:
        ValueError: numbers that make no sense.
    """

    folder: str = "~/.cache/lip-to-speech/shards"
    max_bytes: int = 64 * 10**9
    timeout: float = 60.0
    batch_timeout: float = 1800.0
    attempts: int = 4
    pause: float = 1.0

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.attempts) < 1 or min(self.timeout, self.batch_timeout) <= 0 or self.pause < 0:
            raise ValueError(f"max_bytes, attempts and timeouts must be positive, pause not negative: found {self}")


class ShardCache:
    """A remote dataset's shards as local files. Only values until it is used: it travels to other processes.

    Raises:
        ValueError: a shard is larger than the cache may be.
    """

    def __init__(self, store: Store, manifest: Manifest, settings: CacheSettings) -> None:
        self.settings = settings
        self._store = Store(store.url)  # not opened: connections do not survive a fork
        self._folder = Path(settings.folder).expanduser()
        self._entries = {entry.name: entry for entries in manifest.splits.values() for entry in entries}
        self._damaged: dict[str, str] = {}
        for entry in self._entries.values():
            if entry.bytes > settings.max_bytes:
                raise ValueError(f"max_bytes: {settings.max_bytes} is too small, {entry.name} has {entry.bytes} bytes")

    def open(self, shard: str, how: int = fcntl.LOCK_EX) -> int:
        """A descriptor of a shard, fetched if it is not there; `how` to lock it meanwhile.

        Raises:
            DatasetError: the store has no such shard, or another than the manifest says.
            StorageError: the store failed or stalled every time, or the cache's disk fails.
        """
        name = self._name(shard)
        with _disk_named(self._folder):
            descriptor = self._opened(shard)
            if descriptor is not None:
                return descriptor
            with self._locked(f"{name}.lock", how):
                descriptor = self._opened(shard)  # fetched by another process in the meantime
                return self._fetched(shard) if descriptor is None else descriptor

    def fill(self, shard: str) -> bool:
        """Fetch a shard if it is not there; False if another process is doing that. Raises as `open`."""
        with _disk_named(self._folder), suppress(BlockingIOError):
            if not (self._folder / self._name(shard)).exists():
                os.close(self.open(shard, fcntl.LOCK_EX | fcntl.LOCK_NB))
            return True
        return False

    def bytes(self, shard: str) -> int:
        """The size of a shard, as the manifest has it."""
        return self._entry(shard).bytes

    def _entry(self, shard: str) -> ShardEntry:
        if shard not in self._entries:
            raise DatasetError(f"{self._store.path(shard)}: the index names this shard, the manifest does not")
        return self._entries[shard]

    def _name(self, shard: str) -> str:
        return f"{self._entry(shard).sha256[:16]}-{shard}"

    def _opened(self, shard: str) -> int | None:
        """A descriptor of a shard that is there whole, from now on the one that was used last."""
        try:
            descriptor = regular_descriptor(self._folder / self._name(shard))
        except (FileNotFoundError, IrregularFileError):
            return None
        if os.fstat(descriptor).st_size != self.bytes(shard):  # somebody has changed it: it is fetched again
            os.close(descriptor)
            return None
        _mark_used(descriptor)
        return descriptor

    def _fetched(self, shard: str) -> int:
        """Fetch a shard, whose lock is held. The descriptor is of the very file, should it be deleted at once."""
        if shard in self._damaged:  # asked again for each of its clips
            raise DatasetError(self._damaged[shard])
        entry, name = self._entry(shard), self._name(shard)
        part, final = self._folder / f".{name}{PART_SUFFIX}", self._folder / name
        problem: DatasetError | StoreError | None = None
        for attempt in range(self.settings.attempts):
            if attempt:
                time.sleep(self.settings.pause * 2 ** (attempt - 1))
            descriptor = self._room_for(entry, part)
            try:
                self._download(entry, descriptor)
                os.rename(part, final)
                _mark_used(descriptor)
                return descriptor
            except BaseException as error:
                os.close(descriptor)
                part.unlink(missing_ok=True)
                if not isinstance(error, DatasetError | StoreError):
                    raise
                problem = error
                if isinstance(error.__cause__, FileNotFoundError):
                    break
        assert problem is not None, "there was at least one attempt"
        if isinstance(problem, DatasetError):
            self._damaged[shard] = str(problem)
        raise problem

    def _download(self, entry: ShardEntry, descriptor: int) -> None:
        digest, count, where = hashlib.sha256(), 0, self._store.path(entry.name)
        for chunk in chunks(Store(self._store.url), entry.name, entry.bytes, self.settings.timeout):
            digest.update(chunk)
            os.pwrite(descriptor, chunk, count)
            count += len(chunk)
        if (count, digest.hexdigest()) != (entry.bytes, entry.sha256):
            raise DatasetError(
                f"{where}: expected {entry.bytes} bytes of sha256 {entry.sha256}, found {count} of {digest.hexdigest()}"
            )
        os.fsync(descriptor)

    def _room_for(self, entry: ShardEntry, part: Path) -> int:
        """Delete what was used longest ago until a shard fits, and take its place: an empty file of its size."""
        part.unlink(missing_ok=True)  # of a process that died: the lock is ours
        while True:
            with self._locked("room.lock"):
                kept, used = self._kept()
                for _, size, path in kept:
                    if used + entry.bytes <= self.settings.max_bytes:
                        break
                    path.unlink(missing_ok=True)
                    used -= size
                if used + entry.bytes <= self.settings.max_bytes:
                    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
                    os.ftruncate(descriptor, entry.bytes)
                    return descriptor
            time.sleep(_POLL_SECONDS)  # others are fetching: their shards can be deleted when they are whole

    def _kept(self) -> tuple[list[tuple[int, int, Path]], int]:
        """Whole shards, the one used longest ago first, and the bytes of all shards. What the dead left is deleted."""
        kept, used = [], 0
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                status = path.stat()
                if not _OURS.fullmatch(path.name):
                    continue
                if path.suffix == ".tar":
                    kept.append((status.st_mtime_ns, status.st_size, path))
                    used += status.st_size
                else:
                    try:
                        name = path.name.removeprefix(".").removesuffix(PART_SUFFIX)
                        with self._locked(f"{name}.lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
                            path.unlink()
                    except BlockingIOError:
                        used += status.st_size
        return sorted(kept), used

    @contextmanager
    def _locked(self, name: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Hold a lock that all processes of the machine see; the system frees it when its holder dies."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder / f".{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, how)
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a process forked in the meantime holds a copy of the descriptor
            os.close(lock)


def _mark_used(descriptor: int) -> None:
    """Note when a shard was last opened, finer than the file system does by itself."""
    os.utime(descriptor, ns=(time.time_ns(),) * 2)


@contextmanager
def _disk_named(folder: Path) -> Iterator[None]:
    """Errors of the cache's own disk, which may be full or know no locks (Lustre, NFS): no fault of the store's."""
    try:
        yield
    except (StorageError, BlockingIOError):
        raise
    except OSError as error:
        what = f"the cache cannot be read, written or locked: {error.strerror}: name another folder with cache.folder"
        raise StorageError(error.errno or 0, what, str(folder)) from error
