"""Speak a micro-batch: pictures of lips and a voice in, waveforms of every system out.

The network, the same network with new weights, and the true mel go through the same vocoder, with start phases seeded
by the clip's key. Waveforms are rounded to 16 bits here, so that what is scored, what is heard by a recogniser and what
lies in the files is the same sound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.asr import ASRModel, load_asr
from eval.metrics import PackageMissingError
from eval.reference import OF_VOICES, lenders_of, loudest, own_voices, references_of
from eval.settings import VOCODERS, EvaluationSettings
from eval.systems import networks_of, pictures_of, tokenizer_of
from eval.targets import l1_of, true_mels, waves_of
from model.checkpoint import Checkpoint
from model.ctc import greedy
from model.segment_sampling import SegmentSettings
from model.transforms import transform
from model.vocoders.mel_to_wav import sample_counts
from pipeline.media.sync import to_pcm16
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, SAMPLES_PER_FRAME
from shards import open_dataset
from shards.loading.batch_plan import MicroBatch
from shards.loading.batch_reader import BatchReader
from shards.loading.collate import Batch, Contents, ReadFailure

Array = np.ndarray[Any, Any]
_REFERENCE = SegmentSettings().reference_frames


@dataclass(frozen=True)
class SynthesizedClip:
    """A clip by every system.

    Attributes:
        key, speaker, text: of the clip; the text is None where it is not known.
        frames: video frames that were spoken.
        speaker_reference: the key of the clip that lent its voice; `self` or `file`.
        waves: system -> int16 samples at 16 kHz.
        l1: system -> mean absolute difference of its mel from the true one, natural-log units.
        hypotheses: system -> what the ASR model recognized; empty without one.
        asr_failures: system -> why the ASR model failed.
        lips_hypothesis: what the CTC head of the network read from the lips; None where its pieces are not known.
        mels: system -> float32 (n_mels, 4 frames), where they are wanted.
    """

    key: str
    speaker: str
    text: str | None
    frames: int
    speaker_reference: str
    waves: dict[str, Array]
    l1: dict[str, float]
    hypotheses: dict[str, str]
    asr_failures: dict[str, str]
    lips_hypothesis: str | None
    mels: dict[str, Array]


@dataclass(frozen=True)
class SynthesizedBatch:
    """The clips of a micro-batch, and those that could not be read."""

    number: int
    clips: list[SynthesizedClip]
    damaged: list[ReadFailure]


class Synthesizer:
    """Speaks micro-batches. Two threads may speak at once: while one reads, the networks are the other's.

    Args:
        checkpoint: of a lip-to-speech network.
        settings: of the evaluation.
        file_voice: (1, n_mels, 50), where the voice is that of a file.
        device: for networks and vocoder.
        threads: of the CPU for torch; None: as it is.

    Raises:
        ValueError: the checkpoint is of another recipe, or a recogniser cannot be loaded.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: EvaluationSettings,
        file_voice: Tensor | None,
        device: str,
        threads: int | None = None,
    ) -> None:
        self._threads = threads
        self._settings, self._file_voice = settings, file_voice
        self._device = torch.device(device)
        self._dataset = open_dataset(settings.shards)
        networks = networks_of(checkpoint, settings.checkpoint, settings.seed)
        self._networks = {name: network.to(self._device) for name, network in networks.items()}
        self._tokenizer = tokenizer_of(checkpoint, self._dataset)
        self._pictures = pictures_of(checkpoint, self._dataset)
        self._recogniser = None
        if settings.asr is not None:
            self._recogniser = load_asr(settings.asr, self._device, self._tokenizer, settings.beam)
        self._clips = BatchReader(self._dataset, Contents(stored_mel=False), skip=True)
        self._voices = BatchReader(self._dataset, OF_VOICES, skip=True)
        self._reading, self._speaking = Lock(), Lock()

    def speak(self, micro_batch: MicroBatch) -> SynthesizedBatch:
        """Every clip of a micro-batch by every system.

        Raises:
            StorageError: the disk or the store failed.
        """
        if self._threads is not None:
            torch.set_num_threads(self._threads)  # of this thread alone, with OpenMP
        with self._reading:
            batch = self._clips.read(micro_batch)
            voices, lent_by = self._read_voices(micro_batch)
        with self._speaking, torch.no_grad():
            clips = self._spoken(batch, voices, lent_by) if batch.keys else []
        return SynthesizedBatch(micro_batch.number, clips, batch.skipped)

    def _read_voices(self, micro_batch: MicroBatch) -> tuple[dict[str, Tensor], dict[str, str]]:
        """References by key, and by key the name of what they are of."""
        keys = {clip.row: self._dataset.index["key"][clip.row].as_py() for clip in micro_batch.clips}
        if self._settings.speaker_reference == "self":
            return {}, {}
        if self._file_voice is not None:
            return dict.fromkeys(keys.values(), self._file_voice[0]), dict.fromkeys(keys.values(), "file")
        voices, lent_by = {}, {}
        for row, lender in lenders_of(self._dataset, [micro_batch]).items():
            batch = self._voices.read(lender)
            if batch.keys:
                voices[keys[row]] = loudest(batch, _REFERENCE)[0]
                lent_by[keys[row]] = batch.keys[0]
        return voices, lent_by

    def _spoken(self, batch: Batch, voices: Mapping[str, Tensor], lent_by: Mapping[str, str]) -> list[SynthesizedClip]:
        lengths = MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths
        true = true_mels(batch, self._device)
        reference = references_of(batch.keys, voices, own_voices(true, lengths, _REFERENCE))
        video = transform(batch.roi.to(self._device), batch.lengths, None, self._pictures)
        mels, l1 = {"ceiling": true}, dict[str, list[float]]()
        read: list[str | None] = [None] * len(batch.keys)
        for system, network in self._networks.items():
            spoken = network(video, batch.lengths, reference)
            mels[system] = spoken.mel.float()
            l1[system] = l1_of(mels[system], true, lengths).tolist()
            if system == "network" and self._tokenizer is not None:
                read = [self._tokenizer.decode(pieces) for pieces in greedy(spoken.logits.float(), batch.lengths)]
        vocoder = VOCODERS[self._settings.vocoder]
        waves = {system: to_pcm16(waves_of(mel, lengths, batch.keys, vocoder)) for system, mel in mels.items()}
        ends = sample_counts(lengths).tolist()
        clips = [
            SynthesizedClip(
                key=key,
                speaker=batch.speakers[at],
                text=batch.texts[at],
                frames=int(batch.lengths[at]),
                speaker_reference=lent_by.get(key, "self"),
                waves={
                    **{system: wave[at, : ends[at]] for system, wave in waves.items()},
                    "original": to_pcm16(batch.wav[at, : SAMPLES_PER_FRAME * int(batch.lengths[at])].numpy()),
                },
                l1={system: values[at] for system, values in l1.items()},
                hypotheses={},
                asr_failures={},
                lips_hypothesis=read[at],
                mels={name: mel[at, :, : int(lengths[at])].cpu().numpy() for name, mel in mels.items()}
                if self._settings.mels
                else {},
            )
            for at, key in enumerate(batch.keys)
        ]
        return clips if self._recogniser is None else heard_by(self._recogniser, clips)


def heard_by(recogniser: ASRModel, clips: list[SynthesizedClip]) -> list[SynthesizedClip]:
    """The same clips with what a recogniser hears of each system, or why it fails: alone, if not together."""
    pairs = [(at, system) for at, clip in enumerate(clips) for system in clip.waves]
    waves = [float_wave(clips[at].waves[system]) for at, system in pairs]
    heard: list[dict[str, str]] = [{} for _ in clips]
    unheard: list[dict[str, str]] = [{} for _ in clips]
    try:
        texts: list[str | None] = list(recogniser(waves))
    except Exception:
        texts = [None] * len(waves)
    for (at, system), wave, text in zip(pairs, waves, texts, strict=True):
        try:
            heard[at][system] = recogniser([wave])[0] if text is None else text
        except (ImportError, PackageMissingError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            unheard[at][system] = f"{type(error).__name__}: {error}"
    return [replace(clip, hypotheses=of, asr_failures=why) for clip, of, why in zip(clips, heard, unheard, strict=True)]


def float_wave(wave: Array) -> Array:
    """int16 samples as float32 in [-1, 1]."""
    return wave.astype(np.float32) / np.float32(32768)
