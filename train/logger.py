"""Logging of a run: messages to stderr, a progress bar, throughput and losses as JSON lines and for TensorBoard.

Messages go through the standard `logging` module: warnings of every rank, information of rank 0.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from runtime.constants import SAMPLE_RATE
from runtime.images import stack_mels
from runtime.terminal import say
from shards.loading.collate import Batch
from train.distributed import DistributedContext
from train.optim import ScheduleSettings
from train.run_dir import RunDir, append_lines
from train.state import TrainState
from train.step import StepResult
from train.validation_metrics import Example, Transcript

log = logging.getLogger(__name__)


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # not a StreamHandler: while a progress bar is drawn, sys.stderr is replaced by one that prints above it
        say(self.format(record), sys.stderr)


@contextmanager
def log_to_stderr(is_rank0: bool) -> Iterator[None]:
    """Messages of this room go to stderr until the block ends."""
    logger, handler = logging.getLogger("train"), _StderrHandler()
    logger.setLevel(logging.INFO if is_rank0 else logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class Logger:
    """Logs the metrics of a run. Only rank 0's writes anything.

    Args:
        run_dir, schedule: of the run.
        state: that it begins or resumes with.
        enabled: whether this is rank 0.

    Raises:
        OSError, ValueError: here and wherever something is logged: it cannot be written; names the file.
    """

    def __init__(self, run_dir: RunDir, state: TrainState, schedule: ScheduleSettings, enabled: bool) -> None:
        self._enabled, self._schedule = enabled, schedule
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._run_dir = run_dir
        self._excepthook, threading.excepthook = threading.excepthook, self._thread_failed
        with self._board_named():
            self._board: Any = SummaryWriter(str(run_dir.tensorboard), purge_step=state.step + 1)
        columns = TextColumn("{task.fields[position]}"), BarColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, TextColumn("{task.description}"), console=Console(stderr=True))
        self._bar = self._progress.add_task("", total=1.0, position="")
        self.update(state)
        self._progress.start()

    def update(self, state: TrainState) -> None:
        """Move the progress bar."""
        if self._enabled:
            self._position = self._position_of(state)
            done = self._schedule.share_done(state.step, state.seconds)
            self._progress.update(self._bar, completed=done, position=self._position)

    def log_metrics(self, kind: str, step: int, **values: float) -> None:
        """Write a line of log.jsonl, and a point of each curve."""
        if not self._enabled:
            return
        append_lines(self._run_dir.log, [{"kind": kind, "step": step, **values}])
        with self._board_named():
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)
            self._board.flush()  # what its thread could not write it says here
        if kind == "train":
            shown = [name for name in ("l1", "ctc", "content", "frames_a_second") if name in values]
            line = "  ".join(f"{name} {values[name]:.3g}" for name in shown)
            self._progress.update(self._bar, description=line)
            if not self._progress.console.is_terminal:  # where a bar is not drawn before its end
                log.info("%s  %s", self._position, line)

    def _position_of(self, state: TrainState) -> str:
        if self._schedule.minutes is None:
            return f"step {state.step}/{self._schedule.steps}"
        return f"step {state.step}, {state.seconds / 60:.1f}/{self._schedule.minutes:.3g} min"

    def log_examples(
        self, step: int, examples: Sequence[Example], transcripts: Sequence[Transcript], first: bool
    ) -> None:
        """Show clips in TensorBoard, and what was recognized of them; `first`: what does not change is shown too."""
        if not self._enabled:
            return
        with self._board_named():
            for example in examples:
                self._board.add_image(f"{example.key}/synthesized above ground truth", stack_mels(example.mels), step)
                for name, waveform in example.waveforms.items():
                    if first or name == "synthesized":
                        self._board.add_audio(f"{example.key}/{name}", waveform[None], step, SAMPLE_RATE)
            for key, text, hypothesis in transcripts:
                self._board.add_text(key, f"text: {text}\n\nhypothesis: {hypothesis}", step)
            self._board.flush()

    def close(self) -> None:
        """Flush everything to the disk."""
        if self._enabled:
            self._progress.stop()
            try:
                with self._board_named():
                    self._board.close()
            finally:
                threading.excepthook = self._excepthook

    @contextmanager
    def _board_named(self) -> Iterator[None]:
        """An error of the disk that TensorBoard's files are on names their folder."""
        try:
            yield
        except OSError as error:
            if error.filename is None and error.errno is not None:
                raise OSError(error.errno, error.strerror, str(self._run_dir.tensorboard)) from error
            raise

    def _thread_failed(self, failure: Any) -> None:
        """The thread that writes TensorBoard's files keeps its error for the next who writes, and need not print it."""
        if not type(failure.thread).__module__.startswith("tensorboard."):
            self._excepthook(failure)


def mean_losses(sums: dict[str, float], counts: dict[str, float]) -> dict[str, float]:
    """Means over micro-batches by name; of `ctc_skipped`, which counts clips, the sum."""
    measured = {name: total for name, total in sums.items() if counts[name]}
    return {name: total if name == "ctc_skipped" else total / counts[name] for name, total in measured.items()}


class Throughput:
    """What is logged of the steps since the last line of the log."""

    def __init__(self, context: DistributedContext) -> None:
        self._context = context
        self._reset()

    def _reset(self) -> None:
        self._began, self._waited = time.perf_counter(), 0.0
        self._results: list[StepResult] = []

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done in here is no part of the training's time."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    def next_batches(self, batches: Iterator[Batch | None], count: int) -> list[Batch | None]:
        """The next batches of the loader, whose waiting time is counted."""
        began = time.perf_counter()
        share = list(islice(batches, count))
        self._waited += time.perf_counter() - began
        return share

    def add(self, result: StepResult) -> None:
        """Count a step."""
        self._results.append(result)

    def flush(self) -> dict[str, float]:
        """The values of a line of the log, none where no step has updated the weights; sums begin anew.

        Call it on all ranks.
        """
        seconds = time.perf_counter() - self._began
        frames, waited = self._context.all_reduce_sum([sum(step.frames for step in self._results), self._waited])
        updates = [step for step in self._results if step.loss_counts]
        self._reset()
        if not updates:
            return {}
        sums = {name: sum(step.loss_sums[name] for step in updates) for name in updates[0].loss_sums}
        counts = {name: sum(step.loss_counts[name] for step in updates) for name in sums}
        return {
            **mean_losses(sums, counts),
            "gradient_norm": sum(step.gradient_norm for step in updates) / len(updates),
            "frames_a_second": frames / seconds,
            "waiting": waited / seconds / self._context.world_size,
        }
