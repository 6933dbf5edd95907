"""The tasks by name."""

from __future__ import annotations

import torch

from model.asr import ASRModel
from model.tokenizer import Tokenizer
from train.settings import TrainSettings
from train.tasks.asr import ASRTask
from train.tasks.lip2speech import Lip2SpeechTask
from train.tasks.task import Task
from train.tasks.vsr import VSRTask


def build_task(
    settings: TrainSettings, tokenizer: Tokenizer, device: torch.device, asr: ASRModel | None = None
) -> Task:
    """The task that settings name; `asr`: the frozen model of the output content loss, for `lip2speech`."""
    if settings.task == "vsr":
        return VSRTask(settings, tokenizer, device)
    if settings.task == "asr":
        return ASRTask(settings, tokenizer, device)
    return Lip2SpeechTask(settings, tokenizer, device, asr)
