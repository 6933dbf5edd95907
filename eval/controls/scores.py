"""What a score is worth: the same clips by a network, and by what has learned nothing or has nothing to learn.

`network`     a checkpoint
`other lips`  the checkpoint, fed another clip's pictures with the right voice: what the voice alone gives
`untrained`   the same network with new weights
`mean mel`    the mean mel of the training set, for every clip
`true mel`    what was said, through the same vocoder: the best that there is to reach

An untrained network alone reaches STOI 0.43 on synthetic speech, so a score by itself says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from eval.controls.lips import lips_of, with_partners
from eval.metrics.pool import ScoringPool
from eval.reference import own_voices, references_of, voices_of
from eval.settings import VOCODERS
from eval.systems import networks_of, pictures_of
from eval.targets import l1_of, true_mels, waves_of
from model.checkpoint import Checkpoint
from model.padding import valid_mask
from model.segment_sampling import SegmentSettings
from model.transforms import transform
from model.vocoders.mel_to_wav import sample_counts
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, N_MELS
from shards import Dataset
from shards.loading.batch_plan import BatchSettings, MicroBatch, plan_epoch, plan_evaluation
from shards.loading.collate import Batch, Contents
from shards.loading.loader import LoaderSettings, load

OF_NETWORKS = ("network", "other lips", "untrained")
FIXED = ("mean mel", "true mel")
CONTROLS = OF_NETWORKS + FIXED
_REFERENCE = SegmentSettings().reference_frames
OF_SOUND = ("stoi", "estoi", "pesq")
SCORES = ("l1", *OF_SOUND)
ControlScores = dict[str, dict[str, dict[str, float]]]
"""Control -> score -> key -> value; what could not be measured is not in it."""


@dataclass(frozen=True)
class TableSettings:
    """What is scored, and how.

    Attributes:
        dataset: of the clips.
        split: of the clips that are scored.
        trained_on: splits that the mean mel is of.
        clips: a fixed part of the split; None: all of it.
        speaker_reference: of another clip of the speaker, or of the clip's own first frames, as published.
        vocoder: a key of `VOCODERS`.
        max_padded_frames: padded video frames of a batch.
        workers: processes that read.
        processes: that score.
        device: for the network and the vocoder.
    """

    dataset: Dataset
    split: str
    trained_on: Sequence[str]
    clips: int | None
    speaker_reference: Literal["other", "self"]
    vocoder: Literal["default", "published"]
    max_padded_frames: int
    workers: int
    processes: int
    device: torch.device


@dataclass(frozen=True)
class Scene:
    """The clips to speak, and their voices: what all checkpoints have in common."""

    settings: TableSettings
    planned: list[MicroBatch]
    voices: dict[str, Tensor]


def set_scene(settings: TableSettings) -> Scene:
    """Plan the clips, and fetch their voices.

    Raises:
        ValueError: there is no such split, or a single clip in it.
    """
    batching = BatchSettings(max_padded_frames=settings.max_padded_frames)
    planned = plan_evaluation(settings.dataset.index, [settings.split], settings=batching, clips=settings.clips)
    with_partners(settings.dataset.index, planned)  # says now what is wrong with it
    if settings.speaker_reference == "self":
        return Scene(settings, planned, {})
    voices = voices_of(settings.dataset, planned, SegmentSettings(), LoaderSettings(settings.workers))
    return Scene(settings, planned, voices)


@torch.no_grad()
def score_network(checkpoint: Checkpoint, scene: Scene, where: str, seed: int = 0) -> ControlScores:
    """Speak every clip by a checkpoint, by the same with other lips, and by its network with new weights.

    Args:
        checkpoint: of a lip-to-speech network.
        scene: the clips.
        where: names the checkpoint in errors.
        seed: of the new weights.

    Raises:
        ValueError: another network.
    """
    settings = scene.settings
    networks = {name: network.to(settings.device) for name, network in networks_of(checkpoint, where, seed).items()}
    pictures = pictures_of(checkpoint, settings.dataset)
    how = LoaderSettings(settings.workers, contents=Contents(stored_mel=False))
    bare = LoaderSettings(settings.workers, contents=Contents(sound=False))
    swapped = load(settings.dataset, with_partners(settings.dataset.index, scene.planned), bare)
    with ScoringPool(OF_SOUND, settings.processes) as scorers:
        sheet = _Sheet(OF_NETWORKS, scorers, settings)
        for batch, other in zip(load(settings.dataset, scene.planned, how), swapped, strict=True):
            assert batch is not None
            assert other is not None
            true = true_mels(batch, settings.device)
            reference = references_of(
                batch.keys, scene.voices, own_voices(true, MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths, _REFERENCE)
            )
            lips, theirs = (
                transform(roi.to(settings.device), batch.lengths, None, pictures)
                for roi in (batch.roi, lips_of(other, batch))
            )
            for control, network, video in (
                ("network", networks["network"], lips),
                ("other lips", networks["network"], theirs),
                ("untrained", networks["untrained"], lips),
            ):
                sheet.score(control, batch, network(video, batch.lengths, reference).mel.float(), true)
        return sheet.figures()


@torch.no_grad()
def score_fixed(scene: Scene) -> ControlScores:
    """Score what does not depend on a checkpoint: the mean mel, and the true ones."""
    settings = scene.settings
    mean = mean_mel(settings).to(settings.device)
    how = LoaderSettings(settings.workers, contents=Contents(roi=False, stored_mel=False))
    with ScoringPool(OF_SOUND, settings.processes) as scorers:
        sheet = _Sheet(FIXED, scorers, settings)
        for batch in load(settings.dataset, scene.planned, how):
            assert batch is not None
            true = true_mels(batch, settings.device)
            sheet.score("mean mel", batch, mean[None, :, None].expand_as(true), true)
            sheet.score("true mel", batch, true, true)
        return sheet.figures()


class _Sheet:
    """Scores of some controls, as they come."""

    def __init__(self, controls: Sequence[str], scorers: ScoringPool, settings: TableSettings) -> None:
        self._scorers = scorers
        self._vocoder = VOCODERS[settings.vocoder]
        self._figures: ControlScores = {control: {score: {} for score in SCORES} for control in controls}

    def score(self, control: str, batch: Batch, mel: Tensor, true: Tensor) -> None:
        """Have the clips of a batch scored: generated and true mels, (B, n_mels, S) both."""
        lengths = MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths
        wavs, originals = waves_of(mel, lengths, batch.keys, self._vocoder), batch.wav.numpy()
        ends = sample_counts(lengths).tolist()
        for number, (key, l1) in enumerate(zip(batch.keys, l1_of(mel, true, lengths).tolist(), strict=True)):
            if l1 == l1:  # a mel that is no number is not measured
                self._figures[control]["l1"][key] = l1
            self._scorers.submit(f"{control}/{key}", originals[number, : ends[number]], wavs[number, : ends[number]])

    def figures(self) -> ControlScores:
        """All scores, once they are there."""
        for name, scored in self._scorers.results().items():
            control, key = name.split("/", 1)
            for score, value in scored.values.items():
                self._figures[control][score][key] = value
        return self._figures


def mean_mel(settings: TableSettings) -> Tensor:
    """(n_mels,) the mean over all frames of the clips that were trained on, each used whole."""
    batching = BatchSettings(max_padded_frames=10 * settings.max_padded_frames)
    planned = plan_epoch(settings.dataset.index, settings.trained_on, 0, 0, settings=batching)
    total, count = torch.zeros(N_MELS, dtype=torch.float64), 0
    for batch in load(settings.dataset, planned, LoaderSettings(settings.workers, contents=Contents(roi=False))):
        assert batch is not None
        lengths = MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths
        there = valid_mask(lengths, batch.mel.shape[2], batch.mel.device)[:, None]
        total += batch.mel.double().masked_fill(~there, 0.0).sum(dim=(0, 2))
        count += int(lengths.sum())
    return (total / count).float()
