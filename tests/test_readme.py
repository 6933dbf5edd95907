"""What the README shows runs as it stands there, and METHOD.md has what the code cites."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import get_args

import pytest

import model
from eval.__main__ import main as eval_main
from eval.__main__ import parse as parse_evaluation
from model.__main__ import main as model_main
from pipeline.build import plan_build, run_build
from pipeline.commands import COMMANDS
from pipeline.config import DATASETS, BuildSettings, config_file
from pipeline.corpora.coordinates import VIDEO_EXTENSIONS
from shards.format.sidecar import Reason
from tests.benchmarks.__main__ import main as benchmarks_main
from train.__main__ import parse as parse_training

TORCHRUN = {f"--{name}" for name in ("standalone", "nproc-per-node", "nnodes", "max-restarts", "requeue")}
TORCHRUN |= {f"--rdzv-{name}" for name in ("backend", "endpoint", "id")}
TORCHRUN |= {f"--{name}" for name in ("nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "signal")}

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_its_python_runs(
    small_recipe: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_build(plan_build(small_recipe, lambda line: None), small_recipe, "data/demo-shards", workers=0)
    for number in range(4):  # as many train shards as the demo has
        if not Path(f"data/demo-shards/train-{number:06}.tar").exists():
            shutil.copy("data/demo-shards/train-000000.tar", f"data/demo-shards/train-{number:06}.tar")
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 3
    for block, lines in zip(blocks, (6, 6, 1), strict=True):
        capsys.readouterr()
        exec(compile(block, "README.md", "exec"), {})
        assert len(capsys.readouterr().out.splitlines()) >= lines


def test_its_commands_and_flags_exist(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    commands = re.findall(r"^    pipeline (\w+)(.*)$", README, re.MULTILINE)
    assert {name for name, _ in commands} == set(COMMANDS) - {"demo"}
    known = ""
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            COMMANDS[name](["--help"])
        known += capsys.readouterr().out
    for package, run in (("model", model_main), ("eval", eval_main)):
        for command in re.findall(rf"^    python -m {package} (\w+)", README, re.MULTILINE):
            with pytest.raises(SystemExit):
                run([command, "--help"])
            known += capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--help"])
    for program in (lambda: eval_main(["--help"]), lambda: parse_training(["--help"]), benchmarks_main):
        with pytest.raises(SystemExit):
            program()
        known += capsys.readouterr().out
    known += known.replace("_", "-")  # either is understood
    there = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", known))
    flags = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", README)) - {"--head", "--port", "--logdir"} - TORCHRUN
    assert flags - there == set()
    targets = re.findall(r"\bmake ([a-z]+)", "".join(re.findall(r"^    .*|`[^`]*`", README, re.MULTILINE)))
    assert {name for name in targets if f"\n{name}:" not in (ROOT / "Makefile").read_text()} == set()
    extras = {name for group in re.findall(r"-e '\.\[([\w,]+)\]'", README) for name in group.split(",")}
    assert {name for name in extras if f"\n{name} =" not in (ROOT / "setup.cfg").read_text()} == set()


def test_its_trainings_and_evaluations_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = "\n".join(re.findall(r"^    .*", README, re.MULTILINE)).replace("\\\n", " ").replace("$seed", "0")
    trainings = re.findall(r"^(.*)-m train (--.*)$", blocks, re.MULTILINE)
    assert len(trainings) > 10
    for launcher, line in trainings:
        settings, _, _ = parse_training(shlex.split(line, comments=True))
        ranks = [int(n) for n in re.findall(r"--(?:nnodes|nproc-per-node) (\d+)", launcher)]
        assert settings.micro_batches_per_step % math.prod(ranks) == 0, line
    evaluations = re.findall(r"python -m eval (--checkpoint .*)$", blocks, re.MULTILINE)
    assert evaluations
    for line in evaluations:
        parse_evaluation(shlex.split(line, comments=True))


def test_every_reason_for_leaving_a_clip_out_is_explained() -> None:
    assert {reason for reason in get_args(Reason) if f"`{reason}`" not in README} == set()


def test_every_kind_of_video_that_is_looked_for_is_named() -> None:
    assert {kind for kind in VIDEO_EXTENSIONS if f"`.{kind}`" not in README} == set()


def test_the_method_has_the_headings_that_the_code_cites() -> None:
    listed = (model.__doc__ or "").partition("headings):")[2].partition("Coordinates and")[0]
    cited = {name for names in re.findall(r"^    (\S.*?)  ", listed, re.MULTILINE) for name in names.split(", ")}
    headings = re.findall(r"^(?:## |\*\*)([^*\n]+)", (ROOT / "METHOD.md").read_text(), re.MULTILINE)
    assert len(cited) > 10
    assert {name for name in cited if not any(heading.startswith(name) for heading in headings)} == set()


def test_every_dataset_has_a_recipe() -> None:
    for dataset in DATASETS:
        assert f"dataset: {dataset}" in config_file(dataset).read_text()
