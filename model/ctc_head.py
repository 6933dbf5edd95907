"""CTC head: features in, a logit for each piece of the vocabulary out (METHOD.md, CTC head)."""

from __future__ import annotations

from torch import nn


class CTCHead(nn.Linear):
    """(B, T, width) -> (B, T, vocabulary) logits; piece 0 is the blank."""

    def __init__(self, width: int = 512, vocabulary: int = 4000) -> None:
        super().__init__(width, vocabulary)
