"""A page (`python -m eval serve`) in a process of its own, and a visitor of it without a browser."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.processes import wait_for

STARTED = re.compile(r"page: http://([^:/]+):(\d+)/(?:\?token=([\w-]+))?")


@dataclass(frozen=True)
class Server:
    """A page that is served.

    Attributes:
        process: of the server.
        port: on this machine.
        token: that is asked for.
        temporary: in which it has its folder.
    """

    process: subprocess.Popen[str]
    port: int
    token: str | None
    temporary: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def folder(self) -> Path:
        (found,) = self.temporary.glob("lip-to-speech-page-*")
        return found

    def files(self) -> list[str]:
        """All that visitors have left in its folder."""
        own = [path for path in self.folder.iterdir() if not path.name.startswith("worker-")]
        return sorted(path.name for folder in own for path in folder.glob("**/*") if path.is_file())

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, http.client.HTTPResponse]:
        """Status, content (of JSON its value) and the rest of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        content: Any = answer.read()
        if answer.headers.get_content_type() == "application/json":
            content = json.loads(content)
        connection.close()
        return answer.status, content, answer


class Visitor:
    """A visitor of a page, whose news are read as long as the block goes on."""

    def __init__(self, server: Server) -> None:
        self.server = server
        status, content, _ = server.ask("POST", "/visits")
        assert status == 200, content
        self.visit = content["visit"]
        self._news = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self._news.request("GET", f"/visits/{self.visit}/news")
        self._stream = self._news.getresponse()

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self._news.close()

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The content of an answer; of one that refuses, its sentence."""
        _, content, _ = self.server.ask(method, f"/visits/{self.visit}/{path}", body)
        return content["error"] if isinstance(content, dict) and "error" in content else content

    def send(self, file: Path, purpose: str = "video", name: str | None = None) -> Any:
        return self.ask("PUT", f"files/{purpose}?name={quote(name or file.name)}", file.read_bytes())

    def start(self, **asked: Any) -> Any:
        return self.ask("POST", "job", json.dumps({"voice": "own", **asked}).encode())

    def news(self) -> Iterator[dict[str, Any] | None]:
        """The states of the job, as they come."""
        while line := self._stream.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:]).get("job")

    def until(self, *states: str) -> dict[str, Any]:
        """The job, once it is in one of these states."""
        return next(job for job in self.news() if job is not None and job["state"] in states)

    def speak(self, video: Path, **asked: Any) -> dict[str, Any]:
        """The job of a video, once it is over."""
        self.send(video)
        started = self.start(**asked)
        return next(
            job for job in self.news() if job and job["id"] == started["job"] and job["state"] in ("done", "failed")
        )


@contextmanager
def page_server(checkpoint: Path, temporary: Path, *arguments: str, threads: int | None = 1) -> Iterator[Server]:
    """A page of a checkpoint on a free port, with a temporary folder of its own; `threads` None: one a core."""
    temporary.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "eval", "serve", "--checkpoint", str(checkpoint), "--port", "0", *arguments]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )
    try:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            found = STARTED.search(line)
            if found:
                break
        else:
            raise AssertionError("".join(said))
        yield Server(process, int(found[2]), found[3], temporary)
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
    wait_for(lambda: not list(temporary.glob("lip-to-speech-page-*")), "the page's folder to go")
