"""Systems that an evaluation compares, by name, and how each comes by the mel of a clip.

`network`        the checkpoint
`shuffled_lips`  the checkpoint given another clip's lips with the right reference: what the reference alone gives
`untrained`      the same network with new weights
`mean_mel`       the mean mel of the training splits for every clip
`ceiling`        the ground-truth mel through the same vocoder: the best that there is to reach
`ceiling_griffin_lim`  the same mel through Griffin-Lim, where the vocoder is a neural one
`original`       the recording itself, for metrics that take one waveform alone

An untrained network alone reaches STOI 0.43 on synthetic speech, so a figure by itself says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from eval.result_schema import SYSTEMS
from eval.settings import OWN, VOCODERS
from model.checkpoint import Checkpoint
from model.lip_to_speech import LipToSpeechSettings
from model.mel import MelSettings
from model.padding import valid_mask
from model.synthesis import Synthesizer
from model.tokenizer import FILE_NAME, Tokenizer
from model.transforms import TransformSettings
from model.vocoders.load_vocoder import load_vocoder
from model.vocoders.mel_to_wav import GriffinLimSettings
from model.vocoders.neural_vocoder import Vocoder
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, N_MELS
from runtime.limits import MAX_TOKENIZER_BYTES
from shards import Dataset
from shards.loading.batch_plan import BatchSettings, plan_epoch
from shards.loading.collate import Contents
from shards.loading.index_view import ClipIndex
from shards.loading.loader import LoaderSettings, load
from shards.loading.planned_batches import MicroBatch, PlannedClip


class SystemInputs(NamedTuple):
    """What systems synthesize a batch of clips with; None for what no system asks for."""

    trained: Synthesizer
    untrained: Synthesizer | None
    mean_mel: Tensor | None  # (n_mels,)
    video: Tensor  # (B, 1, T, size, size)
    shuffled_video: Tensor | None  # as `video`, of another clip in the place of each
    lengths: Tensor  # (B,) video frames, on the CPU
    reference: Tensor  # (B, n_mels, S) of the reference utterances
    target: Tensor  # (B, n_mels, 4T) ground-truth mels


MEL_SYSTEMS = SYSTEMS[:-1]
"""Systems whose mel goes through a vocoder; `original` alone has a waveform of its own."""

CEILINGS = ("ceiling", "ceiling_griffin_lim")
"""Systems of the ground-truth mel."""


def mel_of(system: str, inputs: SystemInputs) -> tuple[Tensor, Tensor | None]:
    """(B, n_mels, 4T) mels that a system of `MEL_SYSTEMS` makes of a batch; (B, T, vocabulary) CTC logits of `network`,
    None of the others."""
    lengths, reference = inputs.lengths, inputs.reference
    match system:
        case "network":
            output = inputs.trained.mels(inputs.video, lengths, reference)
            return output.mel, output.logits
        case "shuffled_lips":
            assert inputs.shuffled_video is not None
            return inputs.trained.mels(inputs.shuffled_video, lengths, reference).mel, None
        case "untrained":
            assert inputs.untrained is not None
            return inputs.untrained.mels(inputs.video, lengths, reference).mel, None
        case "mean_mel":
            assert inputs.mean_mel is not None
            return inputs.mean_mel.to(inputs.target.device)[None, :, None].expand_as(inputs.target), None
        case _:  # the ceilings
            return inputs.target, None


def partners_of(index: ClipIndex, rows: Sequence[int]) -> dict[int, int]:
    """For each row another one of them: of the same speaker where there is one, of nearly the same length.

    Neighbors in length are each other's partners; of an odd number the last three go round. Clips that are alone with
    their speaker are paired among themselves. `ValueError` for a single clip.
    """
    if len(rows) < 2:
        raise ValueError("systems: shuffled_lips takes another clip's lips, and there is a single clip")
    keys, frames = index.keys_of(rows), index.frames[list(rows)].tolist()
    speakers = [index.speaker[0][speaker] for speaker in index.speaker[1][list(rows)]]
    order = sorted(range(len(rows)), key=lambda at: (speakers[at], frames[at], keys[at]))
    groups = [list(group) for _, group in groupby(order, key=lambda at: speakers[at])]
    alone = sorted((group[0] for group in groups if len(group) == 1), key=lambda at: (frames[at], keys[at]))
    partner: dict[int, int] = {}
    for group in [*(group for group in groups if len(group) > 1), alone]:
        for first in range(0, len(group) - 1, 2):
            ring = group[first:] if len(group) - first == 3 else group[first : first + 2]
            partner |= {rows[a]: rows[b] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)}
    if len(alone) == 1:
        mine = rows[alone[0]]
        nearest = min((at for at in order if at != alone[0]), key=lambda at: abs(frames[at] - frames[alone[0]]))
        partner[mine] = rows[nearest]
    return partner


def with_partners(index: ClipIndex, micro_batch: MicroBatch, partners: Mapping[int, int]) -> MicroBatch:
    """The same micro-batch with each clip's partner in its place, cut where the clip itself ends."""
    others = [partners[clip.row] for clip in micro_batch.clips]
    frames = index.frames[others].tolist()
    clips = tuple(
        PlannedClip(other, 0, min(clip.stop, length), None, False)
        for clip, other, length in zip(micro_batch.clips, others, frames, strict=True)
    )
    return MicroBatch(micro_batch.number, micro_batch.frames, clips)


