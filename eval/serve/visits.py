"""Visitors of the page, each with a folder for his files, and the one queue in which their jobs wait.

A visitor is whoever has the page open: with it an event stream, over which he is told how his job goes. When that has
been closed for a while, his files are removed and his job ends.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from runtime.limits import MAX_IDLE_VISIT_SECONDS, MAX_VISITS

AWAY_SECONDS = 30.0
"""That a visitor's event stream may be closed: a phone that is locked for a moment comes back."""

State = Literal["waiting", "working", "done", "failed"]


class RefusedError(Exception):
    """A request that cannot be served; the message is for the visitor, `status` that of HTTP."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Job:
    """What a visitor asked for, and what has become of it.

    Attributes:
        visit: whose it is.
        folder: of its files.
        video: name of the file in it; empty in live mode.
        voice: file of a voice; None: the video's own sound.
        shown: what is known of it so far, as the page shows it.
        pictures: of live mode, until the worker takes them, and whether they are the last.
    """

    visit: Visit
    folder: Path
    video: str
    voice: Path | None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: State = "waiting"
    shown: dict[str, Any] = field(default_factory=dict)
    pictures: asyncio.Queue[tuple[bytes, bool]] = field(default_factory=asyncio.Queue)
    picture_bytes: int = 0
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def live(self) -> bool:
        return not self.video

    @property
    def open(self) -> bool:
        return self.state in ("waiting", "working")

    def update(self, state: State | None = None, **shown: Any) -> None:
        """Something has become known: the page is told."""
        self.state = state or self.state
        self.shown |= shown
        self.visit.changed()


@dataclass
class Visit:
    """A visitor.

    Attributes:
        folder: of his files.
        files: uploaded ones, by what they are for: `video` or `voice`.
        job: the last one he asked for.
        busy: whether a file of his is coming in.
    """

    folder: Path
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    files: dict[str, Path] = field(default_factory=dict)
    job: Job | None = None
    busy: bool = False
    streams: int = 0
    seen: float = field(default_factory=time.monotonic)
    acted: float = field(default_factory=time.monotonic)
    version: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def changed(self) -> None:
        """Wake up who waits for news."""
        self.version += 1
        task = asyncio.get_running_loop().create_task(self._notify())
        _TASKS.add(task)
        task.add_done_callback(_TASKS.discard)

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def news_after(self, version: int, seconds: float) -> int:
        """The version after this one, or the same after so many seconds."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: self.version != version)
        except TimeoutError:
            pass
        return self.version

    def forget(self, purpose: str) -> None:
        """Remove an uploaded file."""
        file = self.files.pop(purpose, None)
        if file is not None:
            shutil.rmtree(file.parent, ignore_errors=True)


_TASKS: set[asyncio.Task[None]] = set()
"""An event loop does not hold on to its tasks."""


class Visits:
    """All visitors, and the jobs that wait.

    Args:
        folder: in which each gets one of his own.
        max_waiting: jobs.
    """

    def __init__(self, folder: Path, max_waiting: int) -> None:
        self._folder, self._max_waiting = folder, max_waiting
        self._visits: dict[str, Visit] = {}
        self.waiting: list[Job] = []
        self.working: Job | None = None
        self.news = asyncio.Event()
        self.closed = False

    def __iter__(self) -> Iterator[Visit]:
        return iter(list(self._visits.values()))

    def enter(self) -> Visit:
        """A new visitor (RefusedError: there are too many)."""
        if len(self._visits) >= MAX_VISITS:
            raise RefusedError(f"{MAX_VISITS} visitors are here already, which is the most: try again later", 503)
        visit = Visit(self._folder)
        visit.folder = self._folder / visit.id
        visit.folder.mkdir()
        self._visits[visit.id] = visit
        return visit

    def of(self, name: str) -> Visit:
        """The visitor of that name (RefusedError: he has left)."""
        visit = self._visits.get(name)
        if visit is None:
            raise RefusedError("this page was left, and its files are gone: load it again", 410)
        visit.acted = time.monotonic()
        return visit

    def leave(self, visit: Visit) -> None:
        """He has left: his job ends, and his files go."""
        self._visits.pop(visit.id, None)
        if visit.job is not None:
            self.end(visit.job)
        shutil.rmtree(visit.folder, ignore_errors=True)
        visit.changed()

    def is_here(self, visit: Visit) -> bool:
        return visit.id in self._visits

    def close(self) -> None:
        """The server ends: streams of news end, which would otherwise go on for as long as a page is open."""
        self.closed = True
        for visit in self:
            visit.changed()

    def submit(self, job: Job) -> None:
        """Put a job at the end of the queue, in the place of the visitor's last one (RefusedError: it is full)."""
        others = [each for each in self.waiting if each.visit is not job.visit]
        if len(others) >= self._max_waiting:
            raise RefusedError(f"{self._max_waiting} clips wait already, which is the most: try again later", 503)
        self.drop(job.visit)
        job.visit.job = job
        self.waiting.append(job)
        self.news.set()
        self.tell_places()

    def drop(self, visit: Visit) -> None:
        """The visitor's last job is over, and its results go."""
        if visit.job is not None:
            self.end(visit.job)
            shutil.rmtree(visit.job.folder, ignore_errors=True)
            visit.job = None
            visit.changed()

    def end(self, job: Job) -> None:
        """A job is no longer wanted."""
        job.cancelled.set()
        if job in self.waiting:
            self.waiting.remove(job)
            job.state = "failed"
        self.tell_places()

    def place(self, job: Job) -> int:
        """How many jobs are before this one."""
        return (self.waiting.index(job) if job in self.waiting else 0) + (self.working is not None)

    def tell_places(self) -> None:
        """Tell all who wait."""
        for job in self.waiting:
            job.visit.changed()

    def remove_absent(self) -> None:
        """Have those leave who closed the page, or have done nothing on it for long."""
        now = time.monotonic()
        for visit in self:
            if visit.streams:
                visit.seen = now
            idle = not (visit.job and visit.job.open) and now - visit.acted > MAX_IDLE_VISIT_SECONDS
            if idle or now - visit.seen > AWAY_SECONDS:
                self.leave(visit)
