"""What a score is worth: the same clips by a network, and by what has learned nothing or has nothing to learn.

`network`     a checkpoint
`other lips`  the checkpoint, fed another clip's pictures with the right voice: what the voice alone gives
`untrained`   the same network with new weights
`mean mel`    the mean mel of the training set, for every clip
`true mel`    what was said, through the same vocoder: the best that there is to reach

An untrained network alone reaches STOI 0.43 on synthetic speech, so a score by itself says nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from eval.controls.lips import lips_of, with_partners
from eval.metrics.scorers import Scorers
from eval.networks import networks_of, pictures_of, true_mels
from eval.settings import VOCODERS
from eval.voices import own_voices, references_of, voices_of
from model.checkpoint import Checkpoint
from model.losses import mel_l1
from model.padding import mask_of
from model.segments import SegmentSettings
from model.transforms import apply
from model.vocoder import mel_to_wav, samples_of
from shards import Dataset
from shards.format.sample import MEL_BANDS, MEL_PER_FRAME
from shards.reading.batch import Batch, Contents
from shards.reading.loader import LoaderSettings, load
from shards.reading.plan import BatchSettings, MicroBatch, plan_epoch, plan_evaluation

OF_NETWORKS = ("network", "other lips", "untrained")
FIXED = ("mean mel", "true mel")
CONTROLS = OF_NETWORKS + FIXED
_REFERENCE = SegmentSettings().reference_frames
SPEECH = ("stoi", "estoi", "pesq")
SCORES = ("l1", *SPEECH)
Figures = dict[str, dict[str, dict[str, float]]]
"""Control -> score -> key -> value; what could not be measured is not in it."""


@dataclass(frozen=True)
class Work:
    """What is scored, and how.

    Attributes:
        dataset: of the clips.
        split: of the clips that are scored.
        trained_on: splits that the mean mel is of.
        clips: a fixed part of the split; None: all of it.
        voice: of another clip of the speaker, or of the clip's own first frames, as published.
        vocoder: a key of `VOCODERS`.
        max_frames: padded video frames of a batch.
        workers: processes that read.
        processes: that score.
        device: for the network and the vocoder.
    """

    dataset: Dataset
    split: str
    trained_on: Sequence[str]
    clips: int | None
    voice: Literal["other", "self"]
    vocoder: Literal["default", "published"]
    max_frames: int
    workers: int
    processes: int
    device: torch.device


@dataclass(frozen=True)
class Scene:
    """The clips to speak, and their voices: what all checkpoints have in common."""

    work: Work
    planned: list[MicroBatch]
    voices: dict[str, Tensor]


def set_scene(work: Work) -> Scene:
    """Plan the clips, and fetch their voices.

    Raises:
        ValueError: there is no such split, or a single clip in it.
    """
    batching = BatchSettings(max_frames=work.max_frames)
    planned = plan_evaluation(work.dataset.index, [work.split], settings=batching, clips=work.clips)
    with_partners(work.dataset.index, planned)  # says now what is wrong with it
    voices = voices_of(work.dataset, planned, SegmentSettings(), LoaderSettings(work.workers))
    return Scene(work, planned, voices if work.voice == "other" else {})


@torch.no_grad()
def score_network(checkpoint: Checkpoint, scene: Scene, where: str, seed: int = 0) -> Figures:
    """Speak every clip by a checkpoint, by the same with other lips, and by its network with new weights.

    Args:
        checkpoint: of a lip-to-speech network.
        scene: the clips.
        where: names the checkpoint in errors.
        seed: of the new weights.

    Raises:
        ValueError: another network.
    """
    work = scene.work
    networks = {name: network.to(work.device) for name, network in networks_of(checkpoint, where, seed).items()}
    pictures = pictures_of(checkpoint, work.dataset)
    how = LoaderSettings(work.workers, contents=Contents(stored_mel=False))
    bare = LoaderSettings(work.workers, contents=Contents(sound=False))
    swapped = load(work.dataset, with_partners(work.dataset.index, scene.planned), bare)
    with Scorers(SPEECH, work.processes) as scorers:
        sheet = _Sheet(OF_NETWORKS, scorers, work)
        for batch, other in zip(load(work.dataset, scene.planned, how), swapped, strict=True):
            assert batch is not None
            assert other is not None
            true = true_mels(batch, work.device)
            reference = references_of(
                batch.keys, scene.voices, own_voices(true, MEL_PER_FRAME * batch.lengths, _REFERENCE)
            )
            lips, theirs = (
                apply(roi.to(work.device), batch.lengths, None, pictures) for roi in (batch.roi, lips_of(other, batch))
            )
            for control, network, video in (
                ("network", networks["network"], lips),
                ("other lips", networks["network"], theirs),
                ("untrained", networks["untrained"], lips),
            ):
                sheet.score(control, batch, network(video, batch.lengths, reference).mel.float(), true)
        return sheet.figures()


@torch.no_grad()
def score_fixed(scene: Scene) -> Figures:
    """Score what does not depend on a checkpoint: the mean mel, and the true ones."""
    work = scene.work
    mean = mean_mel(work).to(work.device)
    how = LoaderSettings(work.workers, contents=Contents(roi=False, stored_mel=False))
    with Scorers(SPEECH, work.processes) as scorers:
        sheet = _Sheet(FIXED, scorers, work)
        for batch in load(work.dataset, scene.planned, how):
            assert batch is not None
            true = true_mels(batch, work.device)
            sheet.score("mean mel", batch, mean[None, :, None].expand_as(true), true)
            sheet.score("true mel", batch, true, true)
        return sheet.figures()


class _Sheet:
    """Scores of some controls, as they come."""

    def __init__(self, controls: Sequence[str], scorers: Scorers, work: Work) -> None:
        self._scorers = scorers
        self._vocoder = VOCODERS[work.vocoder]
        self._figures: Figures = {control: {score: {} for score in SCORES} for control in controls}

    def score(self, control: str, batch: Batch, mel: Tensor, true: Tensor) -> None:
        """Have the clips of a batch scored: generated and true mels, (B, n_mels, S) both."""
        lengths = MEL_PER_FRAME * batch.lengths
        seeds = [zlib.crc32(key.encode()) for key in batch.keys]
        wavs, originals = mel_to_wav(mel, lengths, seeds, self._vocoder).cpu().numpy(), batch.wav.numpy()
        ends = samples_of(lengths).tolist()
        for number, key in enumerate(batch.keys):
            one = slice(number, number + 1)
            l1 = float(mel_l1(mel[one], true[one], lengths[one], "masked"))
            if l1 == l1:  # a mel that is no number is not measured
                self._figures[control]["l1"][key] = l1
            self._scorers.submit(f"{control}/{key}", originals[number, : ends[number]], wavs[number, : ends[number]])

    def figures(self) -> Figures:
        """All scores, once they are there."""
        for name, scored in self._scorers.results().items():
            control, key = name.split("/", 1)
            for score, value in scored.values.items():
                self._figures[control][score][key] = value
        return self._figures


def mean_mel(work: Work) -> Tensor:
    """(n_mels,) the mean over all frames of the clips that were trained on, each used whole."""
    batching = BatchSettings(max_frames=10 * work.max_frames)
    planned = plan_epoch(work.dataset.index, work.trained_on, 0, 0, settings=batching)
    total, count = torch.zeros(MEL_BANDS, dtype=torch.float64), 0
    for batch in load(work.dataset, planned, LoaderSettings(work.workers, contents=Contents(roi=False))):
        assert batch is not None
        lengths = MEL_PER_FRAME * batch.lengths
        there = mask_of(lengths, batch.mel.shape[2], batch.mel.device)[:, None]
        total += batch.mel.double().masked_fill(~there, 0.0).sum(dim=(0, 2))
        count += int(lengths.sum())
    return (total / count).float()