def fit_lips(other: Tensor, other_lengths: Tensor, lengths: Tensor) -> Tensor:
    """Lips of other clips, (B, T, R, R) crops, fitted to the clips in whose place they stand, 0 beyond their lengths: a
    shorter one holds its last frame. `other_lengths` and `lengths` are (B,) frames of them, and of the clips
    themselves."""
    frames = torch.arange(other.shape[1])
    held = other[torch.arange(len(other))[:, None], torch.minimum(frames, (other_lengths - 1)[:, None])]
    return held * valid_mask(lengths, len(frames))[:, :, None, None]


def mean_mel_of(dataset: Dataset, splits: Sequence[str], max_padded_frames: int, workers: int) -> Tensor:
    """(n_mels,) the mean over all mel frames of splits, each clip used whole; `workers` processes read. `DatasetError`
    or `StorageError` where a clip cannot be read."""
    batching = BatchSettings(max_padded_frames=max_padded_frames, long_alone=True)
    planned = plan_epoch(dataset.clip_index, splits, 0, 0, settings=batching)
    total, count = torch.zeros(N_MELS, dtype=torch.float64), 0
    for batch in load(dataset, planned, LoaderSettings(workers, contents=Contents(roi=False))):
        assert batch is not None
        lengths = MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths
        valid = valid_mask(lengths, batch.mel.shape[2], batch.mel.device)[:, None]
        total += batch.mel.double().masked_fill(~valid, 0.0).sum(dim=(0, 2))
        count += int(lengths.sum())
    return (total / count).float()


def vocoder_of(name: str, mel: MelSettings, device: str | torch.device = "cpu") -> GriffinLimSettings | Vocoder | None:
    """The vocoder of a name in `VOCODERS`, or of a checkpoint of the task `vocoder`, for mels of this analysis; None
    for `default` and `own`, which `Synthesizer.from_checkpoint` looks for in the network's file.

    Raises:
        ValueError: there is no such file, or it is damaged, no vocoder, or of another mel; names what differs.
    """
    if name in ("default", OWN):
        return None
    if name in VOCODERS:
        return replace(VOCODERS[name], mel=mel)
    try:
        return load_vocoder(name, mel, device)
    except FileNotFoundError as error:
        expected = f"expected default, {', '.join(VOCODERS)} or a checkpoint of the task vocoder"
        raise ValueError(f"vocoder: {name}: there is no such file; {expected}") from error


def device_of(wanted: str | None, gpus: int | None = None) -> torch.device:
    """What networks run on: a GPU if there is one (`gpus` are free; default: as torch finds them here), unless `wanted`
    is `cpu`; `ValueError` for `cuda` where there is none."""
    found = torch.cuda.is_available() if gpus is None else gpus > 0
    if wanted == "cuda" and not found:
        raise ValueError("device: cuda, and there is no free GPU here: leave it out to run on the CPU")
    return torch.device("cuda" if found and wanted != "cpu" else "cpu")


def transforms_of(checkpoint: Checkpoint, dataset: Dataset) -> TransformSettings:
    """How crops become what the network was trained on. A published file does not say: as published, of this crop.

    `ValueError` where the shards hold crops of another size.
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
    many pieces; None without either. `ValueError` where the dataset's is no SentencePiece model."""
    settings = checkpoint.settings
    if checkpoint.tokenizer is not None or not dataset.store.exists(FILE_NAME):
        return checkpoint.tokenizer
    assert isinstance(settings, LipToSpeechSettings)
    try:
        tokenizer = Tokenizer(dataset.store.read(FILE_NAME, MAX_TOKENIZER_BYTES))
    except ValueError as error:
        raise ValueError(f"{dataset.store.path(FILE_NAME)}: {error}") from error
    return tokenizer if tokenizer.vocabulary_size == settings.vocabulary else None
