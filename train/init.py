"""Initialization of a run: tokenizer, what the dataset's manifest says, the network, new or from other checkpoints.

What does not match is an error that names it; weights that are not taken are logged.
"""

from __future__ import annotations

import dataclasses
import logging

import torch
from torch import nn

from model.checkpoint import Checkpoint, Network, check_weights, load_checkpoint
from model.lip_to_speech import LipToSpeech
from model.mel import MelSettings, settings_that_differ
from model.tokenizer import FILE_NAME, Tokenizer
from model.vocoders.neural_vocoder import Vocoder
from model.vsr import VSRModel
from runtime.limits import MAX_TOKENIZER_BYTES
from shards import Dataset
from shards.format.manifest import MANIFEST_NAME
from train.settings import TrainSettings
from train.tasks.task import Task

log = logging.getLogger(__name__)


def load_tokenizer(dataset: Dataset, settings: TrainSettings) -> Tokenizer | None:
    """The tokenizer that settings name, or the dataset's own. None: `lip2speech` is trained without a CTC head, since
    there is no tokenizer, and no transcript to train one on or no weight of CTC; or the task is `vocoder`.

    Raises:
        ValueError: there is none and the task needs one, it is no SentencePiece model, or the splits have no clip, or
            no transcript where the task needs them.
        StorageError: the store does not answer.
    """
    if settings.task == "vocoder":
        return None
    where, store = dataset.store.url, dataset.store
    has_texts = dataset.clip_index.has_text(settings.splits)
    no_texts = f"no clip of {', '.join(settings.splits)} has a transcript"
    if settings.task != "lip2speech" and not has_texts:
        raise ValueError(
            f"{where}: {no_texts}, and the task {settings.task} needs some: put a .txt file beside each "
            "video and build again, or train --task lip2speech, which needs none"
        )
    if settings.tokenizer is not None:
        return Tokenizer.load(settings.tokenizer)
    if not store.exists(FILE_NAME):
        if settings.task == "lip2speech" and not (has_texts and settings.losses.ctc):
            why = "losses.ctc is 0" if has_texts else no_texts
            log.info("trained without a CTC head and its loss: %s, and there is no tokenizer", why)
            return None
        raise ValueError(
            f"{where}: there is no {FILE_NAME}: run `pipeline tokenizer {where}`, or name one with --tokenizer"
        )
    try:
        return Tokenizer(store.read(FILE_NAME, MAX_TOKENIZER_BYTES))
    except ValueError as error:
        raise ValueError(f"{where}/{FILE_NAME}: {error}") from error


def take_from_manifest(settings: TrainSettings, dataset: Dataset) -> TrainSettings:
    """The settings, with what the dataset knows: the crop radius of its lip regions, and its splits for training where
    none are named.

    Raises:
        ValueError: the shards' mels are not what the networks are made for; names what differs.
    """
    features = dataset.manifest.features
    built, ours = features.get("mel"), dataclasses.asdict(MelSettings())
    if not isinstance(built, dict):
        raise ValueError(f"{dataset.store.path(MANIFEST_NAME)}: features.mel: the settings of its mels were expected")
    if different := settings_that_differ(built, ours):
        raise ValueError(f"{dataset.store.url}: built with another mel: {different}")
    for network, bands in (("network", settings.network.n_mels), ("asr", settings.asr.n_mels)):
        if bands != MelSettings().n_mels:
            raise ValueError(f"{network}.n_mels: {bands}, and the shards' mels have {MelSettings().n_mels} bands")
    if settings.vocoder.mel != MelSettings():
        raise ValueError(f"vocoder.mel: {settings.vocoder.mel}, and the shards' mels are of {MelSettings()}")
    transforms = dataclasses.replace(settings.transforms, crop_radius=features["crop"]["crop_radius"])
    return dataclasses.replace(settings, splits=settings.splits or dataset.training_splits(), transforms=transforms)


