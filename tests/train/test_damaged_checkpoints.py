"""Runs that meet damaged checkpoints: none resumes or starts from one, and each says which it is."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.runs import flags, weights_of
from train.__main__ import main


def _run(shards: str, out: Path, *more: str, steps: int = 4, **settings: Any) -> int:
    given = {"steps": steps, "every": 2, "workers": 0, "validation.split": "null", **settings}
    return main([*flags(shards, out, **given), *more])


def _flip(path: Path, member: str) -> None:
    """One bit of a member, from the middle of its bytes."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(member))
        content = archive.read(name)
    whole = bytearray(path.read_bytes())
    whole[whole.index(content) + len(content) // 2] ^= 64
    path.write_bytes(whole)


def _changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = torch.load(path)
    change(content)
    torch.save(content, path)


def _moments_to(content: dict[str, Any], dtype: torch.dtype) -> None:
    kept = content["training"]["optimizer"]["state"][0]
    kept["exp_avg"] = kept["exp_avg"].to(dtype)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "checksum": lambda path: _flip(path, "/data/3"),
    "data.pkl": lambda path: _flip(path, "data.pkl"),
    "not finite": lambda path: _changed(path, lambda x: x["weights"]["head.bias"].fill_(float("nan"))),
    "state.epoch": lambda path: _changed(path, lambda x: x["training"]["state"].update(epoch=0)),
    "optimizer.state": lambda path: _changed(path, lambda x: x["training"]["optimizer"]["state"].pop(0)),
}


@pytest.fixture(scope="module")
def two_steps(shards: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert _run(shards, out, steps=2) == 0
    return out


@pytest.mark.parametrize("damage", DAMAGE)
def test_resume_auto_takes_the_newest_whole_checkpoint_and_says_so(
    damage: str, shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _run(shards, out) == 0
    straight, newest = weights_of(out, 4), out / "checkpoints/step-00000004.pt"
    DAMAGE[damage](newest)
    assert _run(shards, out, f"--resume={newest}") == 2
    assert str(newest) in capsys.readouterr().err
    assert _run(shards, out, "--resume=auto") == 0
    message = " ".join(capsys.readouterr().err.split())
    assert re.search(r"step-00000004\.pt: (not a checkpoint|its training state cannot be used)", message)
    assert damage in message
    assert "trying the one before it" in message
    assert "step-00000002.pt" in message.partition("resuming from")[2]
    again = weights_of(out, 4)
    assert all(torch.equal(again[name], x) for name, x in straight.items())


def test_init_refuses_a_checkpoint_with_a_flipped_bit(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(shards, tmp_path / "run", steps=2) == 0
    path = tmp_path / "run/checkpoints/step-00000002.pt"
    _flip(path, "/data/3")
    assert _run(shards, tmp_path / "other", f"--init={path}") == 2
    message = capsys.readouterr().err
    assert str(path) in message
    assert "checksum" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x["training"].pop("state"), "training: Object missing required field state"),
        (lambda x: x["training"]["state"].update(step="4"), "state.step: Expected int, got str"),
        (
            lambda x: x["training"]["state"].update(step=3),
            "state.step is 3, and that of the checkpoint, 2, was expected",
        ),
        (lambda x: x["training"]["state"].update(step_in_epoch=-1), "state.step_in_epoch: Expected int >= 0"),
        (lambda x: x["training"]["state"].update(step_in_epoch=3), "state.step_in_epoch is 3"),
        (lambda x: x["training"]["state"].update(epoch=0), "state.epoch: Expected int >= 1"),
        (lambda x: x["training"]["state"].update(epoch=10**9), "state.epoch is 1000000000"),
        (lambda x: x["training"]["state"].update(best=float("nan")), "state.best is nan"),
        (
            lambda x: x["training"]["state"].update(skipped_clips=float("nan")),
            "state.skipped_clips: Expected float >= 0",
        ),
        (lambda x: x["training"]["state"].update(loss_sums={"l1": 1.0}), "state.loss_counts is"),
        (lambda x: x["training"]["state"].update(scores=[1]), "state.scores: Expected object, got array"),
        (lambda x: x["training"].update(state=torch.zeros(2)), "training: state: Expected object, got Tensor"),
        (lambda x: x["training"]["state"].update(other=1), "state: unknown field other"),
        (lambda x: x["training"].update(fingerprint=3), "training: fingerprint: Expected object, got int"),
        (lambda x: x["training"]["fingerprint"].pop("settings"), "required field settings"),
        (lambda x: x["training"].update(weights={}), "is missing"),
        (lambda x: x["training"].update(weights=dict.fromkeys(x["weights"])), "is a NoneType, and a tensor was"),
        (lambda x: x["training"].update(weights=x["weights"]), "training.weights: expected where"),
        (
            lambda x: x["training"]["optimizer"]["state"][0].update(exp_avg=torch.zeros(1)),
            "optimizer.state.0.exp_avg is",
        ),
        (lambda x: x["training"]["optimizer"]["state"][0].update(other=1), "optimizer.state.0.other is not known"),
        (lambda x: x["training"]["optimizer"]["state"][0].pop("exp_avg"), "optimizer.state.0: exp_avg is missing"),
        (lambda x: x["training"]["optimizer"]["state"].pop(3), "optimizer.state is of"),
        (lambda x: x["training"]["optimizer"]["state"].clear(), "optimizer.state is of 0 parameters"),
        (
            lambda x: x["training"]["optimizer"]["state"][0]["exp_avg_sq"].sub_(1),
            "optimizer.state.0.exp_avg_sq holds -",
        ),
        (
            lambda x: x["training"]["optimizer"]["state"][0]["step"].add_(9),
            "optimizer.state.0.step is above state.step, 2",
        ),
        (lambda x: _moments_to(x, torch.float64), "optimizer.state.0.exp_avg is torch.float64"),
        (lambda x: x["training"]["optimizer"]["param_groups"][0].update(eps=1.0), "param_groups: eps is 1.0"),
        (lambda x: x["training"]["optimizer"]["param_groups"][0].update(lr="x"), "param_groups: lr is 'x'"),
        (lambda x: x["training"]["optimizer"]["param_groups"][0].update(params=[0]), "one group of"),
        (lambda x: x["training"].update(optimizer=[]), "training: optimizer: Expected object, got array"),
        (lambda x: x["weights"].update({"head.bias": x["weights"]["head.bias"].long()}), "head.bias is int64 and"),
    ],
)
def test_resume_refuses_a_training_state_of_another_form(
    change: Callable[[dict[str, Any]], Any],
    message: str,
    shards: str,
    two_steps: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    shutil.copytree(two_steps, out)
    path = out / "checkpoints/step-00000002.pt"
    _changed(path, change)
    assert _run(shards, out, "--resume=auto", steps=3) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert str(path) in shown
    assert message in shown
