"""A step of every task at the full sizes of configs/lrs2.yaml with units and intermediate CTC, compiled, on a CPU."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from model.checkpoint import load_checkpoint
from tests.train.runs import ROOT, logged
from train.__main__ import main

READING = [
    *("--network.intermediate_ctc=[3, 6, 9]", "--network.posteriors=true", "--network.units=20"),
    "--losses.distillation=60",
]


def _flags(task: str, dataset: str, run: Path) -> list[str]:
    return [
        *("--config", str(ROOT / "configs/lrs2.yaml"), "--task", task, f"--shards={dataset}", f"--out={run}"),
        *("--splits=[train]", "--precision=float32", "--workers=0", "--device=cpu", "--compile=true"),
        *("--schedule.steps=1", "--validation={every: 100, clips: 1, speech: [], examples: 0}"),
        *("--checkpoint={every: 1, last: 1, log_every: 1, best: ctc}", "--curriculum=[]"),
        *("--batch={max_clips: 2, max_padded_frames: 60}", "--segments.min_words=1", "--segments.window_frames=10"),
        *("--init_vsr=null", "--init_asr=null"),
    ]


@pytest.fixture(autouse=True)
def _traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, but run as it is: to generate code for the CPU would take minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch.compiler.reset()


@pytest.fixture(scope="module")
def asr(shards: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ASR model of a step, with units."""
    folder = tmp_path_factory.mktemp("asr")
    assert main([*_flags("asr", shards, folder), "--asr.intermediate_ctc=[3]", "--compile=false"]) == 0
    command = ["units", f"--asr={folder}/checkpoints/step-00000001.pt", f"--shards={shards}", "--device=cpu"]
    assert main([*command, "--units=20", f"--out={folder}/units.pt"]) == 0
    return folder / "units.pt"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["vsr", "lip2speech", "vocoder"])
def test_task_takes_a_step_at_full_size(shards: str, asr: Path, tmp_path: Path, task: str) -> None:
    more = [*READING, f"--init_asr={asr}"] if task != "vocoder" else ["--checkpoint.best=l1"]
    assert main([*_flags(task, shards, tmp_path), *more]) == 0
    said = logged(tmp_path)[1]
    assert (said["units"] > 0 and said["distillation"] > 0) if task != "vocoder" else (said["stft"] > 0)
    weights = load_checkpoint(tmp_path / "checkpoints/step-00000001.pt").weights
    millions = sum(x.numel() for x in weights.values()) / 1e6
    assert millions > {"vsr": 60, "lip2speech": 60, "vocoder": 13}[task]
