"""Checkpoints: one file format of ours, and the published files read as they are.

A checkpoint holds all that is needed to use it, as a dictionary of plain values and tensors in the format of
`torch.save`. Reading one compares its checksums and runs nothing in it (`model.checkpoint_reader`), and refuses weights
that are no finite real numbers. Wherever a checkpoint is named, a published file may stand (docs/method.md, Published
checkpoints).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from model.asr import ASRModel, ASRSettings
from model.checkpoint_reader import named_tensors, read_torch_file
from model.lip_to_speech import LipToSpeech, LipToSpeechSettings
from model.mel import MelSettings
from model.published import Settings, is_published, published_weights
from model.settings_io import read_settings
from model.tokenizer import Tokenizer
from model.transforms import TransformSettings
from model.vocoders.neural_vocoder import Vocoder, VocoderSettings
from model.vsr import VSRModel, VSRSettings
from model.weights import misfits, refuse_numbers
from runtime import limits
from runtime.atomic import atomic_file
from runtime.regular_file import IrregularFileError
from runtime.renamed import refuse_renamed

FORMAT = 1

Network = LipToSpeech | VSRModel | ASRModel | Vocoder

_NETWORKS: dict[str, tuple[type[Any], type[Any]]] = {
    "lip2speech": (LipToSpeech, LipToSpeechSettings),
    "vsr": (VSRModel, VSRSettings),
    "asr": (ASRModel, ASRSettings),
    "vocoder": (Vocoder, VocoderSettings),
}

PARTS = ("vocoder", "asr")
"""Tasks of the networks that may go with a lip-to-speech network in one file."""


class CheckpointError(ValueError):
    """A file that is no checkpoint, or that does not fit; the message names the file and what does not fit."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        settings: of the network; their type says which network it is.
        weights: its state dict.
        tokenizer: that the CTC head's pieces are of; None where there is no head, or it is not known, as in published
            files.
        mel: the analysis that the network was trained with; a vocoder's settings have it, too.
        step: training steps behind it.
        metrics: what it scored in validation, by name.
        transforms: of the pictures that the network was trained on; None where it is not known, as in published files.
        training: what a run needs to resume from here (plain values and tensors); None where it is not kept.
        parts: of a released file: what goes with the network, by task, its vocoder and its ASR model.
        card: of a released file: its model card, Markdown.
    """

    settings: Settings | VocoderSettings
    weights: Mapping[str, Tensor]
    tokenizer: Tokenizer | None = None
    mel: MelSettings = field(default_factory=MelSettings)
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    transforms: TransformSettings | None = None
    training: Mapping[str, Any] | None = None
    parts: Mapping[str, Checkpoint] = field(default_factory=dict)
    card: str = ""

    @property
    def kind(self) -> str:
        """The task that trains such a network: lip2speech, vsr, asr or vocoder."""
        return next(kind for kind, (_, settings) in _NETWORKS.items() if isinstance(self.settings, settings))


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint, under a temporary name first: there is never half a file under `path`."""
    with atomic_file(path) as file:
        torch.save(_content(checkpoint), file)


def _content(checkpoint: Checkpoint) -> dict[str, Any]:
    content = {
        "format": FORMAT,
        "kind": checkpoint.kind,
        "settings": dataclasses.asdict(checkpoint.settings),
        "weights": {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()},
        "tokenizer": None if checkpoint.tokenizer is None else checkpoint.tokenizer.model_bytes,
        "mel": dataclasses.asdict(checkpoint.mel),
        "step": int(checkpoint.step),
        "metrics": {str(name): float(value) for name, value in checkpoint.metrics.items()},
        "transforms": None if checkpoint.transforms is None else dataclasses.asdict(checkpoint.transforms),
        "training": checkpoint.training,
    }
    if checkpoint.parts:
        content["parts"] = {task: _content(part) for task, part in checkpoint.parts.items()}
    if checkpoint.card:
        content["card"] = checkpoint.card
    return content


