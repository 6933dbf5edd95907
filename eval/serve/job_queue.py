"""Work off the queue of the page's jobs, one at a time, with one worker, which is replaced between visitors."""

from __future__ import annotations

import asyncio
import shutil
import sys
import traceback
from contextlib import suppress

from eval.serve.folder import PageFolder
from eval.serve.settings import ServeSettings
from eval.serve.visits import Job, Visits
from eval.serve.wire import Message, WireError
from eval.serve.worker_process import WorkerProcess
from runtime.limits import MAX_LIVE_SILENCE_SECONDS
from runtime.terminal import say

_SHOWN = (
    *("part", "done", "seconds", "listening", "speech", "text", "notes", "frames", "length"),
    *("lips", "squares", "size", "video", "after", "original", "scores"),
)
_SECONDS_BETWEEN_LOOKS = 1.0


class JobQueue:
    """Works off the jobs of visitors.

    Attributes:
        visits: whose jobs wait.
        worker: that is ready; None while another is started.
    """

    def __init__(self, settings: ServeSettings, folder: PageFolder, visits: Visits, worker: WorkerProcess) -> None:
        self._settings, self._folder, self.visits = settings, folder, visits
        self.worker: WorkerProcess | None = worker

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SECONDS_BETWEEN_LOOKS):
                        await self.visits.news.wait()
                self.visits.news.clear()
                self.visits.remove_absent()
                while self.visits.waiting:
                    job = self.visits.waiting.pop(0)
                    try:
                        await self._next(job)
                    except Exception:
                        say(f"{job.video or 'live'}: {traceback.format_exc()}", sys.stderr)
                        job.update("failed", error="this should not have happened: look at the terminal of the server")
                    self.visits.remove_absent()
                if self.worker is None or not self._is_wanted(self.worker):
                    await self._renew()
        finally:
            if self.worker is not None:
                await self.worker.close()

    def _is_wanted(self, worker: WorkerProcess) -> bool:
        return worker.owner is None or any(visit.id == worker.owner for visit in self.visits)

    async def _renew(self) -> None:
        """Another worker, that has read nobody's files."""
        if self.worker is not None:
            await self.worker.close()
        self.worker = None
        try:
            self.worker = await WorkerProcess.start(self._settings, self._folder)
        except (ValueError, OSError) as error:  # it is tried again with the next job
            say(f"the network cannot be loaded: {error}", sys.stderr)

    async def _next(self, job: Job) -> None:
        self.visits.working = job
        job.update("working")
        self.visits.tell_places()
        work = asyncio.create_task(self._work(job))
        cancelled = asyncio.create_task(self._until_unwanted(job))
        try:
            async with asyncio.timeout(self._settings.job_timeout):
                await asyncio.wait({work, cancelled}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            limit = f"{self._settings.job_timeout:g} s"
            job.update("failed", error=f"{job.video or 'live'}: it took more than {limit}, which is the most")
        finally:
            for task in (work, cancelled):
                if not task.done():
                    task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self.visits.working = None
            if job.video:
                (job.folder / job.video).unlink(missing_ok=True)
            if job.open:  # it was not finished: its worker is still at it
                job.update("failed", error="the job was ended")
            if job.state == "failed" and not job.shown.get("answered"):
                await self._renew()
            self._clean_up(job)
            self.visits.tell_places()

    def _clean_up(self, job: Job) -> None:
        """Remove what the worker wrote while its visitor left, or asked for something else."""
        if not self.visits.is_here(job.visit):
            shutil.rmtree(job.visit.folder, ignore_errors=True)
        elif job.visit.job is not job:
            shutil.rmtree(job.folder, ignore_errors=True)

    async def _until_unwanted(self, job: Job) -> None:
        """Until the visitor no longer wants it, or has left."""
        while not job.cancelled.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS_BETWEEN_LOOKS):
                    await job.cancelled.wait()
            self.visits.remove_absent()

    async def _work(self, job: Job) -> None:
        if self.worker is None or self.worker.owner not in (None, job.visit.id):
            job.update(part="starting", done=None)
            await self._renew()
        if self.worker is None:
            job.update("failed", error="the network cannot be loaded: look at the terminal of the server")
            return
        worker = self.worker
        worker.owner = job.visit.id
        request = {
            "folder": str(job.folder),
            "video": job.video,
            "voice": None if job.voice is None else str(job.voice),
            "most": self._settings.max_seconds,
            "live": job.live,
        }
        pictures = None
        try:
            await worker.send({"job": request})
            pictures = asyncio.create_task(self._pass_pictures(job, worker)) if job.live else None
            while job.open:
                self._take(job, await worker.receive())
        except WireError:
            how = await worker.ended_as()
            job.update("failed", error=f"{job.video or 'live'}: the process that worked on it ended: {how}")
        finally:
            if pictures is not None:
                pictures.cancel()
                with suppress(asyncio.CancelledError, WireError):
                    await pictures

    async def _pass_pictures(self, job: Job, worker: WorkerProcess) -> None:
        """Pass pictures on as they come; where none come, the visitor has let go without a word."""
        while True:
            try:
                async with asyncio.timeout(MAX_LIVE_SILENCE_SECONDS):
                    pictures, last = await job.pictures.get()
            except TimeoutError:
                pictures, last = b"", True
            await worker.send({"last": last}, pictures)
            if last:
                return

    def _take(self, job: Job, message: Message) -> None:
        """What a worker says of a job."""
        if "error" in message:
            if "traceback" in message:
                say(f"{job.video or 'live'}: {message['traceback']}", sys.stderr)
            job.update("failed", error=str(message["error"]), answered=True)
        elif "finished" in message:
            job.update("done")
        else:
            job.update(**{name: message[name] for name in _SHOWN if name in message})
