"""A page to try a checkpoint on: `python -m eval serve --checkpoint runs/x/best.pt`

Open the address that is printed: drop a video of a face, record one with the camera, or hold a key and mouth words; the
network's speech is played in step with the picture. Nothing is loaded from a network, kept, or sent anywhere. With
--host the page can be reached from other machines, by whoever has the token that is printed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from eval.metrics.optional import import_extra
from eval.serve.folder import PageFolder, page_folder
from eval.serve.settings import ServeSettings
from eval.serve.voices import voices_dataset, write_voices
from runtime.command_line import CommandParser, settings_of
from runtime.signals import sigterm_raised
from runtime.terminal import say

_CONNECTIONS = 200
"""At once; each visitor has a stream of news and some requests."""


def run(arguments: Sequence[str]) -> int:
    """A page to try a checkpoint on. `OSError` where a file cannot be read or the port is taken, `ValueError` for
    whatever else is wrong with what was given."""
    parser = CommandParser("python -m eval serve", __doc__)
    parser.add_settings(ServeSettings)
    settings = settings_of(parser.parse(arguments), ServeSettings)
    for package in ("starlette", "uvicorn"):
        import_extra(package, "web")
    with sigterm_raised(), _listening(settings) as listening, page_folder() as folder, suppress(KeyboardInterrupt):
        asyncio.run(serve(settings, folder, listening))
    return 0


async def serve(settings: ServeSettings, folder: PageFolder, listening: socket.socket) -> None:
    """Serve the page until the process is told to end (errors as `run`)."""
    import uvicorn

    from eval.serve.app import Requests
    from eval.serve.guard import Guard
    from eval.serve.job_queue import JobQueue
    from eval.serve.page import render_page
    from eval.serve.visits import Visits
    from eval.serve.worker_process import WorkerProcess

    dataset = voices_dataset(settings.shards, Path(settings.checkpoint))
    voices: dict[str, str] = {}
    if dataset is not None:
        try:
            voices = write_voices(dataset, settings.voices, folder.path)
        except ValueError as error:
            if settings.shards is not None:
                raise
            say(f"no voices of the dataset that the network learned from: {error}")
    say(f"loading {settings.checkpoint} ...")
    worker = await WorkerProcess.start(settings, folder)
    page = render_page(
        checkpoint=Path(settings.checkpoint),
        device=worker.about.get("device"),
        voices=voices,
        dataset="" if dataset is None else dataset.store.url,
        settings=settings,
    )
    queue = JobQueue(settings, folder, Visits(folder.path, settings.max_waiting), worker)
    token = None if settings.is_local else secrets.token_urlsafe(24)
    app = Guard(Requests(settings, queue, page, voices, folder.path).app(), settings.host, token)

    class Server(uvicorn.Server):
        """Ends what would outlast it: pages that are still open wait for news, files may still be coming in."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            queue.visits.close()
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # a request cut off now is no error
            await super().shutdown(sockets)

    server = Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            http="h11",
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
    )
    say(f"page: {_address(listening, settings.host)}{'' if token is None else f'?token={token}'}  (Ctrl-C ends it)")
    sys.stdout.flush()
    await server.serve(sockets=[listening])


def _listening(settings: ServeSettings) -> socket.socket:
    """The socket, before anything is loaded (OSError: the port is taken, or the address is none of this machine's)."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"--host {settings.host} --port {settings.port}: {reason}: choose another port or host"
        ) from error


def _address(listening: socket.socket, host: str) -> str:
    port = listening.getsockname()[1]
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
