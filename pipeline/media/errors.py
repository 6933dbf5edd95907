"""The error of one clip, with its stage and reason; and which errors are the fault of a file's bytes."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import av

from runtime.limits import MAX_NAME_LENGTH
from shards.format.sidecar import Reason, Stage

FAULTS = (
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    RecursionError,
    MemoryError,
    struct.error,
)
"""What PyAV and NumPy raise when they stumble over the bytes of a file, beside `av.FFmpegError`."""


class ClipError(Exception):
    """What is wrong with one clip.

    Attributes:
        stage, reason: as in the dataset's list of skipped clips.
        detail: what was found and what was expected.
    """

    def __init__(self, stage: Stage, reason: Reason, detail: str) -> None:
        super().__init__(f"{stage}: {reason}: {detail}")
        self.stage = stage
        self.reason = reason
        self.detail = detail


@contextmanager
def faults_of_file() -> Iterator[None]:
    """Turn whatever a decoder stumbles over into a `ClipError`: it is the fault of the bytes.

    Errors of the disk stay what they are, although PyAV's are partly `OSError`s too.
    """
    try:
        yield
    except (av.FFmpegError, *FAULTS) as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            detail = "it asks for more memory, or more streams, than a file may take"
            raise ClipError("decode", "too_large", detail) from error
        if isinstance(error, av.FFmpegError):
            detail = f"{type(error).__name__}: {error.strerror}"
        else:
            detail = f"{type(error).__name__}: {error}"
        raise ClipError("decode", "video_unreadable", detail[:MAX_NAME_LENGTH]) from error
