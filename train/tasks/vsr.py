"""The `visual` task: a visual encoder learns to read lips by CTC, before speech is asked of it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from model.segment_sampling import whole_windows
from model.tokenizer import Tokenizer
from model.transforms import Augmentation, draw_augmentation, transform
from model.vsr import VSRModel, VSROutput, VSRSettings
from shards.loading.collate import Batch, Contents
from train.settings import TrainSettings
from train.state import Run
from train.tasks.ctc import reading_losses, score_reading
from train.tasks.task import Losses, Task
from train.validation import Tally


def build(settings: TrainSettings, tokenizer: Tokenizer) -> VSRModel:
    """A lip reader whose encoder is that of `network`."""
    network = settings.network
    return VSRModel(VSRSettings(network.visual, tokenizer.vocabulary_size, network.padding))


def losses(run: Run, network: VSRModel, batch: Batch, seed: int) -> Losses:
    """CTC of the texts. Masked frames may lie anywhere in a segment: here all of it is the window."""
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_augmentation(*whole_windows(batch.lengths), generator, run.settings.transforms)
    read = _read(run, network, batch, drawn)
    return reading_losses(read.logits, batch.lengths, batch.texts, run.tokenizer)


def _read(run: Run, network: VSRModel, batch: Batch, drawn: Augmentation | None) -> VSROutput:
    device, settings = run.ranks.device, run.settings
    roi = batch.roi.to(device, non_blocking=True)
    video = transform(roi, batch.lengths, drawn, settings.transforms)
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        return network(video, batch.lengths)  # type: ignore[no-any-return]


def score(run: Run, batch: Batch, tally: Tally) -> None:
    """CTC, word and character errors, read greedily."""
    assert isinstance(run.network, VSRModel)
    read = _read(run, run.network, batch, None)
    score_reading(tally, batch, read.logits, batch.lengths, run.tokenizer)


def idle(run: Run, network: VSRModel) -> Tensor:
    """See `Task`."""
    size = run.settings.transforms.size
    read = network(torch.zeros(1, 1, 5, size, size, device=run.ranks.device), torch.tensor([5]))
    none: Tensor = 0.0 * read.logits.float().sum()
    return none


TASK = Task(
    kind=VSRModel,
    build=build,
    contents=Contents(sound=False),
    wants_voice=False,
    losses=losses,
    idle=idle,
    validated=Contents(sound=False),
    scoring=lambda run, share: partial(score, run),
    parts=("ctc", "text_left_out"),
    scores=("ctc", "wer", "cer"),
    best="wer",
)
