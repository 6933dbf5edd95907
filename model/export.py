"""A network as one file that torch alone can run, without this package.

program = torch.export.load("network.pt2").module()
mel, logits, features = program(video, lengths, reference)
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.export import Dim

from model.lip_to_speech import LipToSpeech
from model.segment_sampling import WINDOW_FRAMES
from runtime.atomic import atomic_file


def export_lip_to_speech(network: LipToSpeech, path: str | os.PathLike[str], side: int = 112) -> None:
    """Write a network as a `torch.export` program, for batches of any size and clips of 2 to 1500 frames.

    Its inputs are video (B, 1, T, side, side), lengths (B,) and reference (B, n_mels, 50); its outputs the mel
    (B, n_mels, 4 T), the logits (None without a CTC head) and the features. It runs on the device of the network.
    """
    device = next(network.parameters()).device
    inputs = (
        torch.zeros(2, 1, 12, side, side, device=device),
        torch.tensor([12, 9], device=device),
        torch.zeros(2, network.settings.n_mels, WINDOW_FRAMES, device=device),
    )
    batch, frames = Dim("batch", max=4096), Dim("frames", min=2, max=1500)  # a minute
    training = network.training
    try:
        with torch.no_grad():
            shapes = ({0: batch, 2: frames}, {0: batch}, {0: batch})
            program = torch.export.export(_TupleOutput(network).eval(), inputs, dynamic_shapes=shapes)
    finally:
        network.train(training)
    with atomic_file(path) as file:
        torch.export.save(program, file)


class _TupleOutput(nn.Module):
    """Returns a plain tuple: where the program is loaded, our `LipToSpeechOutput` is not known."""

    def __init__(self, network: LipToSpeech) -> None:
        super().__init__()
        self.network = network

    def forward(self, video: Tensor, lengths: Tensor, reference: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        output = self.network(video, lengths, reference)
        return output.mel, output.logits, output.features
