"""Receive an uploaded file: its bytes go to disk as they come, up to a limit, under a name that can do no harm."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from pathlib import Path

from starlette.requests import ClientDisconnect, Request

from eval.serve.visits import RefusedError, Visit
from runtime.limits import MAX_UPLOAD_SECONDS

_LONGEST_NAME = 80


def plain_name(name: str) -> str:
    """A file's name without folders, and without what a shell, a terminal or FFmpeg might take for something else."""
    last = re.split(r"[/\\]", name)[-1]
    plain = re.sub(r"[^\w .()+-]", "_", last).strip(" .-")
    stem, dot, suffix = plain.rpartition(".")
    return f"{stem[:_LONGEST_NAME]}{dot}{suffix[:10]}" if dot else f"{plain[:_LONGEST_NAME] or 'file'}"


async def receive_file(request: Request, visit: Visit, purpose: str, name: str, most: int) -> Path:
    """Receive the body of a request as a visitor's file, in the place of an earlier one for the same purpose.

    Args:
        request: whose body it is.
        visit: whose file it becomes.
        purpose: `video` or `voice`.
        name: that the visitor's machine has for it.
        most: bytes.

    Raises:
        RefusedError: it is empty or too large, takes too long, or another one is coming in.
    """
    if visit.busy:
        raise RefusedError("another file of yours is still coming in", 409)
    name = plain_name(name)
    if int(request.headers.get("content-length") or 0) > most:
        raise _too_large(name, most)
    visit.busy = True
    visit.forget(purpose)
    folder = visit.folder / f"{purpose}-{secrets.token_hex(6)}"
    try:
        folder.mkdir()
        async with asyncio.timeout(MAX_UPLOAD_SECONDS):
            size = await _write(request, folder / name, name, most)
        if not size:
            raise RefusedError(f"{name}: the file has no bytes")
    except (TimeoutError, ClientDisconnect) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RefusedError(f"{name}: it did not come in within {MAX_UPLOAD_SECONDS} s", 408) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        visit.busy = False
    visit.files[purpose] = folder / name
    return folder / name


async def _write(request: Request, path: Path, name: str, most: int) -> int:
    size = 0
    with path.open("xb") as file:
        async for block in request.stream():
            size += len(block)
            if size > most:
                raise _too_large(name, most)
            file.write(block)
    return size


def _too_large(name: str, most: int) -> RefusedError:
    return RefusedError(f"{name}: larger than {most >> 20:,} MB, which is the most (--max-mb)", 413)