def load_checkpoint(path: str | os.PathLike[str], task: str | None = None) -> Checkpoint:
    """Read a checkpoint of ours, or a published file.

    Args:
        path: of the file.
        task: of the network that is wanted; of a released file with such a part it is the part that is returned.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is neither, it is damaged, reading it would have to run code, it is larger than
            `runtime.limits` allows, or a weight is no finite real number.
    """
    try:
        content = read_torch_file(path)
    except IrregularFileError as error:
        raise CheckpointError(str(error)) from error
    except IsADirectoryError as error:
        raise CheckpointError(f"{path}: a folder, where a checkpoint file is expected") from error
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one: {error}") from error
    try:
        if is_published(content):
            settings, weights, theirs = published_weights(content)
            checkpoint = Checkpoint(settings, weights)
            check_weights(empty_network(checkpoint), weights, "its tensors", theirs)
            weights = {name: x.float() if x.is_floating_point() else x for name, x in weights.items()}
            checkpoint = dataclasses.replace(checkpoint, weights=weights)
        else:
            checkpoint = _ours(content)
        for each in (checkpoint, *checkpoint.parts.values()):
            refuse_numbers(each.weights)
        refuse_numbers(named_tensors(checkpoint.training, "training."))
        return checkpoint if task is None else checkpoint.parts.get(task, checkpoint)
    except Exception as error:  # a hostile file may go wrong in any way
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{path}: not a checkpoint that can be used: {reason}") from error


def check_task(checkpoint: Checkpoint, name: str | os.PathLike[str], task: str) -> None:
    """`ValueError` unless a checkpoint is of this task; `name` is its own in the message."""
    if checkpoint.kind != task:
        raise ValueError(f"{name}: a network of the task {checkpoint.kind}, and {task} was expected")


def _ours(content: Any) -> Checkpoint:
    if not isinstance(content, dict) or "format" not in content:
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"neither one of ours nor a published one: it holds {found or 'nothing'}")
    _check_type("format", content["format"], int)
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, and this version reads {FORMAT}")
    _check_type("kind", content["kind"], str)
    refuse_renamed("checkpoint", [content["kind"]])
    if content["kind"] not in _NETWORKS:
        raise ValueError(f"kind {content['kind'][:50]!r}: expected one of {', '.join(_NETWORKS)}")
    tokenizer, transforms, weights = content["tokenizer"], content.get("transforms"), content["weights"]
    if not isinstance(weights, dict):
        raise ValueError(f"its weights are a {type(weights).__name__}, and a state dict was expected")
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is no plain tensor")
    if tokenizer is not None:
        _check_type("tokenizer", tokenizer, bytes)
    _check_type("step", content["step"], int)
    limits.check_limit("step", content["step"], limits.MAX_STEP)
    if content["step"] < 0:
        raise ValueError(f"step is {content['step']}, and 0 or more was expected")
    _check_type("metrics", content["metrics"], dict)
    for name, value in content["metrics"].items():
        _check_type(f"metrics.{name}", value, float)
    if content["training"] is not None:
        _check_type("training", content["training"], dict)
    card = content.get("card", "")
    _check_type("card", card, str)
    checkpoint = Checkpoint(
        settings=read_settings(_NETWORKS[content["kind"]][1], content["settings"]),
        weights=weights,
        tokenizer=None if tokenizer is None else Tokenizer(tokenizer),
        mel=read_settings(MelSettings, content["mel"]),
        step=content["step"],
        metrics=content["metrics"],
        transforms=None if transforms is None else read_settings(TransformSettings, transforms),
        training=content["training"],
        card=card,
    )
    checkpoint = dataclasses.replace(checkpoint, parts=_parts(content.get("parts", {}), checkpoint))
    _check_vocabulary(checkpoint)
    if isinstance(checkpoint.settings, VocoderSettings) and checkpoint.settings.mel != checkpoint.mel:
        raise ValueError(f"settings.mel is {checkpoint.settings.mel}, and that of the checkpoint {checkpoint.mel}")
    return checkpoint


