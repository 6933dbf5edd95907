"""Show the progress of a job: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 5.0


@dataclass
class ProgressReport:
    """Counts of a running job, and their line of text.

    Attributes:
        total: clips to do.
        clips, seconds, failures: done so far: clips, seconds of video, clips skipped.
        reused: how many of these, skipped or not, were done already before the job: they say nothing about speed.
        built_seconds: seconds of video that the job has built itself.
        began: when it began, by `time.monotonic`.
    """

    total: int
    clips: int = 0
    seconds: float = 0.0
    failures: int = 0
    reused: int = 0
    built_seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def add(self, clips: int, seconds: float, failures: int, reused: bool = False) -> None:
        """Count what was just done.

        Args:
            clips, seconds, failures: as the attributes.
            reused: it was built before the job.
        """
        self.clips += clips
        self.seconds += seconds
        self.failures += failures
        if reused:
            self.reused += clips + failures
        else:
            self.built_seconds += seconds

    @property
    def done(self) -> int:
        return self.clips + self.failures

    @property
    def speed(self) -> float:
        """Seconds of video built a second of time."""
        return self.built_seconds / max(time.monotonic() - self.began, 1e-9)

    def remaining(self) -> str:
        """Time left at the speed so far, h:mm:ss."""
        built = self.done - self.reused
        if built <= 0 and self.done < self.total:
            return "?"
        left = (time.monotonic() - self.began) / max(built, 1) * (self.total - self.done)
        return str(timedelta(seconds=round(left)))

    def line(self) -> str:
        video = f", {self.seconds / 3600:.2f} h of video, {self.speed:.0f} video-s/s" if self.seconds else ""
        skipped = f", {self.failures} skipped" if self.failures else ""
        return f"{self.done}/{self.total} clips{video}{skipped}"


@contextmanager
def shown(report: ProgressReport, label: str) -> Iterator[ProgressShown]:
    """Show a report while the block runs, on standard error."""
    console = Console(file=sys.stderr, markup=False, emoji=False)
    report.began = time.monotonic()
    bar = None
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[line]}"),
        )
        bar = Progress(*columns, TextColumn("to go"), TimeRemainingColumn(), console=console)
    display = ProgressShown(report, label, console, bar)
    if bar is None:
        yield display
        if report.done and display.last_line != report.line():
            display.print_line()
        return
    with bar:
        display.task = bar.add_task(label, total=report.total, line=report.line())
        yield display
        display.update()


@dataclass
class ProgressShown:
    """A report on its way to a person; `update` after each change and now and then while waiting."""

    report: ProgressReport
    label: str
    console: Console
    bar: Progress | None
    task: int = 0
    printed: float = field(default_factory=time.monotonic)
    last_line: str = ""

    def update(self) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=self.report.done, line=self.report.line())  # type: ignore[arg-type]
        elif time.monotonic() - self.printed >= _LINE_SECONDS:
            self.print_line()

    def print_line(self) -> None:
        self.printed, self.last_line = time.monotonic(), self.report.line()
        self.console.print(
            f"{self.label}: {self.last_line}, {self.report.remaining()} to go", highlight=False, soft_wrap=True
        )
