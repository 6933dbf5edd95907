"""The `vocoder` task on generated mels: those of a frozen lip-to-speech network in, the recorded waveform out.

Generated mels are smoother than those of speech, and a vocoder that was trained on them scores higher on them: speech
synthesis fine-tunes its vocoders in this way (Kong, Kim and Bae, HiFi-GAN, 2020). The network generates them in the
step, of augmented lips, so that nothing is stored beside the shards (docs/training.md, Vocoder).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from model.lip_to_speech import LipToSpeechOutput
from model.segment_sampling import Windows, take_window
from shards.loading.collate import SILENCE, Batch, Contents
from train.settings import Score
from train.tasks.inputs import prepare
from train.tasks.vocoder import Segments, VocoderTask


@dataclass
class GeneratedVocoderTask(VocoderTask):
    """Generated mels to waveforms."""

    validation_contents: ClassVar[Contents] = Contents(stored_mel=False)
    uses_speaker_reference: ClassVar[bool] = True
    default_best: ClassVar[Score] = "estoi"

    def segments(
        self, batch: Batch, windows: Windows, frames: int, seed: int | None, references: Mapping[str, Tensor]
    ) -> Segments:
        segments = super().segments(batch, windows, frames, seed, references)
        mel = self._generate(batch, seed, references)
        return segments._replace(mel=take_window(mel, *windows, length=frames, dim=2, fill=SILENCE))

    def _generate(self, batch: Batch, seed: int | None, references: Mapping[str, Tensor]) -> Tensor:
        """(B, n_mels, 4 T) mels of whole clips: in training of augmented lips, in validation as they are evaluated."""
        assert self.lip2speech is not None
        inputs = prepare(batch, self.settings, self.device, seed, self.lip2speech.settings.padding)
        reference, lengths = inputs.reference, inputs.reference_lengths
        if seed is None:
            frames = self.settings.segments.reference_frames
            reference, lengths = inputs.references_of(batch.keys, references, frames), None
        with torch.no_grad(), self.autocast():
            output: LipToSpeechOutput = self.lip2speech(inputs.video, inputs.lengths, reference, lengths)
        return output.mel.float()
