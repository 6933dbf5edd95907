"""Checkpoints with a value replaced, checksums made to fit: refused in one sentence that names the file, or used."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from model.checkpoint import CheckpointError, build_network, load_checkpoint
from tests.train.runs import task_flags, trainer_of
from train.__main__ import main
from train.checkpointing import Checkpointer

VALUES: list[Any] = [
    *(None, True, 0, -1, 1, 3, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.5, 1e300, float("nan"), float("inf")),
    *("", "x", "é\x1b[2J\0", "x" * 500, b"", b"x" * 100, [], {}, (), [None], {"x": {"y": 1}}, [[[[[[]]]]]]),
    *({0: 1}, (1, 2, 3), torch.zeros(0), torch.zeros(1), torch.zeros(2, 2), torch.full((1,), float("nan"))),
    *(torch.zeros(3, dtype=torch.long), torch.zeros(1, dtype=torch.complex64), torch.zeros(1, dtype=torch.bool)),
]


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values lie in nested dictionaries and lists."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        yield (*where, key)
        yield from places(part, (*where, key))


def mutated(content: dict[str, Any], random: Random) -> tuple[str, dict[str, Any]]:
    """The content of a checkpoint with a value replaced, deleted or added; and what was done."""
    changed = copy.deepcopy(content)
    groups = [key for key, value in content.items() if key not in ("weights",) or random.random() < 0.3]
    group = random.choice(groups)
    inner = list(places({group: content[group]}))
    # of hundreds of alike ones of the optimizer's tensors few are enough
    place = random.choice([p for p in inner if len(p) < 4 or random.random() < 0.1] or inner)
    owner: Any = changed
    above: list[tuple[Any, Any]] = []
    for key in place[:-1]:
        above.append((owner, key))
        owner = owner[key]
    if isinstance(owner, tuple):
        owner = list(owner)
        above[-1][0][above[-1][1]] = owner
    what = random.choice(["replace", "replace", "replace", "delete", "add", "scale"])
    value = random.choice(VALUES)
    if what == "scale" and isinstance(owner[place[-1]], torch.Tensor) and owner[place[-1]].numel():
        x = owner[place[-1]]
        value = random.choice([x.double(), x.half(), x[None], x.flatten()[:-1], -x - 1, x.float() * float("inf")])
    if what == "delete":
        del owner[place[-1]]
    elif what == "add" and isinstance(owner, dict):
        owner[random.choice(["other", "x" * 300, 7])] = value
    else:
        owner[place[-1]] = value
    return f"{what} {'.'.join(map(str, place))} {str(value)[:60]!r}", changed


def test_mutated_checkpoint_is_refused_by_name_or_used(shards: str, tmp_path: Path) -> None:
    arguments = task_flags("asr", shards, tmp_path / "run", steps=2, every=2, ema=0.9, **{"validation.split": "null"})
    assert main(arguments) == 0
    good, path = torch.load(tmp_path / "run/checkpoints/step-00000002.pt"), tmp_path / "x.pt"
    trainer = trainer_of([flag.replace(str(tmp_path / "run"), str(tmp_path / "other")) for flag in arguments])
    refused: list[str] = []
    for seed in range(40):
        what, content = mutated(good, Random(seed))
        torch.save(content, path)
        for use in (trainer.resume, build_network):
            try:
                use(load_checkpoint(path), path)
            except ValueError as error:
                refused.append(str(error))
            except Exception as error:
                raise AssertionError(f"seed {seed}: {what}") from error
    assert len(refused) > 40, "most of what is done to one is noticed"
    assert [message for message in refused if str(path) not in message or len(message) > 3000] == []


def test_resume_auto_goes_back_to_the_newest_whole_one_of_mutated_ones(shards: str, tmp_path: Path) -> None:
    arguments = task_flags("asr", shards, tmp_path / "run", steps=3, every=1, **{"validation.split": "null"})
    assert main(arguments) == 0
    trainer = trainer_of([flag.replace(str(tmp_path / "run"), str(tmp_path / "other")) for flag in arguments])
    checkpointer = Checkpointer(type(trainer.run_dir)(tmp_path / "run"), trainer.settings.checkpoint)
    whole, newer, newest = checkpointer.list()
    good = torch.load(newest)
    torch.save({**good, "training": {**good["training"], "state": None}}, newest)
    torch.save({**good, "training": {**good["training"], "optimizer": torch.zeros(3)}}, newer)
    assert checkpointer.find("auto") == whole
    torch.save({**good, "weights": {}}, whole)
    with pytest.raises(CheckpointError) as caught:
        checkpointer.find("auto")
    assert all(str(path) in str(caught.value) for path in (whole, newer, newest))
