"""Runs that meet damaged checkpoints: none resumes or starts from one, and each says which it is."""

from __future__ import annotations

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


DAMAGE: dict[str, Callable[[Path], None]] = {
    "checksum": lambda path: _flip(path, "/data/3"),
    "data.pkl": lambda path: _flip(path, "data.pkl"),
    "not finite": lambda path: _changed(path, lambda x: x["weights"]["head.bias"].fill_(float("nan"))),
}


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
    assert "step-00000004.pt: not a checkpoint" in message
    assert damage in message
    assert "trying the one before it" in message
    assert "step-00000002.pt" in message.partition("resuming from")[2]
    assert all(torch.equal(weights_of(out, 4)[name], x) for name, x in straight.items())


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
        (lambda x: x["training"].pop("state"), "KeyError: 'state'"),
        (lambda x: x["training"]["state"].update(step="4"), "state.step is '4', and int was expected"),
        (lambda x: x["training"]["state"].update(scores=[1]), "state.scores is [1], and dict was expected"),
        (lambda x: x["training"]["state"].update(other=1), "unexpected keyword argument 'other'"),
        (lambda x: x["training"].update(fingerprint=3), "no fingerprint"),
        (lambda x: x["training"].update(weights={}), "is missing"),
        (lambda x: x["training"]["optimizer"]["state"][0].update(exp_avg=torch.zeros(1)), "the optimizer's exp_avg"),
        (lambda x: x["training"].update(optimizer=[]), "its training state does not fit"),
        (lambda x: x["weights"].update({"head.bias": x["weights"]["head.bias"].long()}), "head.bias is int64 and"),
    ],
)
def test_resume_refuses_a_training_state_of_another_form(
    change: Callable[[dict[str, Any]], Any],
    message: str,
    shards: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    assert _run(shards, out, steps=2) == 0
    path = out / "checkpoints/step-00000002.pt"
    _changed(path, change)
    assert _run(shards, out, "--resume=auto", steps=3) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert str(path) in shown
    assert message in shown