def _parts(content: Any, whole: Checkpoint) -> dict[str, Checkpoint]:
    """The networks that go with a lip-to-speech network, each of its mel and with nothing beside its weights."""
    _check_type("parts", content, dict)
    if content and whole.kind != "lip2speech":
        raise ValueError(f"parts: in a checkpoint of the task {whole.kind}, and only lip2speech has them")
    parts = {}
    for task, part in content.items():
        if task not in PARTS or not isinstance(part, dict) or part.get("kind") != task:
            raise ValueError(f"parts.{str(task)[:50]}: one network each of {', '.join(PARTS)} was expected")
        if part.get("parts") or part.get("training") or part.get("card"):
            raise ValueError(f"parts.{task}: a network alone was expected, without parts, training or card")
        try:
            parts[task] = _ours(part)
            if parts[task].mel != whole.mel:
                raise ValueError(f"its mel is {parts[task].mel}, and that of the whole {whole.mel}")
        except KeyError as error:
            raise ValueError(f"parts.{task}: {error.args[0]} is missing") from error
        except ValueError as error:
            raise ValueError(f"parts.{task}: {error}") from error
    return parts


def _check_type(name: str, value: Any, expected: type) -> None:
    if type(value) is not expected:
        raise ValueError(f"{name} is a {type(value).__name__}, and {expected.__name__} was expected")


def _check_vocabulary(checkpoint: Checkpoint) -> None:
    pieces = checkpoint.tokenizer.vocabulary_size if checkpoint.tokenizer else None
    if pieces is not None and checkpoint.settings.vocabulary not in (0, pieces):
        raise ValueError(f"the CTC head has {checkpoint.settings.vocabulary} pieces, and the tokenizer {pieces}")


def build_network(checkpoint: Checkpoint, where: str | os.PathLike[str] = "checkpoint") -> Network:
    """The network of a checkpoint, on the CPU, in evaluation mode; `where` names the checkpoint in errors.

    Raises:
        CheckpointError: tensors are missing, too many or misshapen, or the tokenizer has other pieces than the head.
    """
    try:
        _check_vocabulary(checkpoint)
        network = empty_network(checkpoint)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from error
    check_weights(network, checkpoint.weights, where)
    # copies, of the network's own types, since published files hold halves; `to_empty` would import torch's compiler,
    # which takes seconds
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    copies = {name: weight.to(types[name], copy=True) for name, weight in checkpoint.weights.items()}
    network.load_state_dict(copies, assign=True)
    return network.eval()


def empty_network(checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint without memory for its weights (`meta`): nothing is drawn at random, or taken.

    Raises:
        ValueError: no network has these sizes.
    """
    layers = _layers(checkpoint.settings)
    if layers > len(checkpoint.weights):
        raise ValueError(f"{layers} layers, and only {len(checkpoint.weights)} tensors")
    try:
        with torch.device("meta"):
            network: Network = _NETWORKS[checkpoint.kind][0](checkpoint.settings)
    except Exception as error:  # of whatever kind torch finds
        raise ValueError(f"sizes that no network can have: {error}") from error
    return network


def _layers(settings: Settings | VocoderSettings) -> int:
    """What the time to build a network grows with."""
    if isinstance(settings, VocoderSettings):
        return settings.layers
    return (settings.conformer if isinstance(settings, ASRSettings) else settings.visual.conformer).layers


def check_weights(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    where: str | os.PathLike[str],
    also_called: Mapping[str, str] | None = None,
) -> None:
    """Compare names, shapes and types of weights with those a network has.

    Raises:
        CheckpointError: they differ; it says `where`, and names every tensor that is missing, too many, misshapen or
            wrongly typed (the first ten), with what it is `also_called` in a published file.
    """
    wrong = misfits(network.state_dict(), weights, also_called or {})
    if wrong:
        more = f"; and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise CheckpointError(f"{where}: does not fit {type(network).__name__}: {'; '.join(wrong[:10])}{more}")
