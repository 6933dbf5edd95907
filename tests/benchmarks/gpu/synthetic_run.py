"""A training run on batches of noise: everything that training has but a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import numpy as np
import torch

from model.asr import ASRModel
from model.losses import freeze
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, N_MELS, SAMPLES_PER_FRAME
from shards.loading.collate import SILENCE, Batch
from train.__main__ import parse
from train.build import TASKS
from train.distributed import DistributedContext
from train.settings import TrainSettings
from train.state import TrainedModel, TrainState, prepare_model
from train.step import OptimizerStep, StepResult
from train.tasks.task import Task

CONFIG = str(Path(__file__).resolve().parents[3] / "configs" / "lrs2.yaml")

FULL = ["--config", CONFIG, "--init_vsr=null", "--init_asr=null", "--clip_norm=5", "--ema=0.999"]
"""Settings of the published sizes, with clipping and an average of the weights, which the published method has not."""

SMALL_NETWORKS = [
    "--network.visual={channels: 8, dropout: 0, conformer: {layers: 2, width: 32, heads: 2, kernel: 5, dropout: 0}}",
    "--network.speaker={channels: [8, 8], width: 16}",
    "--network.decoder={width: 16, channels: [8]}",
    "--asr={channels: [4, 8], conformer: {layers: 1, width: 32, heads: 2, kernel: 5, dropout: 0}}",
    "--transforms.size=48",
]
"""Without dropout."""

SMALL = [*FULL, *SMALL_NETWORKS, "--segments.window_frames=12", "--losses.delta=50", "--losses.estoi=40"]


class WordTokenizer:
    """In the place of a tokenizer: a piece a word."""

    model_bytes = b""

    def __init__(self, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size

    def encode(self, text: str) -> list[int]:
        return [4 + crc32(word.encode()) % (self.vocabulary_size - 4) for word in text.split()]


@dataclass(frozen=True)
class SyntheticRun:
    """A run before its first step, with every loss on; `asr` is the frozen model of the content loss."""

    settings: TrainSettings
    task: Task
    asr: ASRModel | None
    model: TrainedModel
    state: TrainState
    optimizer_step: OptimizerStep
    device: torch.device

    def step(self, batch: Batch) -> StepResult:
        """A whole training step, as the trainer takes it."""
        return self.optimizer_step.take(self.state, [batch], 1)


def build_run(
    device: torch.device, arguments: Sequence[str], task: str = "lip2speech", vocabulary: int = 4000
) -> SyntheticRun:
    settings = parse([*arguments, f"--task={task}", "--out=unused"])[0]
    tokenizer: Any = WordTokenizer(vocabulary)
    torch.manual_seed(0)
    asr = None
    if task == "lip2speech":
        asr_task = TASKS["asr"](replace(settings, task="asr"), tokenizer, device)
        asr = cast(ASRModel, freeze(asr_task.build_model()).to(device))
    built = TASKS[settings.task](settings, tokenizer, device, asr)
    context = DistributedContext(0, 1, device)
    model = prepare_model(built.build_model(), settings, context)
    step = OptimizerStep(built, model, settings, context)
    return SyntheticRun(settings, built, asr, model, TrainState(content_on=True), step, device)


def noise_batch(run: SyntheticRun, lengths: Sequence[int], seed: int = 0, cut: bool = False) -> Batch:
    """A batch of noise as the loader gives it, in pinned memory; with `cut`, every other clip comes with samples in
    the place of a mel, as segments do."""
    random = torch.Generator().manual_seed(seed)
    count, side = len(lengths), run.settings.transforms.stored_side
    roi_frames, frames = (max(lengths) * used for used in (run.task.contents.roi, run.task.contents.sound))
    mel_frames = MEL_FRAMES_PER_VIDEO_FRAME * frames
    rows = list(range(1, count, 2)) if cut and frames else []
    words = [[f"word{number + i}" for i in range(max(1, length // 8))] for number, length in enumerate(lengths)]
    batch = Batch(
        number=seed,
        keys=[f"clip{number}" for number in range(count)],
        speakers=["one"] * count,
        texts=[" ".join(each) for each in words],
        lengths=torch.tensor(lengths),
        roi=torch.randint(0, 256, (count, roi_frames, side, side), dtype=torch.uint8, generator=random),
        mel=(0.3 * torch.randn(count, N_MELS, mel_frames, generator=random)).clamp(-1, 1),
        wav=0.1 * torch.randn(len(rows), SAMPLES_PER_FRAME * frames, generator=random),
        wav_rows=torch.tensor(rows, dtype=torch.int64),
        reference=torch.zeros(count, N_MELS, 0),
        reference_frames=torch.zeros(count, dtype=torch.int64),
        skipped=[],
    )
    for number, length in enumerate(lengths):
        batch.roi[number, length:] = 0
        batch.mel[number, :, MEL_FRAMES_PER_VIDEO_FRAME * length :] = SILENCE
    batch.mel[batch.wav_rows] = SILENCE
    return batch.pin_memory() if run.device.type == "cuda" else batch


def varying_lengths(frames: int, count: int, seed: int = 0) -> list[list[int]]:
    """Lengths of `count` batches of at most `frames` padded frames, clips of 40 to 250, grouped as the loader does."""
    drawn = np.random.default_rng(seed)
    batches, one = [], list[int]()
    for length in sorted(drawn.integers(40, 251, max(64, 2 * count * frames // 145)).tolist()):
        if one and (len(one) + 1) * length > frames:
            batches.append(one)
            one = []
        one.append(length)
    drawn.shuffle(batches)
    return batches[:count]
