"""A micro-batch of clips synthesized by every system of an evaluation: crops and reference utterances to waveforms.

All mels but that of `ceiling_griffin_lim` go through the same vocoder; Griffin-Lim's start phases are seeded by the
clip's key. Waveforms are rounded to 16 bits here, so that what is scored, what an ASR model recognizes and what lies in
the files is the same sound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.asr import ASR, load_asr, recognize_each
from eval.settings import EvaluationSettings
from eval.systems import (
    CEILINGS,
    MEL_SYSTEMS,
    SystemInputs,
    fit_lips,
    mel_of,
    tokenizer_of,
    transforms_of,
    vocoder_of,
    with_partners,
)
from model.checkpoint import Checkpoint
from model.losses import mel_l1_per_clip
from model.mel import clip_mels
from model.segment_sampling import loudest_reference, own_reference, with_references
from model.synthesis import Synthesizer
from model.transforms import transform
from model.vocoders.mel_to_wav import GriffinLimSettings, sample_counts
from pipeline.media.sync import to_pcm16
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, SAMPLES_PER_FRAME
from runtime.threads import sleep_when_busy
from shards import open_dataset
from shards.loading.batch_plan import plan_references
from shards.loading.collate import Batch, BatchReader, Contents, ReadFailure
from shards.loading.planned_batches import MicroBatch

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SynthesizedClip:
    """A clip by every system."""

    key: str
    speaker: str
    text: str | None  # None where it is not known
    frames: int  # video frames that were synthesized
    speaker_reference: str  # the key of the clip that the reference utterance is of; `self` or `file`
    waves: dict[str, Array]  # system -> int16 samples at 16 kHz; the original is always among them, to compare with
    # system -> mean absolute difference of its mel from the ground truth, natural-log units
    l1: dict[str, float] = field(default_factory=dict)
    lips_hypothesis: str | None = None  # what the CTC head of the network read from the lips; None without a tokenizer
    # system -> what the ASR model recognized; empty without one
    hypotheses: dict[str, str] = field(default_factory=dict)
    mels: dict[str, Array] = field(default_factory=dict)  # system -> float32 (n_mels, 4 frames), where they are wanted
    failed: dict[str, dict[str, str]] = field(default_factory=dict)  # system -> figure -> why there is none


@dataclass(frozen=True)
class SynthesizedBatch:
    """The clips of a micro-batch, and those that could not be read."""

    number: int
    clips: list[SynthesizedClip]
    damaged: list[ReadFailure]


class BatchSynthesizer:
    """Synthesizes micro-batches. Two threads may do so at once: while one reads, the networks are the other's.
    `ValueError` where the checkpoint is of another task, or an ASR model cannot be loaded.

    Args:
        file_reference: (n_mels, 50), where the reference utterance is a file's.
        partners: row -> row whose lips it gets; empty without `shuffled_lips`.
        mean_mel: (n_mels,); None without `mean_mel`.
        threads: of the CPU for torch; None: as it is.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: EvaluationSettings,
        file_reference: Tensor | None,
        partners: Mapping[int, int],
        mean_mel: Tensor | None,
        device: str,
        threads: int | None = None,
    ) -> None:
        self._threads, self._settings = threads, settings
        if threads is None and device == "cpu":
            sleep_when_busy()
        self._file_reference, self._partners = file_reference, partners
        self._dataset = dataset = open_dataset(settings.shards)
        transforms, vocoder = transforms_of(checkpoint, dataset), vocoder_of(settings.vocoder, checkpoint.mel, device)
        trained = Synthesizer.from_checkpoint(checkpoint, device, vocoder, transforms, settings.checkpoint)
        trained = replace(trained, precision=settings.precision)
        self._trained = replace(trained, tokenizer=tokenizer_of(checkpoint, dataset))
        self._griffin_lim = replace(trained, vocoder=GriffinLimSettings(mel=checkpoint.mel))
        self._untrained = trained.untrained(settings.seed) if "untrained" in settings.systems else None
        self._mean_mel = mean_mel
        self._asr = None
        if settings.asr is not None:
            self._asr = load_asr(settings.asr, trained.device, self._trained.tokenizer, settings.beam)
        self._clips = BatchReader(dataset, Contents(stored_mel=False), skip=True)
        self._references = BatchReader(dataset, Contents(roi=False), skip=True)
        self._lips = BatchReader(dataset, Contents(sound=False), skip=True)
        self._reading, self._running = Lock(), Lock()

    def synthesize(self, micro_batch: MicroBatch) -> SynthesizedBatch:
        """Every clip of a micro-batch by every system; `StorageError` where the disk or the store failed."""
        if self._threads is not None:
            torch.set_num_threads(self._threads)  # of this thread alone, with OpenMP
        with self._reading:
            batch = self._clips.read(micro_batch)
            references, sources = self._read_references(micro_batch)
            shuffled = self._read_shuffled(micro_batch, batch)
        with self._running, torch.no_grad():
            clips = self._synthesized(batch, references, sources, shuffled) if batch.keys else []
        return SynthesizedBatch(micro_batch.number, clips, batch.skipped)

    def _read_references(self, micro_batch: MicroBatch) -> tuple[dict[str, Tensor], dict[str, str]]:
        """References by key, and by key the name of what they are of."""
        if self._settings.speaker_reference == "self":
            return {}, {}
        rows = [clip.row for clip in micro_batch.clips]
        keys = dict(zip(rows, self._dataset.clip_index.keys_of(rows), strict=True))
        if self._file_reference is not None:
            return dict.fromkeys(keys.values(), self._file_reference), dict.fromkeys(keys.values(), "file")
        references, sources = {}, {}
        for row, single in plan_references(self._dataset.clip_index, [micro_batch]).items():
            batch = self._references.read(single)
            if batch.keys:
                references[keys[row]] = loudest_reference(batch.mel, MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths)[0]
                sources[keys[row]] = batch.keys[0]
        return references, sources

    def _read_shuffled(self, micro_batch: MicroBatch, batch: Batch) -> tuple[Tensor, dict[str, str]] | None:
        """Other clips' lips for those of a batch, and by key why there are none; None if no system asks for them."""
        if not self._partners or not batch.keys:
            return None
        index, lips = self._dataset.clip_index, batch.roi.clone()
        keys = index.keys_of([clip.row for clip in micro_batch.clips])
        by_key = dict(zip(keys, micro_batch.clips, strict=True))
        failures: dict[str, str] = {}
        for at, key in enumerate(batch.keys):
            one = MicroBatch(micro_batch.number, micro_batch.frames, (by_key[key],))
            other = self._lips.read(with_partners(index, one, self._partners))
            if other.keys:
                lips[at] = fit_lips(other.roi, other.lengths, batch.lengths[at : at + 1])[0]
            else:
                failures[key] = f"no other clip's lips: {other.skipped[0].reason}"
        return lips, failures

    def _synthesized(
        self,
        batch: Batch,
        references: Mapping[str, Tensor],
        sources: Mapping[str, str],
        shuffled: tuple[Tensor, dict[str, str]] | None,
    ) -> list[SynthesizedClip]:
        trained, settings, lengths = self._trained, self._settings, MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths
        target = clip_mels(batch.wav.to(trained.device), SAMPLES_PER_FRAME * batch.lengths)
        video, other = (
            None if roi is None else transform(roi.to(trained.device), batch.lengths, None, trained.transforms)
            for roi in (batch.roi, None if shuffled is None else shuffled[0])
        )
        assert video is not None
        reference = with_references(own_reference(target, lengths), batch.keys, references)
        inputs = SystemInputs(trained, self._untrained, self._mean_mel, video, other, batch.lengths, reference, target)
        outputs = {name: mel_of(name, inputs) for name in MEL_SYSTEMS if name in settings.systems}
        mels = {name: mel for name, (mel, _) in outputs.items()}
        waves = {
            name: to_pcm16(
                (self._griffin_lim if name == "ceiling_griffin_lim" else trained).waveforms(mel, lengths, batch.keys)
            )
            for name, mel in mels.items()
        }
        # the ceilings' is 0 by definition, and no figure
        l1 = {
            name: mel_l1_per_clip(mel, target, lengths).tolist() for name, mel in mels.items() if name not in CEILINGS
        }
        read = trained.hypotheses(outputs["network"][1], batch.lengths, settings.beam)
        ends = sample_counts(lengths).tolist()
        clips = []
        for at, key in enumerate(batch.keys):
            failed = {}
            if shuffled is not None and key in shuffled[1]:
                failed["shuffled_lips"] = dict.fromkeys(["l1", *settings.metrics], shuffled[1][key])
            synthesized = [name for name in mels if name not in failed]
            original = to_pcm16(batch.wav[at, : SAMPLES_PER_FRAME * int(batch.lengths[at])].numpy())
            clip = SynthesizedClip(
                key=key,
                speaker=batch.speakers[at],
                text=batch.texts[at],
                frames=int(batch.lengths[at]),
                speaker_reference=sources.get(key, "self"),
                waves={name: waves[name][at, : ends[at]] for name in synthesized} | {"original": original},
                l1={name: l1[name][at] for name in synthesized if name in l1},
                lips_hypothesis=None if read is None else read[at],
                failed=failed,
            )
            if settings.mels:
                clip.mels.update({name: mels[name][at, :, : int(lengths[at])].cpu().numpy() for name in synthesized})
            clips.append(clip)
        if self._asr is not None:
            _recognize(self._asr, clips, settings.systems)
        return clips


def _recognize(asr: ASR, clips: list[SynthesizedClip], systems: list[str]) -> None:
    """Note in the clips what an ASR model recognizes of each system, or why it fails."""
    pairs = [(clip, system) for clip in clips for system in clip.waves if system in systems]
    found = recognize_each(asr, [float_wave(clip.waves[system]) for clip, system in pairs])
    for (clip, system), (text, reason) in zip(pairs, found, strict=True):
        if text is None:
            clip.failed.setdefault(system, {}).update(wer=reason, cer=reason)
        else:
            clip.hypotheses[system] = text


def float_wave(wave: Array) -> Array:
    """int16 samples as float32 in [-1, 1]."""
    return wave.astype(np.float32) / np.float32(32768)
