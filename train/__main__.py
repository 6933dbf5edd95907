"""`python -m train --config configs/demo.yaml`, or `torchrun ... -m train --config ...`: shards -> checkpoints.

Settings are the `train` section of the config file; what its part `tasks` has for the task that is trained
(`--task vsr`) goes over the rest, and flags over both (`--schedule.steps 500`). `--resume auto` resumes from the
newest checkpoint of the run, or begins it. A run that is signalled to stop (SIGTERM) saves itself and ends with
status 75.

    python -m train units --asr runs/asr/best.pt --shards data/x --out runs/asr/units.pt     cluster an ASR's features
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import get_args

import torch

from runtime.command_line import EXIT_FAILED, EXIT_USER, CommandParser, print_error, settings_of
from runtime.threads import sleep_when_busy
from shards.loading.workers import LoaderError
from train import units
from train.build import build_trainer
from train.distributed import Device, DistributedContext, exit_process, is_rank_lost, process_group
from train.logger import log_to_stderr
from train.run_dir import RunDir
from train.settings import TaskName, TrainSettings
from train.state import TrainingError

EXIT_STOPPED = 75
"""Exit status of a run that was signalled to stop (SIGTERM) and saved itself: start it again to resume."""

log = logging.getLogger("train")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status: 0 done, 1 training failed, 2 unusable input, 75 stopped."""
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        if given[:1] == ["units"]:
            return units.run(given[1:])
        settings, resume, device = parse(given)
        timeout = timedelta(seconds=settings.rank_timeout)
        with process_group(device, timeout) as context, log_to_stderr(context.is_rank0):
            return _train(settings, resume, context)
    except TrainingError as error:
        if is_rank_lost(error.__cause__):
            return _rank_lost(error)
        if error.__cause__ is not None:  # an error in a step: where in the code, too
            traceback.print_exception(error.__cause__)
        print_error(error)
        return EXIT_FAILED
    except LoaderError as error:
        print_error(f"{error} (--resume auto resumes)")
        return EXIT_FAILED
    except (ValueError, OSError) as error:
        print_error(error)
        return EXIT_USER
    except Exception as error:  # caught, so that the process ends by `exit_process` after any error
        if is_rank_lost(error):
            return _rank_lost(error)
        traceback.print_exc()
        return EXIT_FAILED


def _rank_lost(error: Exception) -> int:
    print_error(
        "another rank has died, or has not answered for rank_timeout seconds; its own message says why, if it left one "
        f"(--resume auto resumes): {' '.join(str(error).split())[:300]}"
    )
    return EXIT_FAILED


def _train(settings: TrainSettings, resume: str | None, context: DistributedContext) -> int:
    run_dir = RunDir(settings.out)
    if context.device.type == "cpu":
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        sleep_when_busy()
    with ExitStack() as stack:
        context.on_rank0(lambda: stack.enter_context(run_dir.lock()))
        trainer = build_trainer(settings, resume, context)
        finished = trainer.train()
    if not finished:
        log.info("signalled to stop at step %d: saved; start it again with --resume auto", trainer.state.step)
        return EXIT_STOPPED
    log.info("step %d: done; %s", trainer.state.step, run_dir.checkpoints)
    return 0


def parse(arguments: list[str]) -> tuple[TrainSettings, str | None, Device | None]:
    """Settings, what to resume from, and the device that a command line asks for.

    Raises:
        ValueError: the config file is not readable, has no `train` section, or states what the dataset knows.
    """
    parser = CommandParser("python -m train", __doc__, variants=("tasks", "task", get_args(TaskName)))
    parser.add_settings(TrainSettings)
    parser.add_argument("--resume", type=str | None, default=None, help="auto, or a checkpoint of this run")
    parser.add_argument("--device", type=Device | None, default=None, help="default: cuda if there is one")
    values = parser.parse(arguments)
    return settings_of(values, TrainSettings), values.resume, values.device


if __name__ == "__main__":
    exit_process(main())
