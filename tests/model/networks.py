"""Small networks for tests: every part is there, at sizes that a test can afford."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from model.asr import ASRModel, ASRSettings
from model.conformer import ConformerSettings, RelativeAttention
from model.lip_to_speech import LipToSpeech, LipToSpeechSettings
from model.mel import MelSettings
from model.mel_decoder import DecoderSettings
from model.padding import Padding
from model.speaker_encoder import SpeakerSettings
from model.visual_encoder import VisualSettings
from model.vocoders.neural_vocoder import Vocoder, VocoderSettings
from model.vsr import VSRSettings

Network = TypeVar("Network", bound=nn.Module)

VISUAL = VisualSettings(channels=8, conformer=ConformerSettings(layers=2, width=32, heads=4, kernel=7))


def small_lip_to_speech(padding: Padding = "masked") -> LipToSpeech:
    return lively(
        LipToSpeech(
            LipToSpeechSettings(
                visual=VISUAL,
                speaker=SpeakerSettings(channels=(16, 24), width=12),
                decoder=DecoderSettings(width=24, channels=(20,)),
                vocabulary=30,
                padding=padding,
            )
        )
    )


def small_reading_lip_to_speech(padding: Padding = "masked") -> LipToSpeech:
    """With all that the published network has not: patches, intermediate CTC, posteriors for the mel decoder."""
    settings = small_lip_to_speech(padding).settings
    visual = replace(settings.visual, front="patches")
    return lively(LipToSpeech(replace(settings, visual=visual, intermediate_ctc=(1,), posteriors=True)))


def small_vsr_settings(padding: Padding = "masked") -> VSRSettings:
    return VSRSettings(visual=VISUAL, vocabulary=30, padding=padding)


def small_asr(padding: Padding = "masked") -> ASRModel:
    conformer = ConformerSettings(layers=2, width=32, heads=2, kernel=7)
    return lively(ASRModel(ASRSettings(channels=(6, 8), conformer=conformer, vocabulary=30, padding=padding)))


def small_vocoder(mel: MelSettings = MelSettings()) -> Vocoder:
    return lively(Vocoder(VocoderSettings(width=24, layers=2, mel=mel)))


def lively(network: Network) -> Network:
    """The network, in evaluation mode, with scales, shifts and running statistics that are not the identity."""
    if next(network.parameters()).is_meta:
        return network.eval()
    random = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_var", "norm.weight", "norm1.weight", "norm2.weight")):
            tensor.uniform_(0.5, 1.5, generator=random)
        elif name.endswith("running_mean") or (tensor.is_floating_point() and not tensor.any()):
            tensor.normal_(0, 0.2, generator=random)
    return network.eval()


def without_dropout(network: Network) -> Network:
    """The network with every dropout's probability 0, so that training is a function."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, RelativeAttention):
            module.dropout = 0.0
    return network
