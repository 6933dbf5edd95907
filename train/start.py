"""Where a run begins: fresh, from other checkpoints, or where it stopped.

What does not match is an error that names it; nothing is loaded in part without a word.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from model.checkpoint import Checkpoint, build_network, check_weights, load_checkpoint
from model.lip_reader import LipReader
from model.lip_to_speech import LipToSpeech
from model.losses import freeze
from model.mel import MelSettings
from model.recogniser import Recogniser
from model.tokenizer import FILE_NAME, Tokenizer
from shards import Dataset, StorageError, Store
from train.settings import TrainSettings

Say = Callable[[str], None]

_MAY_CHANGE = (
    *("out", "shards", "workers", "cache", "compile", "keep", "schedule", "on_damage", "bad_steps"),
    *("init", "init_visual", "init_asr"),
)
"""Settings that a resumed run may have otherwise: they do not change what it computes, or have had their effect."""


def load_tokenizer(dataset: Dataset, settings: TrainSettings) -> Tokenizer:
    """The tokenizer that settings name, or the dataset's own.

    Raises:
        ValueError: there is none, or it is no SentencePiece model.
    """
    if settings.tokenizer is not None:
        return Tokenizer.load(settings.tokenizer)
    try:
        content = Store(dataset.store.url).read(FILE_NAME)
    except (FileNotFoundError, StorageError) as error:
        raise ValueError(
            f"{dataset.store.url}: there is no {FILE_NAME}: run `pipeline tokenizer {dataset.store.url}`, or name one "
            "with --tokenizer"
        ) from error
    return Tokenizer(content)


def check_features(dataset: Dataset, settings: TrainSettings) -> MelSettings:
    """The analysis that the shards were built with.

    Raises:
        ValueError: the shards' lip regions or mels are not what the settings say.
    """
    features = dataset.manifest.features
    half, expected = features["crop"]["half"], settings.transforms.half
    if half != expected:
        raise ValueError(f"{dataset.store.url}: lip regions of half {half}, and transforms.half is {expected}")
    known = {field.name for field in dataclasses.fields(MelSettings)}
    mel = MelSettings(**{name: value for name, value in features["mel"].items() if name in known})
    if mel != MelSettings():
        raise ValueError(f"{dataset.store.url}: built with another mel, {mel}; expected {MelSettings()}")
    return mel


def fresh_network(settings: TrainSettings, tokenizer: Tokenizer, say: Say) -> LipToSpeech:
    """A new network, with weights of other checkpoints where the settings name some.

    Raises:
        CheckpointError: a checkpoint is damaged, of another kind, or does not fit; every tensor is named.
    """
    torch.manual_seed(settings.seed)
    sized = dataclasses.replace(settings.network, vocabulary=tokenizer.vocabulary_size)
    network = LipToSpeech(sized)
    if settings.init is not None:
        weights = _weights_of(settings.init, LipToSpeech)
        check_weights(network, weights, settings.init)
        network.load_state_dict(weights)
        say(f"all weights from {settings.init}")
    if settings.init_visual is not None:
        weights = _weights_of(settings.init_visual, LipReader, LipToSpeech)
        visual = {name.removeprefix("visual."): x for name, x in weights.items() if name.startswith("visual.")}
        check_weights(network.visual, visual, settings.init_visual)
        network.visual.load_state_dict(visual)
        head = {name.removeprefix("head."): x for name, x in weights.items() if name.startswith("head.")}
        if head and all(head[name].shape == x.shape for name, x in network.head.state_dict().items()):
            network.head.load_state_dict(head)
            say(f"visual encoder and CTC head from {settings.init_visual}")
        else:
            say(f"visual encoder from {settings.init_visual}, which has no CTC head of this vocabulary: a new one")
    return network


def _weights_of(path: str, *kinds: type[Any]) -> Mapping[str, Tensor]:
    checkpoint = load_checkpoint(path)
    network = build_network(checkpoint, path)
    if not isinstance(network, kinds):
        raise ValueError(
            f"{path}: a {type(network).__name__}, and {' or '.join(k.__name__ for k in kinds)} was expected"
        )
    return checkpoint.weights


def load_recogniser(settings: TrainSettings, device: torch.device) -> Recogniser | None:
    """The frozen recogniser of the output content loss, with the network's padding; None where none is named.

    Raises:
        ValueError: the checkpoint is of another kind.
    """
    if settings.init_asr is None:
        return None
    checkpoint = load_checkpoint(settings.init_asr)
    sized = dataclasses.replace(checkpoint.settings, padding=settings.network.padding)
    network = build_network(dataclasses.replace(checkpoint, settings=sized), settings.init_asr)
    if not isinstance(network, Recogniser):
        raise ValueError(f"{settings.init_asr}: a {type(network).__name__}, and a Recogniser was expected")
    freeze(network)
    return network.to(device)


def identity_of(settings: TrainSettings, dataset: Dataset, tokenizer: Tokenizer) -> dict[str, Any]:
    """What has to be the same for a run to go on as if it had not stopped."""
    recipe = dataclasses.asdict(settings)
    for name in _MAY_CHANGE:
        del recipe[name]
    return {
        "recipe": json.loads(json.dumps(recipe)),
        "index": dataset.manifest.plan,
        "tokenizer": hashlib.sha256(tokenizer.model_bytes).hexdigest(),
    }


def check_identity(checkpoint: Checkpoint, identity: Mapping[str, Any], where: str) -> None:
    """`ValueError` that names what differs, where a checkpoint is of another run."""
    if checkpoint.training is None:
        raise ValueError(f"{where}: it has weights, but not what a run needs to go on; start from it with --init")
    before = checkpoint.training["identity"]
    different = [
        f"{name} was {before['recipe'].get(name)!r} and is {value!r}"
        for name, value in identity["recipe"].items()
        if before["recipe"].get(name) != value
    ]
    different += [f"another {name}" for name in ("index", "tokenizer") if before[name] != identity[name]]
    if different:
        raise ValueError(
            f"{where}: of another run: {'; '.join(different)}. Give this one another --out, or start it from those "
            "weights with --init"
        )
