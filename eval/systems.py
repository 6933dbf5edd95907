"""Systems that an evaluation compares, by name, and how each comes by the mel of a clip.

`network`        the checkpoint
`shuffled_lips`  the checkpoint given another clip's lips with the right reference: what the reference alone gives
`untrained`      the same network with new weights
`mean_mel`       the mean mel of the training splits for every clip
`ceiling`        the ground-truth mel through the same vocoder: the best that there is to reach
`original`       the recording itself, for metrics that take one waveform alone

An untrained network alone reaches STOI 0.43 on synthetic speech, so a figure by itself says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.lip_to_speech import LipToSpeechSettings
from model.padding import valid_mask
from model.synthesis import Synthesizer
from model.tokenizer import FILE_NAME, Tokenizer
from model.transforms import TransformSettings
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, N_MELS
from shards import Dataset
from shards.loading.batch_plan import BatchSettings, plan_epoch
from shards.loading.collate import Contents
from shards.loading.loader import LoaderSettings, load


class SystemInputs(NamedTuple):
    """What systems are given of a batch of clips.

    Attributes:
        video, shuffled_video: (B, 1, T, size, size) of each clip, and of another clip in its place; None if no system
            asks for it.
        lengths: (B,) video frames, on the CPU.
        reference: (B, n_mels, S) of the reference utterances.
        target: (B, n_mels, 4T) ground-truth mels.
    """

    video: Tensor
    shuffled_video: Tensor | None
    lengths: Tensor
    reference: Tensor
    target: Tensor


class SystemOutput(NamedTuple):
    """(B, n_mels, 4T) mels of a batch; (B, T, vocabulary) CTC logits where a network read the lips."""

    mel: Tensor
    logits: Tensor | None = None


@dataclass(frozen=True)
class Models:
    """What systems synthesize with; None for what no system asks for.

    Attributes:
        trained, untrained: of the checkpoint, and of its network with new weights.
        mean_mel: (n_mels,).
    """

    trained: Synthesizer
    untrained: Synthesizer | None
    mean_mel: Tensor | None


def _network(models: Models, inputs: SystemInputs) -> SystemOutput:
    output = models.trained.mels(inputs.video, inputs.lengths, inputs.reference)
    return SystemOutput(output.mel, output.logits)


def _shuffled_lips(models: Models, inputs: SystemInputs) -> SystemOutput:
    assert inputs.shuffled_video is not None
    return SystemOutput(models.trained.mels(inputs.shuffled_video, inputs.lengths, inputs.reference).mel)


def _untrained(models: Models, inputs: SystemInputs) -> SystemOutput:
    assert models.untrained is not None
    return SystemOutput(models.untrained.mels(inputs.video, inputs.lengths, inputs.reference).mel)


def _mean_mel(models: Models, inputs: SystemInputs) -> SystemOutput:
    assert models.mean_mel is not None
    return SystemOutput(models.mean_mel.to(inputs.target.device)[None, :, None].expand_as(inputs.target))


def _ceiling(_: Models, inputs: SystemInputs) -> SystemOutput:
    return SystemOutput(inputs.target)


MEL_SYSTEMS: dict[str, Callable[[Models, SystemInputs], SystemOutput]] = {
    "network": _network,
    "shuffled_lips": _shuffled_lips,
    "untrained": _untrained,
    "mean_mel": _mean_mel,
    "ceiling": _ceiling,
}
"""Systems whose mel goes through the vocoder; `original` alone has a waveform of its own."""


def mean_mel_of(dataset: Dataset, splits: Sequence[str], max_padded_frames: int, workers: int) -> Tensor:
    """(n_mels,) the mean over all mel frames of splits, each clip used whole.

    Args:
        dataset: of the splits.
        splits: that the network may have been trained on.
        max_padded_frames: of a batch; longer clips are batches of their own.
        workers: processes that read.

    Raises:
        DatasetError, StorageError: a clip cannot be read.
    """
    batching = BatchSettings(max_padded_frames=max_padded_frames, long_alone=True)
    planned = plan_epoch(dataset.index, splits, 0, 0, settings=batching)
    total, count = torch.zeros(N_MELS, dtype=torch.float64), 0
    for batch in load(dataset, planned, LoaderSettings(workers, contents=Contents(roi=False))):
        assert batch is not None
        lengths = MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths
        valid = valid_mask(lengths, batch.mel.shape[2], batch.mel.device)[:, None]
        total += batch.mel.double().masked_fill(~valid, 0.0).sum(dim=(0, 2))
        count += int(lengths.sum())
    return (total / count).float()


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


def transforms_of(checkpoint: Checkpoint, dataset: Dataset) -> TransformSettings:
    """How crops become what the network was trained on. A published file does not say: as published, of this crop.

    Raises:
        ValueError: the shards hold crops of another size.
    """
    crop_radius = dataset.manifest.features["crop"]["crop_radius"]
    transforms = checkpoint.transforms or TransformSettings(crop_radius=crop_radius)
    if transforms.crop_radius != crop_radius:
        raise ValueError(
            f"{dataset.store.url}: lip regions of crop_radius {crop_radius}, and the network was trained on "
            f"{transforms.crop_radius}"
        )
    return transforms


def tokenizer_of(checkpoint: Checkpoint, dataset: Dataset) -> Tokenizer | None:
    """The tokenizer of a network's CTC head: its own, or, since a published file has none, the dataset's if it has as
    many pieces; None without either.

    Raises:
        ValueError: the dataset's is no SentencePiece model.
    """
    settings = checkpoint.settings
    if checkpoint.tokenizer is not None or not dataset.store.exists(FILE_NAME):
        return checkpoint.tokenizer
    assert isinstance(settings, LipToSpeechSettings)
    tokenizer = Tokenizer(dataset.store.read(FILE_NAME))
    return tokenizer if tokenizer.vocabulary_size == settings.vocabulary else None
