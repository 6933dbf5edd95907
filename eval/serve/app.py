"""The page's requests: the page itself, a visitor's files and jobs, and the stream of news that he is told by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from eval.serve.face_job import SPEECH
from eval.serve.job_queue import JobQueue
from eval.serve.page import Page
from eval.serve.settings import ServeSettings
from eval.serve.uploads import receive_file
from eval.serve.visits import Job, RefusedError, Visit, Visits
from runtime.limits import MAX_LIVE_BYTES

_RESULTS = {
    SPEECH: "video/mp4",
    "speech.wav": "audio/wav",
    "original.wav": "audio/wav",
    "mel.png": "image/png",
    **{f"lips-{number}.jpg": "image/jpeg" for number in range(100)},
}
_MAX_JSON_BYTES = 10_000
_SECONDS_BETWEEN_SIGNS = 10.0
"""After which a stream without news says that it is still there."""

Handler = Callable[["Requests", Request, Visit], Awaitable[Response]]


class Requests:
    """Answers to requests.

    Args:
        settings: what visitors may ask for.
        queue: of their jobs.
        page: that they see.
        voices: speakers of the dataset by the name of their file, which lies in `folder`.
        folder: of the server.
    """

    def __init__(
        self, settings: ServeSettings, queue: JobQueue, page: Page, voices: dict[str, str], folder: Path
    ) -> None:
        self._settings, self._queue, self._page = settings, queue, page
        self._voices, self._folder = voices, folder

    @property
    def _visits(self) -> Visits:
        return self._queue.visits

    def app(self) -> Starlette:
        """All routes; the queue is worked off while it runs."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            work = asyncio.create_task(self._queue.run())
            try:
                yield
            finally:
                work.cancel()
                await asyncio.wait({work})

        visit = "/visits/{visit}"
        routes = [
            Route("/", self._show_page),
            Route("/assets/{name}", self._asset),
            Route("/visits", self._enter, methods=["POST"]),
            Route(f"{visit}/news", self._of_visitor(Requests._news)),
            Route(f"{visit}/files/{{purpose}}", self._of_visitor(Requests._upload), methods=["PUT"]),
            Route(f"{visit}/job", self._of_visitor(Requests._start), methods=["POST"]),
            Route(f"{visit}/job", self._of_visitor(Requests._stop), methods=["DELETE"]),
            Route(f"{visit}/pictures", self._of_visitor(Requests._pictures), methods=["POST"]),
            Route(f"{visit}/leave", self._of_visitor(Requests._leave), methods=["POST"]),
            Route(f"{visit}/results/{{job}}/{{name}}", self._of_visitor(Requests._result)),
        ]
        return Starlette(routes=routes, lifespan=lifespan)

    def _of_visitor(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """A handler of requests of a visitor, who is told why one is refused."""

        async def handle(request: Request) -> Response:
            try:
                return await handler(self, request, self._visits.of(request.path_params["visit"]))
            except RefusedError as error:
                return JSONResponse({"error": str(error)}, error.status)
            except ClientDisconnect:
                return Response(status_code=400)
            except OSError as error:
                return JSONResponse({"error": f"the server's disk: {error.strerror or error}"}, 507)

        return handle

    async def _show_page(self, _: Request) -> Response:
        return Response(self._page.html, media_type="text/html")

    async def _asset(self, request: Request) -> Response:
        found = self._page.assets.get(request.path_params["name"])
        if found is None:
            return Response(status_code=404)
        return Response(found.content, media_type=found.kind)

    async def _enter(self, _: Request) -> Response:
        try:
            return JSONResponse({"visit": self._visits.enter().id})
        except RefusedError as error:
            return JSONResponse({"error": str(error)}, error.status)

    async def _news(self, request: Request, visit: Visit) -> Response:
        async def stream() -> AsyncIterator[str]:
            visit.streams += 1
            try:
                version = -1
                while self._visits.is_here(visit):
                    if self._visits.closed:  # without a last word: the page says that the server does not answer
                        return
                    yield f"data: {json.dumps(self._state(visit))}\n\n"
                    version = await visit.news_after(version, _SECONDS_BETWEEN_SIGNS)
                yield 'data: {"ended": true}\n\n'
            finally:
                visit.streams -= 1

        return StreamingResponse(stream(), media_type="text/event-stream")

    def _state(self, visit: Visit) -> dict[str, Any]:
        job = visit.job
        if job is None:
            return {"job": None}
        state = {"id": job.id, "state": job.state, "live": job.live, **job.shown}
        if job.state == "waiting":
            state["before"] = self._visits.place(job)
        return {"job": state}

    async def _upload(self, request: Request, visit: Visit) -> Response:
        purpose = request.path_params["purpose"]
        if purpose not in ("video", "voice"):
            raise RefusedError("a video or a voice was expected", 404)
        name = request.query_params.get("name", "")
        file = await receive_file(request, visit, purpose, name, self._settings.max_mb << 20)
        if not self._visits.is_here(visit):
            visit.forget(purpose)
        return JSONResponse({"name": file.name})

    async def _start(self, request: Request, visit: Visit) -> Response:
        given = await _json(request)
        live = given.get("live") is True
        voice = self._voice(visit, given.get("voice"))
        if live and voice is None:
            raise RefusedError("live: pictures alone have no sound: choose a voice")
        if not live and "video" not in visit.files:
            raise RefusedError("no video was sent")
        name = "" if live else visit.files["video"].name
        job = Job(visit, visit.folder, name, voice)
        job.folder = visit.folder / job.id
        self._visits.submit(job)
        job.folder.mkdir()
        if not live:
            uploaded = visit.files["video"]
            uploaded.rename(job.folder / name)
            visit.forget("video")
        return JSONResponse({"job": job.id})

    def _voice(self, visit: Visit, voice: Any) -> Path | None:
        if voice in (None, "own"):
            return None
        if voice == "file":
            if "voice" not in visit.files:
                raise RefusedError("no file with a voice was sent")
            return visit.files["voice"]
        if isinstance(voice, str) and voice in self._voices:
            return self._folder / voice
        raise RefusedError("there is no such voice")

    async def _stop(self, _: Request, visit: Visit) -> Response:
        self._visits.drop(visit)
        return JSONResponse({})

    async def _pictures(self, request: Request, visit: Visit) -> Response:
        job = visit.job
        content = bytearray()
        async for block in request.stream():
            content += block
            if job is None or len(content) + job.picture_bytes > MAX_LIVE_BYTES:
                raise RefusedError("live: more pictures than are taken", 413)
        if job is None or not job.live or not job.open:
            raise RefusedError("live: nobody listens", 409)
        job.picture_bytes += len(content)
        job.pictures.put_nowait((bytes(content), "end" in request.query_params))
        return JSONResponse({})

    async def _leave(self, _: Request, visit: Visit) -> Response:
        self._visits.leave(visit)
        return JSONResponse({})

    async def _result(self, request: Request, visit: Visit) -> Response:
        job, name = visit.job, request.path_params["name"]
        if job is None or job.id != request.path_params["job"] or name not in _RESULTS:
            return Response(status_code=404)
        path = job.folder / name
        if not path.is_file():
            return Response(status_code=404)
        return FileResponse(path, media_type=_RESULTS[name])


async def _json(request: Request) -> dict[str, Any]:
    """The object in a request (RefusedError: there is none)."""
    content = bytearray()
    async for block in request.stream():
        content += block
        if len(content) > _MAX_JSON_BYTES:
            raise RefusedError("a request that is too large", 413)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RefusedError("a request that is none")
    return found
