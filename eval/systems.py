"""The networks of a checkpoint: which there are, on what device, and what pictures and pieces they know."""

from __future__ import annotations

import torch

from model.checkpoint import Checkpoint, build_network
from model.lip_to_speech import LipToSpeech, LipToSpeechSettings
from model.tokenizer import FILE_NAME, Tokenizer
from model.transforms import TransformSettings
from shards import Dataset


def check_recipe(checkpoint: Checkpoint, where: str, recipe: str) -> None:
    """`ValueError` unless a checkpoint is of this recipe; `where` names it."""
    if checkpoint.kind != recipe:
        raise ValueError(f"{where}: a network of the task {checkpoint.kind}, and {recipe} was expected")


def lip_to_speech_of(checkpoint: Checkpoint, where: str) -> LipToSpeech:
    """The network of a checkpoint, for evaluation.

    Raises:
        ValueError: a checkpoint of another recipe; `where` names it.
    """
    check_recipe(checkpoint, where, "lip2speech")
    network = build_network(checkpoint, where)
    assert isinstance(network, LipToSpeech)
    return network


def networks_of(checkpoint: Checkpoint, where: str, seed: int) -> dict[str, LipToSpeech]:
    """`network` of a checkpoint, and `untrained`, the same with new weights, both for evaluation.

    Raises:
        ValueError: a checkpoint of another recipe; `where` names it.
    """
    trained = lip_to_speech_of(checkpoint, where)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = LipToSpeech(trained.settings)
    return {"network": trained, "untrained": untrained.eval()}


def device_of(wanted: str | None, gpus: int | None = None) -> torch.device:
    """What networks run on: a GPU if there is one, unless the CPU is wanted.

    Args:
        wanted: `cpu`, `cuda`, or None for either.
        gpus: how many are free; default: as torch finds them here.

    Raises:
        ValueError: `cuda`, and there is none.
    """
    found = torch.cuda.is_available() if gpus is None else gpus > 0
    if wanted == "cuda" and not found:
        raise ValueError("device: cuda, and there is no free GPU here: leave it out to run on the CPU")
    return torch.device("cuda" if found and wanted != "cpu" else "cpu")


def pictures_of(checkpoint: Checkpoint, dataset: Dataset) -> TransformSettings:
    """What pictures a network was trained on. A published file does not say: the published ones, of the shards' crop.

    Raises:
        ValueError: the shards hold lip regions of another size.
    """
    crop_radius = dataset.manifest.features["crop"]["crop_radius"]
    pictures = checkpoint.transforms or TransformSettings(crop_radius=crop_radius)
    if pictures.crop_radius != crop_radius:
        raise ValueError(
            f"{dataset.store.url}: lip regions of crop_radius {crop_radius}, and the network was trained on "
            f"{pictures.crop_radius}"
        )
    return pictures


def tokenizer_of(checkpoint: Checkpoint, dataset: Dataset) -> Tokenizer | None:
    """The pieces that a network's CTC head means: its own tokenizer, or, since a published file has none, the dataset's
    if it has as many; None where neither is there.

    Raises:
        ValueError: the dataset's is no SentencePiece model.
    """
    settings = checkpoint.settings
    if checkpoint.tokenizer is not None or not dataset.store.exists(FILE_NAME):
        return checkpoint.tokenizer
    assert isinstance(settings, LipToSpeechSettings)
    tokenizer = Tokenizer(dataset.store.read(FILE_NAME))
    return tokenizer if tokenizer.vocabulary_size == settings.vocabulary else None
