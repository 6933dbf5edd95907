"""Run FFmpeg's own tool on a stranger's file: with limits on its time, its memory, and on what it says."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any

from imageio_ffmpeg import get_ffmpeg_exe

from runtime.limits import MAX_FRAME_PIXELS, MAX_STREAMS, MAX_TOOL_BYTES, MAX_TOOL_OUTPUT

INPUT_OPTIONS = {"protocol_whitelist": "file", "max_streams": MAX_STREAMS, "max_pixels": MAX_FRAME_PIXELS}
"""Of whatever is opened: the tool also reads playlists and URLs, and follows them."""


class FFmpegToolError(Exception):
    """The tool failed. `said`: what it wrote to standard error; `timed_out`: whether it was stopped."""

    def __init__(self, said: str, timed_out: bool = False) -> None:
        super().__init__(said)
        self.said = said
        self.timed_out = timed_out


def run_ffmpeg(job: Any, seconds: float, content: bytes = b"", overwrite: bool = False) -> str:
    """Run a job of ffmpeg-python.

    Args:
        job: its output.
        seconds: after which it is stopped.
        content: what it reads from standard input.
        overwrite: whether a file that is there is written over.

    Returns:
        The beginning of what it wrote to standard error.

    Raises:
        FFmpegToolError: it failed, crashed, or took too long.
        OSError: the tool is not installed.
    """
    try:
        command = job.compile(cmd=get_ffmpeg_exe(), overwrite_output=overwrite)
    except RuntimeError as error:
        raise FileNotFoundError(f"FFmpeg's tool is not installed: {error}") from error
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None, "a pipe"
        assert process.stderr is not None, "a pipe"
        _limit_memory(process.pid)
        said: list[bytes] = []
        reader = threading.Thread(target=_read_beginning, args=(process.stderr, said), daemon=True)
        writer = threading.Thread(target=_write, args=(process.stdin, content), daemon=True)
        reader.start()
        writer.start()
        timed_out = False
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            process.kill()  # where it has ended already, nothing happens
            process.wait()
            reader.join()
            writer.join()
    text = b"".join(said).decode("utf-8", "replace")
    if timed_out:
        raise FFmpegToolError(text, timed_out=True)
    if process.returncode < 0:
        raise FFmpegToolError(f"{text}\nit was ended by signal {-process.returncode}".strip())
    if process.returncode:
        raise FFmpegToolError(text)
    return text


def _limit_memory(pid: int) -> None:
    if sys.platform == "linux":
        import resource

        with suppress(ProcessLookupError, PermissionError, ValueError):  # it has ended, or is limited more strictly
            resource.prlimit(pid, resource.RLIMIT_DATA, (MAX_TOOL_BYTES, MAX_TOOL_BYTES))


def _read_beginning(file: IO[bytes], said: list[bytes]) -> None:
    """Read to the end, so that the tool is not held up, and keep the beginning."""
    left = MAX_TOOL_OUTPUT
    while block := file.read(1 << 16):
        said.append(block[:left])
        left -= len(said[-1])


def _write(file: IO[bytes], content: bytes) -> None:
    with suppress(OSError), file:  # where it has ended, its exit status says how
        file.write(content)
