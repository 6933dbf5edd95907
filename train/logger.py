"""What a run tells: a progress bar, a JSON line a logged step, and the same scalars for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from runtime.constants import SAMPLE_RATE
from runtime.mel_image import stack_mels
from train.run_dir import RunDir

if TYPE_CHECKING:
    from train.validation import Example


class Logger:
    """Of the first rank; the others' says nothing.

    Args:
        folder: of the run.
        step: that the run goes on from; what was logged past it is dropped.
        validated: the step of its last validation; later ones are dropped.
        steps: of the whole run.
        quiet: whether to say nothing.
    """

    def __init__(self, folder: RunDir, step: int, validated: int, steps: int, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        if quiet:
            return
        from torch.utils.tensorboard import SummaryWriter

        folder.path.mkdir(parents=True, exist_ok=True)
        folder.go_back(step, validated)
        self._log = folder.log.open("a", buffering=1)
        self._board: Any = SummaryWriter(str(folder.tensorboard), purge_step=step + 1)
        columns = TextColumn("step"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn()
        self._progress = Progress(*columns, TextColumn("{task.description}"), console=self._console)
        self._task = self._progress.add_task("", total=steps, completed=step)
        self._progress.start()
        self._steps = steps

    def say(self, line: str) -> None:
        """A line for a person."""
        if not self._quiet:
            self._console.print(line)

    def warn(self, line: str) -> None:
        """A line for a person, whichever rank has it to say."""
        self._console.print(line)

    def moved(self, step: int) -> None:
        """Steps done so far."""
        if not self._quiet:
            self._progress.update(self._task, completed=step)

    def scalars(self, kind: str, step: int, **values: float) -> None:
        """A line of log.jsonl, and a point of each curve."""
        if self._quiet:
            return
        self._log.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)
        if kind == "train":
            shown = [name for name in ("l1", "ctc", "content", "frames_a_second") if name in values]
            line = "  ".join(f"{name} {values[name]:.3g}" for name in shown)
            self._progress.update(self._task, description=line)
            if not self._console.is_terminal:  # where a bar is not drawn before its end
                self.say(f"step {step}/{self._steps}  {line}")

    def examples(
        self, step: int, examples: Sequence[Example], read: Sequence[tuple[str, str, str]], first: bool
    ) -> None:
        """Clips to look at and listen to, and what was read of them; `first`: what does not change is shown too."""
        if self._quiet:
            return
        for example in examples:
            self._board.add_image(f"{example.key}/generated above true", stack_mels(example.mels), step)
            for name, sound in example.sounds.items():
                if first or name == "generated":
                    self._board.add_audio(f"{example.key}/{name}", sound[None], step, SAMPLE_RATE)
        for key, said, heard in read:
            self._board.add_text(key, f"said: {said}\n\nread: {heard}", step)

    def close(self) -> None:
        """Everything that was said is on the disk."""
        if not self._quiet:
            self._progress.stop()
            try:
                self._log.close()
            finally:
                self._board.close()
