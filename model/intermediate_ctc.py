"""Intermediate CTC: the CTC head also stands after earlier layers of a Conformer, and its posteriors are fed back into
those that follow (self-conditioned CTC).

Sources: Lee and Watanabe, Intermediate loss regularization for CTC-based speech recognition, 2021; Nozaki and Komatsu,
Relaxing the conditional independence assumption of CTC-based ASR by conditioning on intermediate predictions, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class IntermediateCTC(nn.Module):
    """The linear layer that feeds posteriors back, and the layers of a Conformer after which it does.

    Args:
        layers: those, counted from 1.
        vocabulary: of the head.
        width: of the Conformer.
    """

    def __init__(self, layers: Sequence[int], vocabulary: int, width: int) -> None:
        super().__init__()
        self.layers = frozenset(layers)
        self.feedback = nn.Linear(vocabulary, width)


def intermediate_ctc(layers: Sequence[int], vocabulary: int, width: int) -> IntermediateCTC | None:
    """The module; None where there is no layer of it, or no head."""
    return IntermediateCTC(layers, vocabulary, width) if layers and vocabulary else None


class Reading:
    """A pass through a Conformer: says what each layer after the first reads (`model.conformer.AfterLayer`).

    Args:
        module: None: every layer reads the output of the one before, and nothing else.
        head: that stands after the last layer.
    """

    def __init__(self, module: IntermediateCTC | None, head: nn.Module | None) -> None:
        self._module, self._head = module, head
        self._logits: list[Tensor] = []

    def __call__(self, layer: int, x: Tensor) -> Tensor:
        if self._module is None or self._head is None or layer not in self._module.layers:
            return x
        logits = self._head(x)
        self._logits.append(logits)
        fed: Tensor = self._module.feedback(logits.softmax(dim=-1))
        return x + fed

    @property
    def logits(self) -> Tensor | None:
        """(layers, B, T, vocabulary), of all layers that the head stood after; None without any."""
        return torch.stack(self._logits) if self._logits else None


def check_intermediate(layers: Sequence[int], of: int) -> None:
    """`ValueError` for numbers that are not those of different layers before the last of so many."""
    if list(layers) != sorted(set(layers)) or not all(0 < layer < of for layer in layers):
        raise ValueError(
            f"intermediate_ctc: {list(layers)}: expected numbers of layers before the last of {of}, from 1 on, in order"
        )
