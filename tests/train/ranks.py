"""Training processes for tests, one a rank, forked from a server that has imported torch already.

To import it and what training needs of it takes seconds of CPU time, far more than the steps of a test. The server
has done nothing but that: what it forks begins as `python -m train` does. Tests of torchrun start it as it is.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from train.__main__ import main
from train.distributed import exit_process

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload([__name__, "torch._dynamo", "torch.utils.tensorboard"])  # the second with the optimizer
_SECONDS = 300


class Ranks:
    """The processes of one run, which find each other as those of torchrun do, by environment variables."""

    def __init__(self, arguments: list[str], count: int = 1, prepare: Callable[[], None] | None = None) -> None:
        """Start them.

        Args:
            arguments: of `python -m train`.
            count: ranks; 1 is a process without torchrun's environment variables.
            prepare: called in each before it trains; importable from there.
        """
        shared = (
            {} if count == 1 else {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        )
        self.processes: list[BaseProcess] = []
        self._printed = [tempfile.NamedTemporaryFile() for _ in range(count)]  # noqa: SIM115
        for rank, printed in enumerate(self._printed):
            environment = {**os.environ, **({} if count == 1 else {**shared, "RANK": str(rank)})}
            process = _FORKED.Process(target=_train, args=(arguments, environment, prepare, Path(printed.name)))
            process.start()
            self.processes.append(process)

    def signal(self, number: int) -> None:
        """Send a signal to each rank."""
        for process in self.processes:
            assert process.pid is not None
            os.kill(process.pid, number)

    def finish(self, status: int | None = 0) -> list[str]:
        """Wait for the ranks; what each printed. Their exit status must be the given one (None: any but 0)."""
        found = []
        for process, printed in zip(self.processes, self._printed, strict=True):
            process.join(_SECONDS)
            found.append(printed.read().decode())
            printed.close()
        for process in self.processes:
            process.kill()  # one that still runs: then its exit status is none
        for process, said in zip(self.processes, found, strict=True):
            code = process.exitcode
            assert (code not in (0, None)) if status is None else (code == status), f"status {code}: {said[-3000:]}"
        return found


def free_port() -> str:
    """A port of this machine that no process listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def _train(
    arguments: list[str], environment: Mapping[str, str], prepare: Callable[[], None] | None, printed: Path
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with printed.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    multiprocessing.set_start_method(None, force=True)  # of loader workers: the platform's own
    torch.set_num_threads(1)  # as many processes as a machine of two cores can run at once
    if prepare is not None:
        prepare()
    exit_process(main(arguments))
