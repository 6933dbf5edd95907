"""VSR model (lip reading): the visual encoder with its CTC head, which the task `vsr` trains before lip to speech."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from model.ctc import CTCHead
from model.intermediate_ctc import Reading, check_intermediate, intermediate_ctc
from model.padding import Padding, ValidFrames, check_padding
from model.visual_encoder import VisualEncoder, VisualSettings


@dataclass(frozen=True)
class VSRSettings:
    """Sizes. The defaults are the published ones.

    Attributes:
        visual: of the visual encoder.
        vocabulary: pieces of the tokenizer, the blank among them. 0: no head, as published visual encoders come.
        padding: what frames beyond a clip's length may do.
        intermediate_ctc: layers after which the head also stands (`model.intermediate_ctc`); none, as published.
        units: of the ASR model, that a further head predicts for each frame; 0: there is no such head, as published.
    """

    visual: VisualSettings = field(default_factory=VisualSettings)
    vocabulary: int = 4000
    padding: Padding = "masked"
    intermediate_ctc: tuple[int, ...] = ()
    units: int = 0

    def __post_init__(self) -> None:
        check_padding(self.padding)
        check_intermediate(self.intermediate_ctc, self.visual.conformer.layers)
        if min(self.vocabulary, self.units) < 0:
            raise ValueError(f"vocabulary {self.vocabulary}, units {self.units}: expected 0 or more")


class VSROutput(NamedTuple):
    """What a VSR model returns: features (B, T, width), logits (B, T, vocabulary), and if there are any those of the
    layers of intermediate CTC (layers, B, T, vocabulary), and of units (B, T, units)."""

    features: Tensor
    logits: Tensor
    intermediate: Tensor | None = None
    unit_logits: Tensor | None = None


class VSRModel(nn.Module):
    """(B, 1, T, H, W) -> features and logits, 25 a second."""

    def __init__(self, settings: VSRSettings = VSRSettings()) -> None:
        super().__init__()
        self.settings = settings
        self.visual = VisualEncoder(settings.visual, settings.padding)
        width, vocabulary = settings.visual.conformer.width, settings.vocabulary
        self.head = CTCHead(width, vocabulary) if vocabulary else None
        self.intermediate = intermediate_ctc(settings.intermediate_ctc, vocabulary, width)
        self.unit_head = nn.Linear(width, settings.units) if settings.units else None

    def forward(self, video: Tensor, lengths: Tensor, valid: ValidFrames | None = None) -> VSROutput:
        """Arguments as of `VisualEncoder`; `ValueError` if this one came without a head."""
        if self.head is None:
            raise ValueError("this visual encoder came without a CTC head: it can only initialize another network")
        reading = Reading(self.intermediate, self.head)
        features = self.visual(video, lengths, valid, reading)
        unit_logits = None if self.unit_head is None else self.unit_head(features)
        return VSROutput(features, self.head(features), reading.logits, unit_logits)
