"""What is scored: the networks of a checkpoint, the pictures that they take, and the mels that they are to reach."""

from __future__ import annotations

import torch
from torch import Tensor

from model.checkpoint import Checkpoint, build_network
from model.lip_to_speech import LipToSpeech, LipToSpeechSettings
from model.mel import log_mel_batch
from model.padding import mask_of
from model.tokenizer import FILE_NAME, Tokenizer
from model.transforms import TransformSettings
from shards import Dataset
from shards.format.sample import MEL_PER_FRAME, SAMPLES_PER_FRAME
from shards.reading.batch import SILENCE, Batch


def networks_of(checkpoint: Checkpoint, where: str, seed: int) -> dict[str, LipToSpeech]:
    """`network` of a checkpoint, and `untrained`, the same with new weights, both for evaluation.

    Raises:
        ValueError: a checkpoint of another recipe; `where` names it.
    """
    trained = build_network(checkpoint, where)
    if not isinstance(trained, LipToSpeech):
        raise ValueError(f"{where}: a network of the recipe {checkpoint.kind}, and lip2speech was expected")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = LipToSpeech(trained.settings)
    return {"network": trained, "untrained": untrained.eval()}


def pictures_of(checkpoint: Checkpoint, dataset: Dataset) -> TransformSettings:
    """What pictures a network was trained on. A published file does not say: the published ones, of the shards' crop.

    Raises:
        ValueError: the shards hold lip regions of another size.
    """
    half = dataset.manifest.features["crop"]["half"]
    pictures = checkpoint.transforms or TransformSettings(half=half)
    if pictures.half != half:
        raise ValueError(
            f"{dataset.store.url}: lip regions of half {half}, and the network was trained on half {pictures.half}"
        )
    return pictures


def true_mels(batch: Batch, device: torch.device) -> Tensor:
    """(B, 80, 4T) the mels of the clips as they are used, -1 beyond their lengths."""
    frames = batch.wav.shape[1] // SAMPLES_PER_FRAME * MEL_PER_FRAME
    mel = log_mel_batch(batch.wav.to(device), SAMPLES_PER_FRAME * batch.lengths)[..., :frames]
    return mel.masked_fill(~mask_of(MEL_PER_FRAME * batch.lengths, frames, device)[:, None], SILENCE)


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
