"""The two ways in which a dataset can fail its reader: what is stored is wrong, or where it is stored is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class DatasetError(ValueError):
    """Something stored does not keep the contract: the message names the file or key, what was found and expected."""


class StorageError(OSError):
    """The place where a dataset lies could not be read or written (disk, network, quota): worth another try."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@contextmanager
def unreadable(what: str, *kinds: type[Exception]) -> Iterator[None]:
    """What parsing raises over damaged content (`kinds`), as a `DatasetError` that begins with `what`."""
    try:
        yield
    except DatasetError:
        raise
    except kinds as error:
        raise DatasetError(f"{what}: {error}") from error
