"""VSR model (lip reading): the visual encoder with its CTC head, which the task `vsr` trains before lip to speech."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from model.ctc import CTCHead
from model.padding import Padding, ValidFrames, check_padding
from model.visual_encoder import VisualEncoder, VisualSettings


@dataclass(frozen=True)
class VSRSettings:
    """Sizes. The defaults are the published ones.

    Attributes:
        visual: of the visual encoder.
        vocabulary: pieces of the tokenizer, the blank among them. 0: no head, as published visual encoders come.
        padding: what frames beyond a clip's length may do.
    """

    visual: VisualSettings = field(default_factory=VisualSettings)
    vocabulary: int = 4000
    padding: Padding = "masked"

    def __post_init__(self) -> None:
        check_padding(self.padding)
        if self.vocabulary < 0:
            raise ValueError(f"vocabulary {self.vocabulary}: expected 0 or more")


class VSROutput(NamedTuple):
    """What a VSR model returns: features (B, T, width) and logits (B, T, vocabulary)."""

    features: Tensor
    logits: Tensor


class VSRModel(nn.Module):
    """(B, 1, T, H, W) -> features and logits, 25 a second."""

    def __init__(self, settings: VSRSettings = VSRSettings()) -> None:
        super().__init__()
        self.settings = settings
        self.visual = VisualEncoder(settings.visual, settings.padding)
        self.head = CTCHead(settings.visual.conformer.width, settings.vocabulary) if settings.vocabulary else None

    def forward(self, video: Tensor, lengths: Tensor, valid: ValidFrames | None = None) -> VSROutput:
        """Arguments as of `VisualEncoder`; `ValueError` if this one came without a head."""
        if self.head is None:
            raise ValueError("this visual encoder came without a CTC head: it can only initialize another network")
        features = self.visual(video, lengths, valid)
        return VSROutput(features, self.head(features))
