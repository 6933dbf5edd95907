"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from eval.__main__ import main as eval_main
from model.__main__ import main as model_main
from pipeline.build import plan_build, run_build
from pipeline.commands import COMMANDS
from pipeline.datasets.coordinates import VIDEO_EXTENSIONS
from pipeline.recipe import DATASETS, Recipe, recipe_file
from train.__main__ import parse as parse_training

TORCHRUN = {f"--{name}" for name in ("standalone", "nproc-per-node", "nnodes", "max-restarts", "requeue")}
TORCHRUN |= {f"--rdzv-{name}" for name in ("backend", "endpoint", "id")}
TORCHRUN |= {f"--{name}" for name in ("nodes", "ntasks-per-node", "gpus-per-node", "signal")}

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_its_python_runs(
    small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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


def test_its_commands_and_flags_exist(capsys: pytest.CaptureFixture[str]) -> None:
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
    with pytest.raises(SystemExit):
        parse_training(["--help"])
    known += capsys.readouterr().out
    flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", README)) - {"--head", "--port", "--runs", "--logdir"} - TORCHRUN
    known += known.replace("_", "-")  # either is understood
    assert {flag for flag in flags if flag.replace("--print_config", "--print-config") not in known} == set()


def test_every_reason_for_leaving_a_clip_out_is_explained() -> None:
    root = Path(__file__).resolve().parents[1] / "pipeline"
    code = "\n".join(path.read_text() for path in root.rglob("*.py"))
    reasons = set(re.findall(r'ClipError\(\s*"\w+",\s*"(\w+)"', code))
    reasons |= set(re.findall(r'"index", "(\w+)"', code))
    assert len(reasons) > 10
    assert {reason for reason in reasons if f"`{reason}`" not in README} == set()


def test_every_dataset_has_a_recipe() -> None:
    for dataset in DATASETS:
        assert f"dataset: {dataset}" in recipe_file(dataset).read_text()
    assert "mp4" in VIDEO_EXTENSIONS
