"""Published checkpoints for tests, small: their names, shapes and types, with weights of our networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.asr import ASRModel
from model.lip_to_speech import LipToSpeech
from model.published import LIP_TO_SPEECH_PARTS, our_name
from tests.model.networks import lively, small_asr, small_lip_to_speech


# Published names of the smallest networks that have every kind of tensor, by our names of them.
def _published_names(part: str, ours: list[str]) -> dict[str, str]:
    """theirs -> ours, for the tensors of a part, found by asking `our_name` about every name that it may have there."""
    candidates = [
        name
        for layer in range(2)
        for stem in ("conformer.encoder", "encoder")
        for name in _conformer_names(f"{stem}.layers.{layer}")
        if (stem == "encoder") == (part == "asr")
    ]
    suffixes = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    candidates += [f"{stem}.{number}.{suffix}" for stem in ("classifier", "fusion", "frontend", "audio_front")
                   for number in range(8) for suffix in suffixes]  # fmt: skip
    candidates += [f"{stem}.{suffix}" for stem in ("classifier", "linear", "embed", "resnet.resnet.fc")
                   for suffix in suffixes]  # fmt: skip
    blocks = [f"resnet.resnet.layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    leaves = ("conv1", "conv2", "bn1", "bn2", "downsample.0", "downsample.1", "cbam.ChannelGate.mlp.1",
              "cbam.ChannelGate.mlp.3", "cbam.SpatialGate.spatial.conv", "cbam.SpatialGate.spatial.bn")  # fmt: skip
    candidates += [f"{block}.{leaf}.{suffix}" for block in blocks for leaf in leaves for suffix in suffixes]
    found = {our_name(name, part): name for name in candidates}
    return {found[name]: name for name in ours}


def _conformer_names(layer: str) -> list[str]:
    modules = [f"feed_forward{n}.module.sequential.{m}" for n in (1, 2) for m in ("0", "1.linear", "4.linear")]
    modules += [f"MHA.module.attention.{name}_proj.linear" for name in ("query", "key", "value", "pos", "out")]
    modules += [f"Conv.module.sequential.{m}" for m in ("0", "2.conv", "4.conv", "5", "7.conv")]
    modules += ["MHA.module.layer_norm", "layer_norm"]
    suffixes = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = [f"{layer}.{module}.{suffix}" for module in modules for suffix in suffixes]
    return names + [f"{layer}.MHA.module.attention.{bias}_bias" for bias in "uv"]


def published_state(part: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as a published file has it: their names, convolutions of kernel 1, half floats, sinusoids."""
    theirs = {}
    for name, ours in _published_names(part, list(state)).items():
        tensor = state[ours]
        pointwise = ours.endswith(("convolution.expand.weight", "convolution.contract.weight"))
        tensor = tensor[..., None] if pointwise else tensor
        theirs[name] = tensor.half() if tensor.is_floating_point() else tensor
    if part in ("visual", "asr"):
        stem = "conformer.encoder" if part == "visual" else "encoder"
        theirs[f"{stem}.layers.0.MHA.module.positional_encoding.pe"] = torch.zeros(1, 10_000, 32)
    return theirs


def published_file(path: Path, settings_of: str = "lip2speech") -> tuple[LipToSpeech | ASRModel, dict[str, Any]]:
    """Write one of the task `lip2speech` or `asr`; the network, and what the file holds."""
    if settings_of == "asr":
        asr_model = small_asr("published").half().float()
        content: dict[str, Any] = {"asr_model_state_dict": published_state("asr", asr_model.state_dict())}
        torch.save(content, path)
        return asr_model, content
    network = _three_convolutions().half().float()
    content = {
        key: published_state(part, network.get_submodule(part).state_dict())
        for key, part in LIP_TO_SPEECH_PARTS.items()
    }
    torch.save(content, path)
    return network, content


def _three_convolutions() -> LipToSpeech:
    """Small, but with as many convolutions in speaker encoder and decoder as the published ones have."""
    settings = small_lip_to_speech("published").settings
    speaker = dataclasses.replace(settings.speaker, channels=(16, 24, 20))
    decoder = dataclasses.replace(settings.decoder, channels=(20, 12))
    return lively(LipToSpeech(dataclasses.replace(settings, speaker=speaker, decoder=decoder)))
