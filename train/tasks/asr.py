"""The `asr` task: a network learns to recognize ground-truth mels by CTC; `lip2speech` then compares its features.

SpecAugment (Park et al., 2019) masks stretches of time and bands in training.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from model.asr import ASRModel, valid_after_convolutions
from model.spec_augment import draw_masks, mask_mel
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME
from shards.loading.collate import Batch, Contents
from train.tasks.ctc import CtcOutput, CtcTask
from train.tasks.inputs import target_mels


@dataclass
class ASRTask(CtcTask):
    """Mels to text."""

    validation_contents: ClassVar[Contents] = Contents(roi=False)

    def build_model(self) -> ASRModel:
        """The ASR model of the settings, of the tokenizer's vocabulary."""
        return ASRModel(dataclasses.replace(self.settings.asr, vocabulary=self.tokenizer.vocabulary_size))

    def forward(self, network: Any, batch: Batch, seed: int | None) -> CtcOutput:
        lengths = MEL_FRAMES_PER_VIDEO_FRAME * batch.lengths
        cut_lengths = batch.lengths[batch.wav_rows]  # both still lie on the CPU: no GPU has to be waited for
        mel = target_mels(batch.to(self.device, non_blocking=True), cut_lengths)
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            masks = draw_masks(lengths, mel.shape[1], generator, self.settings.spec_augment)
            mel = mask_mel(mel, masks, lengths)
        valid = valid_after_convolutions(lengths, mel.shape[2], self.device)
        with self.autocast():
            output = network(mel, lengths, valid)
        return CtcOutput(output.logits, output.lengths, output.intermediate)

    def dummy_inputs(self) -> tuple[Tensor, ...]:
        return torch.zeros(1, self.settings.asr.n_mels, 20, device=self.device), torch.tensor([20])
