"""What a run begins with: tokenizer, the shards' features, networks, fresh or from other checkpoints.

What does not match is an error that names it; nothing is loaded in part without a word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from model.asr import ASRModel
from model.checkpoint import Checkpoint, Network, build_network, check_weights, load_checkpoint
from model.lip_to_speech import LipToSpeech
from model.losses import freeze
from model.mel import MelSettings
from model.tokenizer import FILE_NAME, Tokenizer
from model.vsr import VSRModel
from shards import Dataset
from train.settings import TrainSettings
from train.tasks.task import Task

Say = Callable[[str], None]


def load_tokenizer(dataset: Dataset, settings: TrainSettings) -> Tokenizer:
    """The tokenizer that settings name, or the dataset's own.

    Raises:
        ValueError: there is none, or it is no SentencePiece model.
        StorageError: the store does not answer.
    """
    if settings.tokenizer is not None:
        return Tokenizer.load(settings.tokenizer)
    where, store = dataset.store.url, dataset.store
    if not store.exists(FILE_NAME):
        raise ValueError(
            f"{where}: there is no {FILE_NAME}: run `pipeline tokenizer {where}`, or name one with --tokenizer"
        )
    try:
        return Tokenizer(store.read(FILE_NAME))
    except ValueError as error:
        raise ValueError(f"{where}/{FILE_NAME}: {error}") from error


def check_features(dataset: Dataset, settings: TrainSettings) -> MelSettings:
    """The analysis that the shards were built with.

    Raises:
        ValueError: the shards' lip regions or mels are not what the settings say; names what differs.
    """
    features = dataset.manifest.features
    crop_radius, expected = features["crop"]["crop_radius"], settings.transforms.crop_radius
    if crop_radius != expected:
        raise ValueError(
            f"{dataset.store.url}: lip regions of crop_radius {crop_radius}, and transforms.crop_radius is {expected}"
        )
    built, ours = dict(features["mel"]), dataclasses.asdict(MelSettings())
    different = [
        f"{name} {built.get(name)} (expected {ours.get(name)})"
        for name in sorted(built.keys() | ours.keys())
        if built.get(name) != ours.get(name)
    ]
    if different:
        raise ValueError(f"{dataset.store.url}: built with another mel: {', '.join(different)}")
    for network, bands in (("network", settings.network.n_mels), ("recogniser", settings.asr.n_mels)):
        if bands != MelSettings().n_mels:
            raise ValueError(f"{network}.n_mels: {bands}, and the shards' mels have {MelSettings().n_mels} bands")
    return MelSettings()


def fresh_network(settings: TrainSettings, task: Task, tokenizer: Tokenizer, say: Say) -> Network:
    """A new network, with weights of other checkpoints where the settings name some.

    Raises:
        ValueError: a checkpoint is damaged, of another kind, or does not fit, every tensor is named; or the task has
            no use for it.
    """
    torch.manual_seed(settings.seed)
    network = task.build(settings, tokenizer)
    if settings.init is not None:
        checkpoint = _checkpoint_of(settings.init, settings.task)
        if settings.task != "asr":
            _check_pictures(checkpoint, settings, settings.init)
        if _other_pieces(checkpoint, tokenizer):
            raise ValueError(f"{settings.init}: trained with another tokenizer: its text head means other pieces")
        weights = checkpoint.weights
        check_weights(network, weights, settings.init)
        network.load_state_dict(weights)
        say(f"all weights from {settings.init}")
    if settings.init_vsr is not None:
        if not isinstance(network, VSRModel | LipToSpeech) or network.head is None:
            raise ValueError(f"init_vsr: the task {settings.task} has no visual encoder")
        checkpoint = _checkpoint_of(settings.init_vsr, "vsr", "lip2speech")
        _check_pictures(checkpoint, settings, settings.init_vsr)
        weights = checkpoint.weights
        visual = {name.removeprefix("visual."): x for name, x in weights.items() if name.startswith("visual.")}
        check_weights(network.visual, visual, settings.init_vsr)
        network.visual.load_state_dict(visual)
        head = {name.removeprefix("head."): x for name, x in weights.items() if name.startswith("head.")}
        fits = head and all(head[name].shape == x.shape for name, x in network.head.state_dict().items())
        if fits and not _other_pieces(checkpoint, tokenizer):
            network.head.load_state_dict(head)
            say(f"visual encoder and CTC head from {settings.init_vsr}")
        else:
            say(f"visual encoder from {settings.init_vsr}, which has no CTC head of this tokenizer: a new one")
    return network


def _check_pictures(checkpoint: Checkpoint, settings: TrainSettings, path: str) -> None:
    """`ValueError` where a network is known to be trained on other pictures: it would take these without a word."""
    theirs, ours = checkpoint.transforms, settings.transforms
    for name in ("crop_radius", "size", "mean", "std", "subtract_temporal_mean"):
        if theirs is not None and getattr(theirs, name) != getattr(ours, name):
            raise ValueError(
                f"{path}: trained with transforms.{name} {getattr(theirs, name)}, which is {getattr(ours, name)} here"
            )


def _checkpoint_of(path: str, *kinds: str) -> Checkpoint:
    checkpoint = load_checkpoint(path)
    if checkpoint.kind not in kinds:
        raise ValueError(f"{path}: a network of the task {checkpoint.kind}, and {' or '.join(kinds)} was expected")
    if checkpoint.mel != MelSettings():
        raise ValueError(f"{path}: trained on another mel, {checkpoint.mel}")
    return checkpoint


def _other_pieces(checkpoint: Checkpoint, tokenizer: Tokenizer) -> bool:
    """Whether the checkpoint's text head is known to mean other pieces: published files do not say."""
    return checkpoint.tokenizer is not None and checkpoint.tokenizer.model_bytes != tokenizer.model_bytes


def load_asr(settings: TrainSettings, device: torch.device) -> ASRModel | None:
    """The frozen recogniser of the output content loss, with the network's padding; None where none is named.

    Raises:
        ValueError: the checkpoint is of another kind.
    """
    if settings.init_asr is None:
        return None
    if settings.task != "lip2speech":
        raise ValueError(f"init_asr: the task {settings.task} has no output content loss")
    checkpoint = _checkpoint_of(settings.init_asr, "asr")
    sized = dataclasses.replace(checkpoint.settings, padding=settings.network.padding)
    network = build_network(dataclasses.replace(checkpoint, settings=sized), settings.init_asr)
    assert isinstance(network, ASRModel)
    if network.settings.n_mels != settings.network.n_mels:
        raise ValueError(
            f"{settings.init_asr}: hears {network.settings.n_mels} bands, where network.n_mels is "
            f"{settings.network.n_mels}"
        )
    freeze(network)
    return network.to(device)
