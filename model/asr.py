"""ASR model (CTC): mel in, logits and the features that the output content loss compares out (docs/method.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from model.conformer import AfterLayer, Conformer, ConformerSettings
from model.ctc import CTCHead
from model.intermediate_ctc import Reading, check_intermediate, intermediate_ctc
from model.padding import Padding, check_padding, norm_frames, valid_mask, valid_positions
from runtime.constants import N_MELS

_Size = TypeVar("_Size", int, Tensor)


@dataclass(frozen=True)
class ASRSettings:
    """Sizes. The defaults are the published ones.

    Attributes:
        channels: of the two convolutions.
        conformer: its sizes; its width is that of the features.
        vocabulary: pieces of the tokenizer, the blank among them.
        n_mels: bands of the mel.
        padding: what frames beyond a clip's length may do.
        intermediate_ctc: layers after which the head also stands (`model.intermediate_ctc`); none, as published.
        units: clusters of its features (`train.units`); 0: it has none.
        unit_layer: of the Conformer, counted from 1, whose output was clustered.
    """

    channels: tuple[int, int] = (128, 256)
    conformer: ConformerSettings = field(default_factory=lambda: ConformerSettings(layers=6, heads=4))
    vocabulary: int = 4000
    n_mels: int = N_MELS
    padding: Padding = "masked"
    intermediate_ctc: tuple[int, ...] = ()
    units: int = 0
    unit_layer: int = 1

    def __post_init__(self) -> None:
        check_padding(self.padding)
        check_intermediate(self.intermediate_ctc, self.conformer.layers)
        if min(*self.channels, self.n_mels, self.vocabulary) < 1 or self.units < 0:
            found = f"channels {self.channels}, n_mels {self.n_mels}, vocabulary {self.vocabulary}, units {self.units}"
            raise ValueError(f"{found}: expected 1 or more, and units 0 or more")
        if self.unit_layer < 1 or (self.units and self.unit_layer > self.conformer.layers):
            raise ValueError(f"unit_layer: {self.unit_layer}, and the Conformer has {self.conformer.layers} layers")


class ASROutput(NamedTuple):
    """What an ASR model returns: logits (B, S / 4, vocabulary), features (B, S / 4, width), lengths (B,) of both, and
    the logits of the layers of intermediate CTC (layers, B, S / 4, vocabulary), if there are any."""

    logits: Tensor
    features: Tensor
    lengths: Tensor
    intermediate: Tensor | None = None


class ASRModel(nn.Module):
    """(B, n_mels, S) -> logits and features at a quarter of the rate, 25 a second."""

    unit_scale: Tensor
    unit_centroids: Tensor

    def __init__(self, settings: ASRSettings = ASRSettings()) -> None:
        super().__init__()
        self.settings = settings
        first, second = settings.channels
        width = settings.conformer.width
        self.conv1 = nn.Conv2d(1, first, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm1d(first)
        self.conv2 = nn.Conv2d(first, second, 3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm1d(second)
        self.embed = nn.Linear(second * halved(halved(settings.n_mels)), width)
        self.conformer = Conformer(settings.conformer, settings.padding)
        self.head = CTCHead(width, settings.vocabulary)
        self.intermediate = intermediate_ctc(settings.intermediate_ctc, settings.vocabulary, width)
        if settings.units:  # no parameters: they are found once the network is trained
            self.register_buffer("unit_scale", torch.ones(width))
            self.register_buffer("unit_centroids", torch.zeros(settings.units, width))

    def forward(self, mel: Tensor, lengths: Tensor, valid: tuple[Tensor, Tensor] | None = None) -> ASROutput:
        """What stands beyond a clip's length in the output means nothing.

        Args:
            mel: (B, n_mels, S), the network's mel.
            lengths: (B,) mel frames of each clip, at least 1.
            valid: `valid_after_convolutions`, for masked training; by default they are looked for here.
        """
        reading = Reading(self.intermediate, self.head)
        features, lengths = self._encode(mel, lengths, valid, reading)
        return ASROutput(self.head(features), features, lengths, reading.logits)

    def features_after(self, layer: int, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S / 4, width), what a layer of the Conformer, counted from 1, makes of mels, and their lengths (B,)."""
        return self._encode(mel, lengths, None, Reading(self.intermediate, self.head), layer)

    def units(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """int64 (B, S / 4): the cluster of each frame; arguments as of `forward`. `ValueError` if there are none."""
        if not self.settings.units:
            raise ValueError("this ASR model has no units: `python -m train units` finds them")
        features, _ = self.features_after(self.settings.unit_layer, mel, lengths)
        return torch.cdist(features.float() * self.unit_scale, self.unit_centroids[None]).argmin(dim=-1)

    def _encode(
        self,
        mel: Tensor,
        lengths: Tensor,
        valid: tuple[Tensor, Tensor] | None,
        after_layer: AfterLayer,
        layers: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Features after so many layers of the Conformer, all by default, and the lengths of them."""
        if not self.training or self.settings.padding == "published":
            valid = None
        elif valid is None:
            valid = valid_after_convolutions(lengths, mel.shape[-1], mel.device)
        first, second = valid or (None, None)
        x, lengths = self._halve(mel[:, None], lengths, self.conv1, self.norm1, first)
        x, lengths = self._halve(x, lengths, self.conv2, self.norm2, second)
        embedded = self.embed(rearrange(x, "b channels bands s -> b s (channels bands)"))
        return self.conformer(embedded, lengths, second, after_layer, layers), lengths

    def _halve(
        self, x: Tensor, lengths: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm1d, valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(B, C, bands, S) -> (B, C', bands / 2, S / 2), and the lengths halved likewise."""
        if self.settings.padding == "masked":
            x = x.masked_fill(~valid_mask(lengths, x.shape[-1], x.device)[:, None, None], 0.0)
        x, lengths = conv(x), halved(lengths)
        if valid is not None:
            x = norm_frames(norm, rearrange(x, "b c bands s -> b s c bands"), valid)
            x = rearrange(x, "b s c bands -> b c bands s")
        else:
            x = norm(x.flatten(2)).view_as(x)
        return F.relu(x), lengths


def valid_after_convolutions(lengths: Tensor, mel_frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`valid_positions` at half and at a quarter of the mel's rate; arguments as there, of the mel."""
    lengths, frames = halved(lengths), halved(mel_frames)
    return valid_positions(lengths, frames, device), valid_positions(halved(lengths), halved(frames), device)


def halved(size: _Size) -> _Size:
    """What a 3-wide convolution of stride 2 leaves of a size: half, rounded up."""
    return (size + 1) // 2
