"""Frozen networks of a run: the ASR model that lips learn from, the network whose mels a vocoder is trained on, the
vocoder of validation. A run keeps copies of the first two.

What does not match is an error that names it.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import torch

from model.asr import ASRModel, ASRSettings
from model.checkpoint import build_network
from model.lip_to_speech import LipToSpeech
from model.losses import freeze
from model.tokenizer import Tokenizer
from model.vocoders.load_vocoder import load_vocoder
from model.vocoders.mel_to_wav import DEFAULT_GRIFFIN_LIM, GriffinLimSettings
from model.vocoders.neural_vocoder import Vocoder
from runtime.atomic import atomic_write
from runtime.limits import MAX_CHECKPOINT_BYTES
from runtime.regular_file import read_regular
from train.checkpointing import sha256_of
from train.init import check_transforms, checkpoint_of, has_other_pieces
from train.run_dir import RunDir
from train.settings import TrainSettings

log = logging.getLogger(__name__)

_CPU = torch.device("cpu")


def with_own_copies(
    run_dir: RunDir, settings: TrainSettings, tokenizer: Tokenizer | None, resuming: bool
) -> TrainSettings:
    """The settings with a run's own copies of the frozen networks that they name. Each is made in the run dir when the
    run begins, since the file may be another by the time it resumes. For rank 0 (`ValueError`: as the loaders below).
    """
    if not resuming:
        load_frozen_asr(settings, tokenizer, _CPU)
        load_frozen_lip2speech(settings, _CPU)
    return dataclasses.replace(
        settings,
        init_asr=_own_copy(settings.init_asr, run_dir.asr, resuming),
        init_lip2speech=_own_copy(settings.init_lip2speech, run_dir.lip2speech, resuming),
    )


def _own_copy(path: str | None, own: Path, resuming: bool) -> str | None:
    """Where the copy is; the path itself for a run that has none, from before there were copies."""
    if path is None:
        return None
    named = Path(path)
    if not resuming:
        atomic_write(own, read_regular(named, MAX_CHECKPOINT_BYTES))
    elif not own.exists():
        return path
    elif not (named.is_file() and named.stat().st_size == own.stat().st_size) or sha256_of(named) != sha256_of(own):
        log.info("%s is gone or has changed since this run began: it resumes with its own, %s", named, own)
    return str(own)


def load_frozen_asr(settings: TrainSettings, tokenizer: Tokenizer | None, device: torch.device) -> ASRModel | None:
    """The frozen ASR model of the output content loss, of units and of distillation, with the network's padding; None
    where none is named.

    Raises:
        ValueError: the checkpoint is of another kind, or has not the units that the network predicts, or reads other
            pieces than the CTC head that is to learn from it; or the task has no use for it.
    """
    reads_lips = settings.task in ("vsr", "lip2speech")
    units, distillation = settings.network.units if reads_lips else 0, settings.losses.distillation
    if settings.init_asr is None:
        if units:
            raise ValueError(
                f"network.units: {units}, and no ASR model gives them: `python -m train units` writes one, for "
                "--init-asr"
            )
        return None
    if not reads_lips:
        raise ValueError(f"init_asr: the task {settings.task} learns nothing from another ASR model")
    if settings.task == "vsr" and not (units or distillation):
        raise ValueError("init_asr: the task vsr learns from it only with network.units or losses.distillation")
    checkpoint = checkpoint_of(settings.init_asr, "asr")
    assert isinstance(checkpoint.settings, ASRSettings)
    sized = dataclasses.replace(checkpoint.settings, padding=settings.network.padding)
    network = build_network(dataclasses.replace(checkpoint, settings=sized), settings.init_asr)
    assert isinstance(network, ASRModel)
    if units and network.settings.units != units:
        raise ValueError(
            f"{settings.init_asr}: has {network.settings.units} units, and network.units is {units}: "
            "`python -m train units` writes an ASR model with them"
        )
    if distillation and tokenizer is not None:
        theirs, ours = network.settings.vocabulary, tokenizer.vocabulary_size
        if theirs != ours or has_other_pieces(checkpoint, tokenizer):
            raise ValueError(
                f"{settings.init_asr}: trained with another tokenizer, of {theirs} pieces (here {ours}), and "
                "losses.distillation compares what both read: train an ASR model with this one, or set it to 0"
            )
    bands, expected = network.settings.n_mels, settings.network.n_mels
    if bands != expected:
        raise ValueError(f"{settings.init_asr}: takes mels of {bands} bands, where network.n_mels is {expected}")
    freeze(network)
    return network.to(device)


def load_frozen_lip2speech(settings: TrainSettings, device: torch.device) -> LipToSpeech | None:
    """The frozen network whose mels `vocoder` is trained on; None where none is named.

    Raises:
        ValueError: the checkpoint is of another kind, or was trained on other pictures; or the task has no use for it.
    """
    if settings.init_lip2speech is None:
        return None
    if settings.task != "vocoder":
        raise ValueError(f"init_lip2speech: the task {settings.task} has no use for it: it gives the task vocoder mels")
    checkpoint = checkpoint_of(settings.init_lip2speech, "lip2speech")
    check_transforms(checkpoint, settings, settings.init_lip2speech)
    network = build_network(checkpoint, settings.init_lip2speech)
    assert isinstance(network, LipToSpeech)
    freeze(network)
    return network.to(device)


def load_validation_vocoder(settings: TrainSettings, device: torch.device) -> GriffinLimSettings | Vocoder:
    """What `lip2speech` is heard through in validation: the vocoder that the settings name, or Griffin-Lim.

    Raises:
        ValueError: there is no such file, or it is no vocoder of this mel.
    """
    path = settings.validation.vocoder
    if path is None or settings.task != "lip2speech":
        return DEFAULT_GRIFFIN_LIM
    try:
        vocoder = load_vocoder(path, device=device)
        freeze(vocoder)
        return vocoder
    except FileNotFoundError as error:
        raise ValueError(f"validation.vocoder: {path}: no such file") from error
