"""`python -m train --config configs/demo.yaml`, or `torchrun ... -m train --config ...`: shards -> checkpoints.

Settings are the `train` section of the config file; what its part `tasks` has for the task that is trained
(`--task vsr`) goes over the rest, and flags over both (`--schedule.steps 500`). `--resume auto` resumes from the
newest checkpoint of the run, or begins it. A run that is signalled to stop (SIGTERM) saves itself and ends with
status 75.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, get_args

from jsonargparse import ArgumentParser

from runtime.command_line import as_setting, read_yaml
from train.build import build_trainer
from train.distributed import Device, DistributedContext, exit_process, process_group
from train.logger import log_to_stderr
from train.run_dir import RunDir
from train.settings import TaskName, TrainSettings
from train.state import TrainingError

EXIT_FAILED, EXIT_USER = 1, 2
EXIT_STOPPED = 75
"""Exit status of a run that was signalled to stop (SIGTERM) and saved itself: start it again to resume."""

log = logging.getLogger("train")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status: 0 done, 1 training failed, 2 unusable input, 75 stopped."""
    try:
        settings, resume, device = parse(list(sys.argv[1:] if arguments is None else arguments))
        with process_group(device) as context, log_to_stderr(context.is_rank0):
            return _train(settings, resume, context)
    except TrainingError as error:
        if error.__cause__ is not None:  # an error in a step: where in the code, too
            traceback.print_exception(error.__cause__)
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER
    except Exception:  # caught, so that the process ends by `exit_process` after any error
        traceback.print_exc()
        return EXIT_FAILED


def _train(settings: TrainSettings, resume: str | None, context: DistributedContext) -> int:
    run_dir = RunDir(settings.out)
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
    parser = ArgumentParser(prog="python -m train", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="config file; its section `train` is read")
    parser.add_argument("--resume", type=str | None, default=None, help="auto, or a checkpoint of this run")
    parser.add_argument("--device", type=Device | None, default=None, help="default: cuda if there is one")
    parser.add_class_arguments(TrainSettings, as_group=False)
    named = [as_setting(argument) for argument in arguments]
    given = _with_section(named, _task_of(named))
    values = parser.instantiate(parser.parse_args(given))
    if "transforms.crop_radius" in parser.parse_args(given, defaults=False):
        raise ValueError("transforms.crop_radius: no setting of training: it is taken from the dataset's manifest")
    settings = TrainSettings(**{field.name: getattr(values, field.name) for field in dataclasses.fields(TrainSettings)})
    return settings, values.resume, values.device


def _task_of(arguments: list[str]) -> str | None:
    """The task that a command line names, if it does, before anything else of it is understood."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--task")
    task: str | None = finder.parse_known_args(arguments)[0].task
    return task


def _with_section(arguments: list[str], task: str | None) -> list[str]:
    """The arguments, config files first and as their `train` section: whatever stands beside goes over them."""
    files, result = [], []
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--config" and equals:
            files.append(f"--config={_section(value, task)}")
        elif number and arguments[number - 1] == "--config":
            files.append(f"--config={_section(argument, task)}")
        elif argument != "--config" or number + 1 == len(arguments):
            result.append(argument)
    return [*files, *result]


def _section(path: str, task: str | None) -> str:
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("train"), dict):
        raise ValueError(f"{path}: has no section `train`")
    section, tasks = dict(content["train"]), get_args(TaskName)
    special = section.pop("tasks", None) or {}
    if not isinstance(special, dict) or not all(isinstance(part or {}, dict) for part in special.values()):
        raise ValueError(f"{path}: train.tasks: a mapping of tasks to settings was expected")
    unknown = set(special) - set(tasks)
    if unknown:
        raise ValueError(f"{path}: train.tasks: no task {', '.join(sorted(unknown))}: there is {', '.join(tasks)}")
    if task is not None:
        section["task"] = task
    return json.dumps(_merged(section, special.get(section.get("task", TrainSettings.task)) or {}))


def _merged(below: Any, above: Any) -> Any:
    """Mappings laid over each other, key by key."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {name: _merged(below[name], value) if name in below else value for name, value in above.items()}


if __name__ == "__main__":
    exit_process(main())
