"""The published checkpoints as they are: their names and shapes, mapped to ours in this one place.

A lip-to-speech file holds four state dicts, an ASR file one, a visual-encoder file is a bare state dict
(docs/method.md, Published checkpoints). Sizes are read off the shapes, so files of other sizes do as well, with
80 bands. The large buffers of sinusoids in them are ignored: they are computed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from model.asr import ASRSettings
from model.conformer import ConformerSettings
from model.lip_to_speech import LipToSpeechSettings
from model.mel_decoder import DecoderSettings
from model.speaker_encoder import SpeakerSettings
from model.visual_encoder import VisualSettings
from model.vsr import VSRSettings

LIP_TO_SPEECH_PARTS = {
    "v_front_state_dict": "visual",
    "ctc_layer_state_dict": "head",
    "mel_layer_state_dict": "decoder",
    "sp_layer_state_dict": "speaker",
}
ASR_PART = "asr_model_state_dict"
_A_VISUAL_NAME = "frontend.0.weight"

_IGNORED = re.compile(r"\.MHA\.module\.positional_encoding\.pe$")

_CONFORMER = [
    (r"^(?:conformer\.)?encoder\.layers\.", "conformer.layers."),
    (r"\.feed_forward1\.module\.sequential\.", ".feed_forward_in."),
    (r"\.feed_forward2\.module\.sequential\.", ".feed_forward_out."),
    (r"(\.feed_forward_(?:in|out))\.0\.", r"\1.norm."),
    (r"(\.feed_forward_(?:in|out))\.1\.linear\.", r"\1.expand."),
    (r"(\.feed_forward_(?:in|out))\.4\.linear\.", r"\1.contract."),
    (r"\.MHA\.module\.layer_norm\.", ".attention_norm."),
    (r"\.MHA\.module\.attention\.u_bias$", ".attention.content_bias"),
    (r"\.MHA\.module\.attention\.v_bias$", ".attention.position_bias"),
    (r"\.MHA\.module\.attention\.(query|key|value|out)_proj\.linear\.", r".attention.\1."),
    (r"\.MHA\.module\.attention\.pos_proj\.linear\.", ".attention.position."),
    (r"\.Conv\.module\.sequential\.0\.", ".convolution.norm."),
    (r"\.Conv\.module\.sequential\.2\.conv\.", ".convolution.expand."),
    (r"\.Conv\.module\.sequential\.4\.conv\.", ".convolution.depthwise."),
    (r"\.Conv\.module\.sequential\.5\.", ".convolution.batch_norm."),
    (r"\.Conv\.module\.sequential\.7\.conv\.", ".convolution.contract."),
    (r"^(conformer\.layers\.\d+)\.layer_norm\.", r"\1.norm."),
]
_RULES = {
    "visual": [
        (r"^frontend\.0\.", "front."),
        (r"^frontend\.1\.", "front_norm."),
        (r"^resnet\.resnet\.fc\.", "project."),
        *((rf"^resnet\.resnet\.layer{stage + 1}\.", f"resnet.stages.{stage}.") for stage in range(4)),
        (r"\.bn([12])\.", r".norm\1."),
        (r"\.downsample\.", ".shortcut."),
        (r"\.cbam\.ChannelGate\.mlp\.1\.", ".channel_gate.squeeze."),
        (r"\.cbam\.ChannelGate\.mlp\.3\.", ".channel_gate.excite."),
        (r"\.cbam\.SpatialGate\.spatial\.conv\.", ".spatial_gate.conv."),
        (r"\.cbam\.SpatialGate\.spatial\.bn\.", ".spatial_gate.norm."),
        *_CONFORMER,
    ],
    "asr": [
        (r"^audio_front\.0\.", "conv1."),
        (r"^audio_front\.1\.", "norm1."),
        (r"^audio_front\.3\.", "conv2."),
        (r"^audio_front\.4\.", "norm2."),
        (r"^classifier\.", "head."),
        *_CONFORMER,
    ],
    "speaker": [
        *((rf"^classifier\.{3 * number}\.", f"convs.{number}.") for number in range(3)),
        *((rf"^classifier\.{3 * number + 1}\.", f"norms.{number}.") for number in range(3)),
        (r"^linear\.", "project."),
    ],
    "decoder": [
        (r"^fusion\.0\.", "join."),
        *((rf"^classifier\.{2 * number}\.", f"convs.{number}.") for number in range(3)),
    ],
    "head": [(r"^classifier\.", "")],
}

Settings = LipToSpeechSettings | VSRSettings | ASRSettings


def is_published(content: Any) -> bool:
    """Whether what a file holds looks like one of the published checkpoints."""
    names = (*LIP_TO_SPEECH_PARTS, ASR_PART, _A_VISUAL_NAME)
    return isinstance(content, Mapping) and any(name in content for name in names)


def published_weights(content: Mapping[str, Any]) -> tuple[Settings, dict[str, Tensor], dict[str, str]]:
    """The network of a published file's content, and its weights under our names.

    Returns:
        Settings, with `published` padding; the weights as they are, by our names; and their names of these. What
        is not known is passed on: whoever loads it into a network will name it as too many.

    Raises:
        ValueError: a part is missing or not a state dict, or a tensor that says the sizes is missing or misshapen.
    """
    settings_of: Callable[[Mapping[str, Tensor]], Settings]
    if _A_VISUAL_NAME in content:
        parts, settings_of = {"visual": content}, _visual_only_settings
    elif ASR_PART in content:
        parts, settings_of = {"asr": _part(content, ASR_PART)}, _asr_settings
    else:
        parts = {ours: _part(content, theirs) for theirs, ours in LIP_TO_SPEECH_PARTS.items()}
        settings_of = _lip_to_speech_settings
    weights: dict[str, Tensor] = {}
    published: dict[str, str] = {}
    for part, state in parts.items():
        for name, tensor in state.items():
            if _IGNORED.search(str(name)):
                continue
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{name} is no tensor but a {type(tensor).__name__}")
            ours = our_name(str(name), part) if part == "asr" else f"{part}.{our_name(str(name), part)}"
            if ours in weights:
                raise ValueError(f"{name} and {published[ours]} both mean {ours}")
            if ours.endswith(("convolution.expand.weight", "convolution.contract.weight")) and tensor.dim() == 3:
                tensor = tensor.squeeze(-1)  # published as a convolution of kernel 1, a linear layer here
            weights[ours] = tensor
            published[ours] = str(name)
    try:
        return settings_of(weights), weights, published
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from error


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name not in content:
        raise ValueError(f"{name} is missing; it holds {', '.join(map(str, content))}")
    if not isinstance(content[name], Mapping):
        raise ValueError(f"{name} is no state dict but a {type(content[name]).__name__}")
    return content[name]  # type: ignore[no-any-return]


def our_name(name: str, part: str) -> str:
    """Our name of a published tensor of a part: visual, head, decoder, speaker or asr."""
    for pattern, ours in _RULES[part]:
        name = re.sub(pattern, ours, name)
    return name


def _shape(weights: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    shape = tuple(weights[name].shape)
    if len(shape) != dimensions:
        raise ValueError(f"{name} has the shape {shape}, and should have {dimensions} dimensions")
    return shape


def _conformer_settings(weights: Mapping[str, Tensor], prefix: str) -> ConformerSettings:
    wide, width = _shape(weights, f"{prefix}.layers.0.feed_forward_in.expand.weight", 2)
    return ConformerSettings(
        layers=_count(weights, f"{prefix}.layers"),
        width=width,
        heads=_shape(weights, f"{prefix}.layers.0.attention.content_bias", 2)[0],
        expansion=wide // width,
        kernel=_shape(weights, f"{prefix}.layers.0.convolution.depthwise.weight", 3)[2],
    )


def _count(names: Iterable[str], prefix: str) -> int:
    """The number of layers that are counted 0, 1, 2 ... without a gap."""
    numbers = {int(match[1]) for name in names if (match := re.match(re.escape(prefix) + r"\.(\d+)\.", name))}
    missing = next(number for number in range(len(numbers) + 1) if number not in numbers)
    if missing < len(numbers):
        raise ValueError(f"{prefix}.{missing} is missing, and there is {prefix}.{max(numbers)}")
    return len(numbers)


def _visual_settings(weights: Mapping[str, Tensor]) -> VisualSettings:
    return VisualSettings(
        channels=_shape(weights, "visual.front.weight", 5)[0],
        conformer=_conformer_settings(weights, "visual.conformer"),
    )


def _visual_only_settings(weights: Mapping[str, Tensor]) -> VSRSettings:
    return VSRSettings(visual=_visual_settings(weights), vocabulary=0, padding="published")


def _asr_settings(weights: Mapping[str, Tensor]) -> ASRSettings:
    conformer = _conformer_settings(weights, "conformer")
    second, first = _shape(weights, "conv2.weight", 4)[:2]
    return ASRSettings(
        channels=(first, second),
        conformer=conformer,
        vocabulary=_shape(weights, "head.weight", 2)[0],
        padding="published",
    )


def _lip_to_speech_settings(weights: Mapping[str, Tensor]) -> LipToSpeechSettings:
    return LipToSpeechSettings(
        visual=_visual_settings(weights),
        speaker=SpeakerSettings(
            channels=tuple(_shape(weights, f"speaker.convs.{number}.weight", 3)[0] for number in range(3)),
            width=_shape(weights, "speaker.project.weight", 2)[0],
        ),
        decoder=DecoderSettings(
            width=_shape(weights, "decoder.join.weight", 2)[0],
            channels=tuple(_shape(weights, f"decoder.convs.{number}.weight", 3)[0] for number in range(2)),
        ),
        vocabulary=_shape(weights, "head.weight", 2)[0],
        padding="published",
    )
