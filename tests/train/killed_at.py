"""`python killed_at.py STEP MARKER ARGUMENTS...`: training whose process kills itself before a step, unless the marker
exists; it leaves the marker first. With `@RANK` after the step only that rank does."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from train.__main__ import main
from train.distributed import exit_process
from train.step import OptimizerStep, StepResult


def kill_before(step: str, marker: str, number: int = signal.SIGKILL) -> None:
    """Have this process killed before it takes a step, or sent another signal."""
    when, _, only_rank = step.partition("@")
    rank = os.environ.get("RANK", "0")
    left = Path(marker + rank)
    take = OptimizerStep.take

    def killed(step: OptimizerStep, state: Any, *arguments: Any) -> StepResult:
        if only_rank in ("", rank) and state.step == int(when) and not left.exists():
            left.touch()
            os.kill(os.getpid(), number)
        return take(step, state, *arguments)

    OptimizerStep.take = killed  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    kill_before(sys.argv[1], sys.argv[2])
    exit_process(main(sys.argv[3:]))
