"""Small runs for tests: a dataset of noise, a network that trains on it in milliseconds, and ways to start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.tokenizer import train_tokenizer
from shards import Dataset
from tests.shards.datasets import small_dataset
from tests.train.killed_at import kill_before
from tests.train.ranks import Ranks
from train.__main__ import parse
from train.build import build_trainer
from train.distributed import DistributedContext
from train.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]

SMALL = [
    "--network.visual={channels: 2, dropout: 0.1, conformer: {layers: 1, width: 16, heads: 2, kernel: 5}}",
    "--network.speaker={channels: [8, 8], width: 8}",
    "--network.decoder={width: 16, channels: [8]}",
    "--transforms.size=32",
    "--batch={max_padded_frames: 80, window_shards: 2}",
    "--optimizer.learning_rate=0.003",
    "--splits=[train]",
    "--micro_batches_per_step=2",
    "--workers=1",
    "--clip_norm=10",
    "--device=cpu",
    "--checkpoint={last: 3, log_every: 1, best: l1}",
    "--validation={every: 10, clips: 4, speech: [], examples: 0}",
]


def write_small_dataset(folder: Path) -> str:
    """A dataset of noise clips with a tokenizer; its path."""
    write_tokenizer(folder, small_dataset(str(folder)))
    return str(folder)


def write_tokenizer(folder: Path, dataset: Dataset) -> None:
    """A tokenizer of a dataset's texts, where training looks for it."""
    texts = [text for text in dataset.index["text"].to_pylist() if text]
    (folder / "tokenizer.model").write_bytes(train_tokenizer(texts, 40).model_bytes)


def flags(dataset: str, run: Path, steps: int = 40, every: int = 10, **more: Any) -> list[str]:
    """A command line of `python -m train`."""
    settings = {"shards": dataset, "out": run, "schedule.steps": steps, "checkpoint.every": every, **more}
    return [*SMALL, *(f"--{name}={value}" for name, value in settings.items())]


def start_torchrun(
    arguments: list[str], ranks: int, script: list[str] | None = None, launcher: list[str] | None = None
) -> subprocess.Popen[str]:
    """Start torchrun, with so many ranks on this node, of `python -m train` or of a script."""
    place = launcher or ["--standalone"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), *place]
    return subprocess.Popen(
        [*command, *(script or ["-m", "train"]), *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[str] | Ranks, status: int | None = 0) -> str:
    """Wait for torchrun, or for ranks; what was printed. The exit status must be the given one (None: any but 0)."""
    if isinstance(process, Ranks):
        return "".join(process.finish(status))
    printed, _ = process.communicate(timeout=300)
    assert (process.returncode != 0) if status is None else (process.returncode == status), printed[-3000:]
    return printed


def start(arguments: list[str], ranks: int = 1, prepare: Callable[[], None] | None = None) -> Ranks:
    """Start training in processes of its own, without torchrun."""
    return Ranks(arguments, ranks, prepare)


def run_killed_at(step: str, marker: Path, arguments: list[str], ranks: int = 1) -> str:
    """Run until killed before a step."""
    return finish(start(arguments, ranks, partial(kill_before, step, str(marker))), -signal.SIGKILL)


def weights_of(run: Path, step: int) -> dict[str, Tensor]:
    """The weights of a checkpoint of a run."""
    content = torch.load(run / "checkpoints" / f"step-{step:08}.pt")
    weights: dict[str, Tensor] = content["weights"]
    return weights


def logged(run: Path, kind: str = "train") -> dict[int, dict[str, float]]:
    """What a run logged, by step, without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    clock = ("frames_a_second", "waiting", "kind")
    return {
        line["step"]: {name: value for name, value in line.items() if name not in clock}
        for line in lines
        if line["kind"] == kind
    }


SMALL_ASR = "--asr={channels: [4, 8], conformer: {layers: 1, width: 16, heads: 2, kernel: 5}}"
SMALL_VOCODER = "--vocoder={width: 16, layers: 2}"


def task_flags(task: str, dataset: str, run: Path, **more: Any) -> list[str]:
    """A command line for any task, its best checkpoint chosen by a score that needs no waveform."""
    best = "l1" if task in ("lip2speech", "vocoder") else "ctc"
    chosen = {"task": task, "checkpoint.best": best, "workers": 0, **more}
    return [*flags(dataset, run, **chosen), SMALL_ASR, SMALL_VOCODER]


def trainer_of(arguments: list[str]) -> Trainer:
    """The trainer of a command line, in this process, before its first step."""
    return build_trainer(parse(arguments)[0], None, DistributedContext(0, 1, torch.device("cpu")))
