"""Start the page's worker, a process of its own, and talk to it; see eval/serve/worker.py for what it does."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from eval.serve.folder import PageFolder
from eval.serve.settings import ServeSettings
from eval.serve.wire import Message, WireError, encoded, receive
from runtime.signals import exit_in_words

_START_SECONDS = 300.0
_PROGRAM = (
    "import json, sys; given = json.loads(sys.argv[1]); sys.path[:] = given.pop('path'); "
    "from eval.serve.worker import serve; serve(**given)"
)


class WorkerProcess:
    """A worker that has loaded its checkpoint.

    Attributes:
        about: what it runs on.
        owner: the visitor whose files it has read; None: nobody's yet. Another visitor's go to another worker.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        folder: PageFolder,
        temporary: Path,
    ) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._folder, self._temporary = folder, temporary
        self.about: Message = {}
        self.owner: str | None = None

    @classmethod
    async def start(cls, settings: ServeSettings, folder: PageFolder) -> WorkerProcess:
        """Start one, and wait until it is ready.

        Raises:
            ValueError: the checkpoint cannot be used, the message is the worker's; or it ended while it started.
        """
        temporary = Path(tempfile.mkdtemp(prefix="worker-", dir=folder.path))
        ours, its = socket.socketpair()
        with its:
            given = {
                "path": sys.path,
                "descriptor": its.fileno(),
                "parent": os.getpid(),
                "checkpoint": settings.checkpoint,
                "vocoder": settings.vocoder,
                "device": settings.device,
            }
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _PROGRAM,
                json.dumps(given),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                env={**os.environ, "TMPDIR": str(temporary)},
                start_new_session=True,
            )
        folder.started(process.pid)
        worker = cls(process, *await asyncio.open_connection(sock=ours), folder, temporary)
        try:
            async with asyncio.timeout(_START_SECONDS):
                first = await worker.receive()
        except (WireError, TimeoutError) as error:
            await worker.close()
            raise ValueError(f"{settings.checkpoint}: the process that loads it ended: {worker._ending()}") from error
        except BaseException:
            await worker.close()
            raise
        if "failed" in first:
            await worker.close()
            raise ValueError(str(first["failed"]))
        worker.about = first.get("ready", {})
        return worker

    async def send(self, message: Message, beside: bytes = b"") -> None:
        """Send a message (WireError: it has ended)."""
        try:
            self._writer.write(encoded(message, beside))
            await self._writer.drain()
        except OSError as error:
            raise WireError(str(error)) from error

    async def receive(self) -> Message:
        """Its next message (WireError: it has ended)."""
        return await receive(self._reader)

    async def close(self) -> None:
        """Kill it, and whatever it has started."""
        with suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._folder.ended(self._process.pid)
        shutil.rmtree(self._temporary, ignore_errors=True)  # what a job was writing
        self._writer.close()

    async def ended_as(self) -> str:
        """How it ended by itself, in words."""
        await self._process.wait()
        return self._ending()

    def _ending(self) -> str:
        return exit_in_words(self._process.returncode or 0)
