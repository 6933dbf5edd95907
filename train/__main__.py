"""`python -m train --config configs/demo.yaml`, or `torchrun ... -m train --config ...`: shards -> checkpoints.

Settings are the `train` section of the settings file; what its part `tasks` has for the task that is trained
(`--task vsr`) goes over the rest, and flags over both (`--schedule.steps 500`). `--resume auto` goes on from the
newest checkpoint of the run, or begins it. A run that was told to stop (SIGTERM) saves itself and ends with status 75.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from jsonargparse import ArgumentParser

from model.mel import MelSettings
from model.tokenizer import Tokenizer
from runtime.command_line import as_setting, read_yaml
from shards import Dataset, open_dataset
from train.distributed import Device, Ranks, joined, leave
from train.init import check_features, fresh_network, load_asr, load_tokenizer
from train.logger import Logger
from train.resume import asr_checkpoint_of, go_on, identity_of, to_go_on_from
from train.run_dir import RunDir
from train.settings import TrainSettings
from train.state import Run, TrainingError
from train.tasks.registry import TASKS
from train.trainer import EXIT_STOPPED, train

EXIT_USER, EXIT_FAILED = 2, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status: 0 done, 1 training failed, 2 unusable input, 75 told to stop."""
    try:
        settings, resume, device = parse(list(sys.argv[1:] if arguments is None else arguments))
        with joined(device) as ranks:
            return _train(settings, resume, ranks)
    except TrainingError as error:
        if error.__cause__ is not None:  # from deep inside
            traceback.print_exception(error.__cause__)
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER
    except Exception:  # this process has to leave as after any other error
        traceback.print_exc()
        return EXIT_FAILED


def parse(arguments: list[str]) -> tuple[TrainSettings, str | None, Device | None]:
    """Settings, what to resume from, and the device that a command line asks for.

    Raises:
        ValueError: the settings file is not readable, or has no `train` section.
    """
    parser = ArgumentParser(prog="python -m train", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="settings file; its section `train` is read")
    parser.add_argument("--resume", type=str | None, default=None, help="auto, or a checkpoint of this run")
    parser.add_argument("--device", type=Device | None, default=None, help="default: cuda if there is one")
    parser.add_class_arguments(TrainSettings, as_group=False)
    named = [as_setting(argument) for argument in arguments]
    values = parser.instantiate(parser.parse_args(_with_section(named, _recipe_of(named))))
    settings = TrainSettings(**{field.name: getattr(values, field.name) for field in dataclasses.fields(TrainSettings)})
    return settings, values.resume, values.device


def _recipe_of(arguments: list[str]) -> str | None:
    """The task that a command line names, if it does, before anything else of it is understood."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--task")
    task: str | None = finder.parse_known_args(arguments)[0].task
    return task


def _with_section(arguments: list[str], task: str | None) -> list[str]:
    """The arguments, settings files first and as their `train` section: whatever stands beside goes over them."""
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
    section = dict(content["train"])
    special = section.pop("tasks", None) or {}
    if not isinstance(special, dict) or not all(isinstance(part or {}, dict) for part in special.values()):
        raise ValueError(f"{path}: train.tasks: a mapping of tasks to settings was expected")
    unknown = set(special) - set(TASKS)
    if unknown:
        raise ValueError(f"{path}: train.tasks: no task {', '.join(sorted(unknown))}: there is {', '.join(TASKS)}")
    if task is not None:
        section["task"] = task
    return json.dumps(_merged(section, special.get(section.get("task", TrainSettings.task)) or {}))


def _merged(below: Any, above: Any) -> Any:
    """Mappings laid over each other, key by key."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {name: _merged(below[name], value) if name in below else value for name, value in above.items()}


def _train(settings: TrainSettings, resume: str | None, ranks: Ranks) -> int:
    if settings.micro_batches_per_step % ranks.world:
        raise ValueError(
            f"micro_batches_per_step: {settings.micro_batches_per_step} cannot be dealt to {ranks.world} ranks evenly"
        )
    dataset = open_dataset(settings.shards)
    settings = dataclasses.replace(settings, splits=settings.splits or dataset.training_splits())
    tokenizer = load_tokenizer(dataset, settings)
    mel = check_features(dataset, settings)
    if settings.sync_batch_norm and ranks.device.type == "cpu":
        raise ValueError("sync_batch_norm: PyTorch has it on GPUs only")
    folder = RunDir(settings.out)
    with ExitStack() as until_the_end:
        ranks.first_does(lambda: until_the_end.enter_context(folder.held()))
        return _train_in(folder, settings, dataset, tokenizer, mel, resume, ranks)


def _train_in(
    folder: RunDir,
    settings: TrainSettings,
    dataset: Dataset,
    tokenizer: Tokenizer,
    mel: MelSettings,
    resume: str | None,
    ranks: Ranks,
) -> int:
    # the first rank's choice: files may come and go between one rank's look and another's
    chosen = ranks.first_does(lambda: to_go_on_from(folder, resume))
    say = print if ranks.first else _quiet
    own = ranks.first_does(lambda: asr_checkpoint_of(folder, settings, chosen is None, say))
    listening = dataclasses.replace(settings, init_asr=own)
    identity = identity_of(listening, dataset, tokenizer)
    fresh = settings if chosen is None else dataclasses.replace(settings, init=None, init_vsr=None)
    task = TASKS[settings.task]
    network = fresh_network(fresh, task, tokenizer, say)
    recogniser = load_asr(listening, ranks.device)
    run = Run(settings, dataset, tokenizer, mel, task, network, recogniser, ranks, folder, identity)
    if chosen is not None:
        go_on(run, chosen, say)
    else:
        aside = ranks.first_does(folder.set_aside)
        if aside is not None:
            say(f"{folder.path}: no checkpoint to go on from: the run begins; what was there is in {aside}")
    if settings.task == "lip2speech" and settings.losses.content and recogniser is None:
        say("the output content loss stays off: no recogniser is named (--init-asr)")
    described = {"ranks": ranks.world, "device": str(ranks.device), "identity": identity}
    ranks.first_does(lambda: folder.describe(dataclasses.asdict(settings), **described))
    book = Logger(folder, run.place.step, run.place.validated, settings.schedule.steps, quiet=not ranks.first)
    try:
        finished = train(run, book)
    finally:
        book.close()
    if not finished:
        say(f"told to stop at step {run.place.step}: saved; start it again with --resume auto")
        return EXIT_STOPPED
    say(f"step {run.place.step}: done; {folder.path / 'checkpoints'}")
    return 0


def _quiet(line: str) -> None:
    pass


if __name__ == "__main__":
    leave(main())
