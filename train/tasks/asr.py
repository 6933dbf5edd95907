"""The `asr` task: a recogniser learns to read true mels by CTC; `lip2speech` then asks it what it hears.

SpecAugment (Park et al., 2019) hides stretches of time and bands from it.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import torch
from torch import Tensor

from model.asr import ASRModel, ASROutput
from model.spec_augment import draw_masks, mask_mel
from model.tokenizer import Tokenizer
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME
from shards.loading.collate import Batch, Contents
from train.settings import TrainSettings
from train.state import Run
from train.tasks.ctc import reading_losses, score_reading
from train.tasks.target_mel import mels
from train.tasks.task import Losses, Task
from train.validation import Tally


def build(settings: TrainSettings, tokenizer: Tokenizer) -> ASRModel:
    """The recogniser of the settings, of the tokenizer's vocabulary."""
    return ASRModel(dataclasses.replace(settings.asr, vocabulary=tokenizer.vocabulary_size))


def losses(run: Run, network: ASRModel, batch: Batch, seed: int) -> Losses:
    """CTC of the texts."""
    heard = _hear(run, network, batch, seed)
    return reading_losses(heard.logits, heard.lengths, batch.texts, run.tokenizer)


def _hear(run: Run, network: ASRModel, batch: Batch, seed: int | None) -> ASROutput:
    device, settings = run.ranks.device, run.settings
    lengths = MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths
    part_lengths = batch.lengths[batch.wav_rows]
    mel = mels(batch.to(device, non_blocking=True), part_lengths)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        masks = draw_masks(lengths, mel.shape[1], generator, settings.spec_augment)
        mel = mask_mel(mel, masks, lengths)
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        return network(mel, lengths)  # type: ignore[no-any-return]


def score(run: Run, batch: Batch, tally: Tally) -> None:
    """CTC, word and character errors, read greedily."""
    assert isinstance(run.network, ASRModel)
    heard = _hear(run, run.network, batch, None)
    score_reading(tally, batch, heard.logits, heard.lengths, run.tokenizer)


def idle(run: Run, network: ASRModel) -> Tensor:
    """See `Task`."""
    heard = network(torch.zeros(1, run.settings.asr.n_mels, 20, device=run.ranks.device), torch.tensor([20]))
    none: Tensor = 0.0 * heard.logits.float().sum()
    return none


TASK = Task(
    kind=ASRModel,
    build=build,
    contents=Contents(roi=False),
    wants_voice=False,
    losses=losses,
    idle=idle,
    validated=Contents(roi=False),
    scoring=lambda run, share: partial(score, run),
    parts=("ctc", "text_left_out"),
    scores=("ctc", "wer", "cer"),
    best="wer",
)
