"""Write checkpoints in a thread: training waits while tensors are copied, and not for the disk."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, replace
from types import TracebackType
from typing import Any

from torch import Tensor

from model.checkpoint import Checkpoint

log = logging.getLogger(__name__)

_MOST_WAITING = 2
"""The best checkpoint and one to resume from. Each is a copy in memory of weights, average and optimizer state."""


class CheckpointWriter:
    """Writes copies of checkpoints one after the other, until the end of a `with` block.

    What fails raises at the next `submit` or `wait`; at the end of a block that another error ended, it is logged.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoint-writer")
        self._waiting: deque[Future[object]] = deque()

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.wait()
        except (OSError, ValueError) as failed:
            if error is None:
                raise
            log.error("a checkpoint was not written: %s", failed)
        finally:
            self._thread.shutdown()

    def submit(self, checkpoint: Checkpoint, write: Callable[[Checkpoint], object]) -> None:
        """Copy a checkpoint now, and have it written soon.

        Raises:
            OSError: one submitted before could not be written.
        """
        while len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(write, copied(checkpoint)))

    def wait(self) -> None:
        """Wait until all are written (errors as `submit`)."""
        while self._waiting:
            self._waiting.popleft().result()


def copied(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint that training does not change any more, with tensors of its own on the CPU."""
    return replace(checkpoint, **{each.name: _copied(getattr(checkpoint, each.name)) for each in fields(checkpoint)})


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {name: _copied(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value))
    return value
