"""The `vsr` task, visual speech recognition: a visual encoder learns lip reading by CTC, to initialize `lip2speech`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from model.padding import valid_frames
from model.segment_sampling import whole_windows
from model.transforms import draw_augmentation, transform
from model.vsr import VSRModel, VSRSettings
from shards.loading.collate import Batch, Contents
from train.tasks.ctc import CtcOutput, CtcTask


@dataclass
class VSRTask(CtcTask):
    """Lip regions to text."""

    validation_contents: ClassVar[Contents] = Contents(sound=False)

    @property
    def contents(self) -> Contents:
        return Contents(sound=self.asr is not None)

    def build_model(self) -> VSRModel:
        """A lip reader whose visual encoder is that of `network`."""
        network = self.settings.network
        sizes = network.visual, self.tokenizer.vocabulary_size, network.padding
        return VSRModel(VSRSettings(*sizes, network.intermediate_ctc, network.units))

    def forward(self, network: Any, batch: Batch, seed: int | None) -> CtcOutput:
        augmentation = None
        if seed is not None:  # masked frames may lie anywhere in a segment: here all of it is the window
            generator = torch.Generator().manual_seed(seed)
            augmentation = draw_augmentation(*whole_windows(batch.lengths), generator, self.settings.transforms)
        roi = batch.roi.to(self.device, non_blocking=True)
        video = transform(roi, batch.lengths, augmentation, self.settings.transforms)
        valid = valid_frames(batch.lengths, roi.shape[1], self.device)
        with self.autocast():
            output = network(video, batch.lengths, valid)
        return CtcOutput(output.logits, batch.lengths, output.intermediate, output.unit_logits)

    def dummy_inputs(self) -> tuple[Tensor, ...]:
        size = self.settings.transforms.size
        return torch.zeros(1, 1, 5, size, size, device=self.device), torch.tensor([5])
