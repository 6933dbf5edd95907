"""A network as one file that torch alone can run, without this package.

program = torch.export.load("network.pt2").module()
mel, logits, features = program(video, lengths, reference)
waveform = torch.export.load("vocoder.pt2").module()(mel, 4 * lengths)
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from model.lip_to_speech import LipToSpeech
from model.segment_sampling import WINDOW_FRAMES
from model.vocoders.mel_to_wav import undo_analysis
from model.vocoders.neural_vocoder import Vocoder
from runtime.atomic import atomic_file


def export_lip_to_speech(network: LipToSpeech, path: str | os.PathLike[str], side: int = 112) -> None:
    """Write a network as a `torch.export` program, for batches of any size and clips of 2 to 1500 frames.

    Its inputs are video (B, 1, T, side, side), lengths (B,) and reference (B, n_mels, 50); its outputs the mel
    (B, n_mels, 4 T), the logits (None without a CTC head) and the features. It runs on the device of the network.
    """
    device = next(network.parameters()).device
    inputs: tuple[Tensor, ...] = (
        torch.zeros(2, 1, 12, side, side, device=device),
        torch.tensor([12, 9], device=device),
        torch.zeros(2, network.settings.n_mels, WINDOW_FRAMES, device=device),
    )
    batch, frames = Dim("batch", max=4096), Dim("frames", min=2, max=1500)  # a minute
    shapes = ({0: batch, 2: frames}, {0: batch}, {0: batch})
    _export(network, _TupleOutput(network), inputs, shapes, path)


def export_vocoder(vocoder: Vocoder, path: str | os.PathLike[str]) -> None:
    """Write a vocoder as a `torch.export` program, for batches of any size and mels of 8 to 6000 frames.

    Its inputs are mel (B, n_mels, S) and lengths (B,) in mel frames; its output are waveforms (B, (S - 1) hop_length)
    as they are heard, from the first frame's middle on. It runs on the device of the vocoder.
    """
    device = next(vocoder.parameters()).device
    inputs = torch.zeros(2, vocoder.settings.mel.n_mels, 48, device=device), torch.tensor([48, 36], device=device)
    batch, frames = Dim("batch", max=4096), Dim("frames", min=8, max=6000)
    _export(vocoder, _Heard(vocoder), inputs, ({0: batch, 2: frames}, {0: batch}), path)


def _export(
    network: nn.Module,
    wrapped: nn.Module,
    inputs: tuple[Tensor, ...],
    shapes: tuple[dict[int, Any], ...],
    path: str | os.PathLike[str],
) -> None:
    training = network.training
    try:
        with torch.no_grad():
            program = torch.export.export(wrapped.eval(), inputs, dynamic_shapes=shapes)
    finally:
        network.train(training)
    with atomic_file(path) as file:
        torch.export.save(program, file)


class _Heard(nn.Module):
    """A vocoder with the analysis undone."""

    def __init__(self, vocoder: Vocoder) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        return undo_analysis(self.vocoder(mel, lengths), lengths, self.vocoder.settings.mel)


class _TupleOutput(nn.Module):
    """Returns a plain tuple: where the program is loaded, our `LipToSpeechOutput` is not known."""

    def __init__(self, network: LipToSpeech) -> None:
        super().__init__()
        self.network = network

    def forward(self, video: Tensor, lengths: Tensor, reference: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        output = self.network(video, lengths, reference)
        return output.mel, output.logits, output.features
