"""Plan the next epoch while this one trains, in a process: a thread would take the interpreter from the training loop.

plans = PlanAhead()
planned = plans.take(arguments)          # of this epoch: planned here, unless it was begun before
plans.begin(arguments_of_the_next)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from runtime.signals import exit_with_parent, outlive_sigterm
from shards.loading.batch_plan import BatchSettings, plan_epoch
from shards.loading.draws import Draw
from shards.loading.index_view import ClipIndex
from shards.loading.planned_batches import PlannedBatches

FEWEST_CLIPS = 100_000
"""Of an index, that are worth a process: fewer are planned in a second."""

_LEAST_PRIORITY = 10
_PATIENCE_SECONDS = 600.0


class EpochArguments(NamedTuple):
    """What `plan_epoch` is called with."""

    clip_index: ClipIndex
    splits: tuple[str, ...]
    seed: int
    epoch: int
    draw: Draw
    settings: BatchSettings
    reference_frames: int


class _Begun(NamedTuple):
    arguments: EpochArguments
    process: BaseProcess
    connection: Connection


class PlanAhead:
    """Begins plans and gives them out.

    Args:
        start_method: of its process; None: the platform's own.
    """

    def __init__(self, start_method: str | None = None) -> None:
        self._start_method = start_method
        self._begun: _Begun | None = None

    def begin(self, arguments: EpochArguments) -> None:
        """Plan an epoch in the background, where that takes long; a plan that was begun before is given up."""
        self.close()
        if len(arguments.clip_index) < FEWEST_CLIPS:
            return
        context: Any = multiprocessing.get_context(self._start_method)
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_plan, args=(theirs, arguments), name="epoch plan", daemon=True)
        with suppress(OSError):  # no process, no memory: it is planned when it is needed
            process.start()
            self._begun = _Begun(arguments, process, ours)
        theirs.close()

    def take(self, arguments: EpochArguments) -> PlannedBatches:
        """The plan of an epoch: the one that was begun, if its process gives it, else made here (errors as
        `plan_epoch`)."""
        begun, found = self._begun, None
        if begun is not None and begun.arguments == arguments:
            wait([begun.connection, begun.process.sentinel], _PATIENCE_SECONDS)
            with suppress(EOFError, OSError):
                if begun.connection.poll():
                    found = begun.connection.recv()
        self.close()
        return plan_epoch(*arguments) if found is None else PlannedBatches(arguments.clip_index, *found)

    def close(self) -> None:
        """Give up what was begun."""
        if self._begun is not None:
            self._begun.process.kill()
            self._begun.process.join()
            self._begun.connection.close()
            self._begun = None


def _plan(connection: Connection, arguments: EpochArguments) -> None:
    """What the process does: plan, and send all but the index."""
    outlive_sigterm()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent's to answer
    exit_with_parent(os.getppid())
    os.nice(_LEAST_PRIORITY)
    with suppress(Exception):  # the same error is raised where the plan is taken
        _, *parts = plan_epoch(*arguments).parts()
        connection.send(parts)
