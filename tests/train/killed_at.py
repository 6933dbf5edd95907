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

when, _, only_rank = sys.argv[1].partition("@")
rank = os.environ.get("RANK", "0")
marker = Path(sys.argv[2] + rank)
take = OptimizerStep.take


def killed(step: OptimizerStep, state: Any, *arguments: Any) -> StepResult:
    if only_rank in ("", rank) and state.step == int(when) and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return take(step, state, *arguments)


OptimizerStep.take = killed  # type: ignore[assignment,method-assign]
exit_process(main(sys.argv[3:]))