def init_network(settings: TrainSettings, task: Task) -> Network:
    """A new network, with weights of other checkpoints where the settings name some.

    Raises:
        ValueError: a checkpoint is damaged, of another kind, or does not fit, every tensor is named; or the task has
            no use for it.
    """
    torch.manual_seed(settings.seed)
    network = task.build_model()
    if settings.init is not None:
        checkpoint = checkpoint_of(settings.init, settings.task)
        if settings.task in ("vsr", "lip2speech"):
            check_transforms(checkpoint, settings, settings.init)
        if has_other_pieces(checkpoint, task.tokenizer):
            raise ValueError(f"{settings.init}: trained with another tokenizer: its CTC head means other pieces")
        ctc_head = None if isinstance(network, Vocoder) else network.head
        if ctc_head is not None and not any(name.startswith("head.") for name in checkpoint.weights):
            raise ValueError(
                f"{settings.init}: has no CTC head, and the network that is trained here has one: "
                + ("take its visual encoder with --init-vsr" if settings.task != "asr" else "name another with --init")
            )
        left_out = "head." if ctc_head is None else ()
        weights = {name: x for name, x in checkpoint.weights.items() if not name.startswith(left_out)}
        check_weights(network, weights, settings.init)
        network.load_state_dict(weights)
        without = ", without its CTC head" if len(weights) < len(checkpoint.weights) else ""
        log.info("all weights from %s%s", settings.init, without)
    if settings.init_vsr is not None:
        if not isinstance(network, VSRModel | LipToSpeech):
            raise ValueError(f"init_vsr: the task {settings.task} has no visual encoder")
        checkpoint = checkpoint_of(settings.init_vsr, "vsr", "lip2speech")
        check_transforms(checkpoint, settings, settings.init_vsr)
        visual, head = (_part(checkpoint, name) for name in ("visual", "head"))
        check_weights(network.visual, visual, settings.init_vsr)
        network.visual.load_state_dict(visual)
        _load_if_it_fits(network.unit_head, _part(checkpoint, "unit_head"))
        if network.head is None:
            log.info("visual encoder from %s", settings.init_vsr)
        elif not has_other_pieces(checkpoint, task.tokenizer) and _load_if_it_fits(network.head, head):
            _load_if_it_fits(network.intermediate, _part(checkpoint, "intermediate"))
            log.info("visual encoder and CTC head from %s", settings.init_vsr)
        else:
            log.info("visual encoder from %s, which has no CTC head of this tokenizer: a new one", settings.init_vsr)
    return network


def _part(checkpoint: Checkpoint, name: str) -> dict[str, torch.Tensor]:
    weights = checkpoint.weights.items()
    return {key.removeprefix(f"{name}."): x for key, x in weights if key.startswith(f"{name}.")}


def _load_if_it_fits(module: nn.Module | None, weights: dict[str, torch.Tensor]) -> bool:
    """Give a part of a network its weights in another one, where both have it at the same size; whether they have."""
    shapes = {name: x.shape for name, x in weights.items()}
    if module is None or shapes != {name: x.shape for name, x in module.state_dict().items()}:
        return False
    module.load_state_dict(weights)
    return True


def check_transforms(checkpoint: Checkpoint, settings: TrainSettings, path: str) -> None:
    """`ValueError` where a network is known to be trained on other images: its weights would load all the same."""
    theirs, ours = checkpoint.transforms, settings.transforms
    for name in ("crop_radius", "size", "mean", "std", "subtract_temporal_mean"):
        if theirs is not None and getattr(theirs, name) != getattr(ours, name):
            raise ValueError(
                f"{path}: trained with transforms.{name} {getattr(theirs, name)}, which is {getattr(ours, name)} here"
            )


def checkpoint_of(path: str, *kinds: str) -> Checkpoint:
    """A checkpoint of one of these tasks and of the mel of the shards (`ValueError`: of others, or damaged)."""
    checkpoint = load_checkpoint(path, kinds[0] if len(kinds) == 1 else None)
    if checkpoint.kind not in kinds:
        raise ValueError(f"{path}: a network of the task {checkpoint.kind}, and {' or '.join(kinds)} was expected")
    if checkpoint.mel != MelSettings():
        raise ValueError(f"{path}: trained on another mel, {checkpoint.mel}")
    return checkpoint


def has_other_pieces(checkpoint: Checkpoint, tokenizer: Tokenizer | None) -> bool:
    """Whether the checkpoint's CTC head is known to mean other pieces: published files do not say."""
    return None not in (checkpoint.tokenizer, tokenizer) and checkpoint.tokenizer != tokenizer
