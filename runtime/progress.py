"""Show the progress of a job on standard error: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 5.0


class JobProgress:
    """Counts of a running job, shown while its block runs; `update` after each change and now and then while waiting.

    Attributes:
        total: clips to do.
        clips, seconds, failures: done so far: clips, seconds of video, clips skipped.
        reused: how many of these, skipped or not, were done already before the job: they say nothing about speed.
        built_seconds: seconds of video that the job has built itself.
    """

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total = label, total
        self.clips = self.failures = self.reused = 0
        self.seconds = self.built_seconds = 0.0
        self._began = self._printed = time.monotonic()
        self._last_line = ""
        self._console = Console(file=sys.stderr, markup=False, emoji=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[line]}"),
            TextColumn("to go"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._began = self._printed = time.monotonic()
        self._task = self._bar.add_task(self.label, total=self.total, line=self._line())
        self._bar.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        if error is None:
            self.update()
            if self._bar.disable and self._done and self._last_line != self._line():
                self._print_line()
        self._bar.stop()

    def add(self, clips: int, seconds: float, failures: int, reused: bool = False) -> None:
        """Count what was just done; `reused`: it was built before the job."""
        self.clips += clips
        self.seconds += seconds
        self.failures += failures
        if reused:
            self.reused += clips + failures
        else:
            self.built_seconds += seconds

    def update(self) -> None:
        self._bar.update(self._task, total=self.total, completed=self._done, line=self._line())
        if self._bar.disable and time.monotonic() - self._printed >= _LINE_SECONDS:
            self._print_line()

    @property
    def speed(self) -> float:
        """Seconds of video built a second of time."""
        return self.built_seconds / max(time.monotonic() - self._began, 1e-9)

    @property
    def _done(self) -> int:
        return self.clips + self.failures

    def _line(self) -> str:
        video = f", {self.seconds / 3600:.2f} h of video, {self.speed:.0f} video-s/s" if self.seconds else ""
        skipped = f", {self.failures} skipped" if self.failures else ""
        return f"{self._done}/{self.total} clips{video}{skipped}"

    def _remaining(self) -> str:
        """Time left at the speed so far, h:mm:ss."""
        built = self._done - self.reused
        if built <= 0 and self._done < self.total:
            return "?"
        left = (time.monotonic() - self._began) / max(built, 1) * (self.total - self._done)
        return str(timedelta(seconds=round(left)))

    def _print_line(self) -> None:
        self._printed, self._last_line = time.monotonic(), self._line()
        self._console.print(
            f"{self.label}: {self._last_line}, {self._remaining()} to go", highlight=False, soft_wrap=True
        )
