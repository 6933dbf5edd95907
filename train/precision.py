"""The precision that a run computes in, where its settings leave that open (`precision: auto`)."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import Checkpoint
from train.distributed import DistributedContext
from train.settings import TrainSettings
from train.stored_training import read_training

_LARGE = 512
"""Width of a Conformer or a vocoder from which bf16 pays on a CPU, as published; a width of 128 is slower for it."""

log = logging.getLogger(__name__)


def with_precision(
    settings: TrainSettings, checkpoint: Checkpoint | None, path: Path | None, context: DistributedContext
) -> TrainSettings:
    """The settings with a precision: that of the checkpoint that a run resumes from, which was loaded from `path`, or
    else `best_precision` of rank 0's device. One that is named stays."""
    if settings.precision != "auto":
        return settings
    chosen: Any = context.on_rank0(lambda: _of_run(checkpoint, path) or best_precision(settings, context.device))
    log.info("precision: %s", chosen)
    return replace(settings, precision=chosen)


def best_precision(settings: TrainSettings, device: torch.device) -> str:
    """bf16 on GPUs, and on CPUs that compute in it where the network is large; float32 elsewhere."""
    conformer = settings.asr.conformer if settings.task == "asr" else settings.network.visual.conformer
    large = (settings.vocoder.width if settings.task == "vocoder" else conformer.width) >= _LARGE
    return "bf16" if device.type != "cpu" or (large and cpu_computes_in_bf16()) else "float32"


def cpu_computes_in_bf16() -> bool:
    """Whether this CPU has instructions for products in bf16; others convert each number, which is slower."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch 2.11 may not have it
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def _of_run(checkpoint: Checkpoint | None, path: Path | None) -> str | None:
    """The precision of the run that a checkpoint is of."""
    if checkpoint is None or path is None:
        return None
    found = read_training(checkpoint, path).fingerprint.settings.get("precision")
    return found if found in ("float32", "bf16") else None
