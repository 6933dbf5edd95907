"""What the networks promise besides numbers: shapes, compilation, export, bfloat16, memory layout, first weights."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.asr import ASRModel
from model.conformer import Conformer, ConformerSettings, RelativeAttention, sinusoids
from model.export import export_lip_to_speech
from model.lip_to_speech import LipToSpeech
from model.padding import Padding
from model.resnet import SpatialGate
from model.segment_sampling import Windows, draw_windows, whole_windows
from model.visual_encoder import VisualSettings
from model.vsr import VSRModel, VSRSettings
from tests.model.networks import (
    VISUAL,
    lively,
    small_asr,
    small_lip_to_speech,
    small_reading_lip_to_speech,
    without_dropout,
)

SIDE = 48


def _inputs(count: int = 2, frames: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Video, lengths, reference."""
    random = torch.Generator().manual_seed(count)
    lengths = torch.arange(frames, frames - count, -1)
    video = torch.randn(count, 1, frames, SIDE, SIDE, generator=random)
    return video, lengths, torch.randn(count, 80, 50, generator=random)


@torch.no_grad()
def test_window_is_what_is_generated_and_the_whole_segment_is_read() -> None:
    network, (video, lengths, reference) = small_lip_to_speech(), _inputs(2, 12)
    windows = Windows(torch.tensor([3, 0]), torch.tensor([6, 4]))
    output = network(video, lengths, reference, windows=windows, window_frames=6)
    assert output.mel.shape == (2, 80, 24)
    assert output.logits.shape == (2, 12, 30)
    whole = network(video, lengths, reference)
    assert whole.mel.shape == (2, 80, 48)
    recognized = network.decoder(whole.features[:1, 3:9], network.speaker(reference[:1]), torch.tensor([6]))
    torch.testing.assert_close(output.mel[:1], recognized, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("side", [32, 35, 48, 112])
@pytest.mark.parametrize("build", [small_lip_to_speech, small_reading_lip_to_speech])
def test_lip_region_may_be_of_any_size(side: int, build: Callable[[], LipToSpeech]) -> None:
    network = build()
    output = network(torch.zeros(1, 1, 5, side, side), torch.tensor([5]), torch.zeros(1, 80, 50))
    assert output.mel.shape == (1, 80, 20)
    assert output.mel.isfinite().all()


@pytest.mark.parametrize("padding", ["masked", "published"])
@torch.no_grad()
def test_sizes_are_settings_and_the_default_is_published(padding: Padding) -> None:
    with torch.device("meta"):
        full, asr_model = LipToSpeech(), ASRModel()
    counts = {name: sum(x.numel() for x in part.parameters()) for name, part in full.named_children()}
    assert counts == {"visual": 87_413_720, "head": 2_052_000, "speaker": 893_312, "decoder": 1_959_104}
    assert sum(x.numel() for x in asr_model.parameters()) == 42_910_368
    assert full.settings.padding == asr_model.settings.padding == "masked"
    assert sum(x.numel() for x in small_lip_to_speech(padding).parameters()) < 400_000


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="width 32 cannot have 5 heads"):
        Conformer(ConformerSettings(width=32, heads=5), "masked")
    with pytest.raises(ValueError, match="odd, not 30"):
        ConformerSettings(kernel=30)
    with pytest.raises(ValueError, match="without a CTC head"):
        VSRModel(VSRSettings(visual=VISUAL, vocabulary=0))(*_inputs()[:2])


@pytest.mark.parametrize("training", [False, True])
def test_bfloat16_autocast_stays_near_float32(training: bool) -> None:
    """bfloat16 keeps 8 bits: some percent after a score of layers."""
    network = without_dropout(small_lip_to_speech().train(training))
    video, lengths, reference = _inputs(2, 30)
    exact = network(video, lengths, reference)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(video, lengths, reference)
        recognized = small_asr()(rough.mel, 4 * lengths)
    for ours, theirs in zip(rough[:3], exact[:3], strict=True):
        assert (ours.float() - theirs).norm() < 0.1 * theirs.norm()
    assert recognized.features.isfinite().all()
    (rough.mel.float().square().mean() + rough.logits.float().square().mean()).backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in network.parameters())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_resnet_keeps_the_layout_it_is_given(layout: torch.memory_format) -> None:
    """Channels last is for tensor cores: a layer that silently fell back would cost a copy for each one after it."""
    resnet = small_lip_to_speech().visual.resnet
    kept = []
    for module in resnet.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels > 2:
            module.register_forward_hook(lambda module, arguments, output: kept.append(output))
    maps = torch.randn(3, 8, 12, 12)
    out = resnet(maps.contiguous(memory_format=layout))
    assert len(kept) > 10
    assert all(x.is_contiguous(memory_format=layout) for x in kept)
    torch.testing.assert_close(out, resnet(maps), atol=1e-5, rtol=0)


def test_initial_weights_are_drawn_as_published() -> None:
    torch.manual_seed(0)
    network = VSRModel(VSRSettings(visual=VisualSettings(conformer=ConformerSettings(layers=1))))
    state = network.state_dict()
    expand = "visual.conformer.layers.0.feed_forward_in.expand"
    assert float(state[f"{expand}.weight"].std()) == pytest.approx((2 / (512 + 2048)) ** 0.5, rel=0.01)  # Xavier
    assert not state[f"{expand}.bias"].any()
    bias = state["visual.conformer.layers.0.attention.content_bias"]
    assert float(bias.std()) == pytest.approx((2 / (8 + 64)) ** 0.5, rel=0.1)
    conv = state["visual.resnet.stages.1.0.conv1.weight"]
    assert float(conv.std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)  # Kaiming, fan-out
    assert not state["visual.resnet.stages.1.0.norm2.weight"].any()
    norms = {name: x.momentum for name, x in network.named_modules() if hasattr(x, "momentum")}
    assert len(norms) == 29
    for name, momentum in norms.items():
        assert momentum == (0.01 if name.endswith("spatial_gate.norm") else 0.1), name
    position = state["visual.conformer.layers.0.attention.position_bias"]
    assert float(position.std()) == pytest.approx((2 / (8 + 64)) ** 0.5, rel=0.1)


def test_dropout_is_where_and_what_was_published() -> None:
    with torch.device("meta"):
        network = LipToSpeech()
    found = {name: x.p for name, x in network.named_modules() if isinstance(x, nn.Dropout)}
    assert found.pop("visual.dropout") == 0.3
    assert len(found) == 12 * 4
    assert set(found.values()) == {0.1}
    assert {x.dropout for x in network.modules() if isinstance(x, RelativeAttention)} == {0.1}


def test_attention_weights_drop_out_in_training_only() -> None:
    attention = RelativeAttention(16, 2, 0.5, "masked")
    inputs = torch.randn(1, 9, 16), torch.tensor([9]), sinusoids(9, 16)
    assert not torch.equal(attention(*inputs), attention(*inputs))
    attention.eval()
    assert torch.equal(attention(*inputs), attention(*inputs))


@torch.no_grad()
def test_reference_lengths_say_which_frames_of_the_reference_are_valid() -> None:
    network, (video, lengths, reference) = small_lip_to_speech(), _inputs(2, 8)
    short = torch.tensor([50, 20])
    output = network(video, lengths, reference, short)
    alone = network(video[1:], lengths[1:], reference[1:, :, :20])
    torch.testing.assert_close(output.mel[1:, :, : 4 * int(lengths[1])], alone.mel[..., : 4 * int(lengths[1])],
                               atol=1e-6, rtol=0)  # fmt: skip
    assert not torch.allclose(network(video, lengths, reference).mel[1], output.mel[1], atol=1e-5, rtol=0)
    assert network(video, lengths, reference, torch.tensor([50, 0])).mel.isfinite().all()


@torch.no_grad()
def test_window_is_not_cut_without_a_number_of_frames() -> None:
    network, (video, lengths, reference) = small_lip_to_speech(), _inputs(2, 60)
    assert network(video, lengths, reference, windows=whole_windows(lengths)).mel.shape == (2, 80, 240)


@pytest.mark.parametrize("padding", ["masked", "published"])
def test_lengths_and_windows_may_lie_on_the_cpu_of_a_batch_that_does_not(padding: Padding) -> None:
    """The device `meta` computes nothing, but refuses to mix with another, as a GPU does."""
    lengths = torch.tensor([12, 7])
    windows = draw_windows(lengths, torch.Generator().manual_seed(0), 5)
    with torch.device("meta"):
        network, asr_model = small_lip_to_speech(padding), small_asr(padding)
        video, reference = torch.zeros(2, 1, 12, SIDE, SIDE), torch.zeros(2, 80, 50)
    output = network(video, lengths, reference, torch.tensor([50, 9]), windows, 5)
    assert (output.mel.device.type, output.mel.shape) == ("meta", (2, 80, 20))
    assert asr_model(output.mel, 4 * windows.sizes).logits.device.type == "meta"


def test_sinusoids_are_the_reference_ones(reference: Path) -> None:
    import numpy as np

    with np.load(reference / "c_pe_head.npz") as stored:
        theirs = torch.from_numpy(stored["pe"])
    torch.testing.assert_close(sinusoids(300, 512), theirs, atol=2e-5, rtol=0)  # float32 angles of up to 300


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("build", [small_lip_to_speech, small_reading_lip_to_speech])
def test_compiled_network_computes_the_same(training: bool, build: Callable[[], LipToSpeech]) -> None:
    """Tracing, functionalising and the joint backward graph are checked on all of it; code is generated for a layer."""
    network = without_dropout(build().train(training))
    _assert_same_compiled(network, torch.compile(network, backend="aot_eager"), _inputs(2, 12))
    layer = without_dropout(Conformer(ConformerSettings(layers=1, width=16, heads=2, kernel=5), "masked"))
    layer.train(training)
    features, lengths = torch.randn(2, 12, 16), torch.tensor([12, 7])
    _assert_same_compiled(layer, torch.compile(layer), (features, lengths))


def _assert_same_compiled(network: nn.Module, compiled: Any, inputs: tuple[Tensor, ...]) -> None:
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    results = []
    for run in (network, compiled):
        network.load_state_dict(state)
        network.zero_grad()
        out = run(*inputs)
        outputs = [x for x in out if x is not None] if isinstance(out, tuple) else [out]
        torch.stack([x.square().mean() for x in outputs]).sum().backward()
        gradients = [x.grad.clone() for x in network.parameters() if x.grad is not None]
        results.append([x.detach() for x in outputs] + gradients + [x.clone() for x in network.buffers()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


FRESH_PROCESS = """
import sys, torch
program = torch.export.load(sys.argv[1]).module()
torch.save([program(*inputs) for inputs in torch.load(sys.argv[2])], sys.argv[3])
"""


@torch.no_grad()
def test_lip_to_speech_without_vocabulary_has_no_ctc_head_and_the_same_mel() -> None:
    whole = small_lip_to_speech()
    network = LipToSpeech(replace(whole.settings, vocabulary=0)).eval()
    network.load_state_dict({name: x for name, x in whole.state_dict().items() if not name.startswith("head.")})
    output = network(*_inputs(2, 12))
    assert output.logits is None
    assert torch.equal(output.mel, whole(*_inputs(2, 12)).mel)


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", [30, 0])
@pytest.mark.parametrize("build", [small_lip_to_speech, small_reading_lip_to_speech])
@torch.no_grad()
def test_exported_network_computes_the_same_in_a_fresh_process(
    tmp_path: Path, vocabulary: int, build: Callable[[], LipToSpeech]
) -> None:
    """Without a vocabulary there are no logits."""
    network = lively(LipToSpeech(replace(build().settings, vocabulary=vocabulary)))
    export_lip_to_speech(network, tmp_path / "network.pt2", SIDE)
    batches = [_inputs(2, 12), _inputs(3, 25), _inputs(1, 7)]
    torch.save(batches, tmp_path / "inputs.pt")
    command = [sys.executable, "-c", FRESH_PROCESS, "network.pt2", "inputs.pt", "outputs.pt"]
    subprocess.run(command, check=True, cwd=tmp_path)
    for inputs, theirs in zip(batches, torch.load(tmp_path / "outputs.pt"), strict=True):
        for ours, exported in zip(network(*inputs)[:3], theirs, strict=True):
            if ours is None:
                assert exported is None
            else:
                torch.testing.assert_close(exported, ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 12])
def test_spatial_gate_in_training_is_the_convolution_that_it_is_in_evaluation(side: int) -> None:
    torch.manual_seed(0)
    gate, maps = SpatialGate(), torch.randn(4, 2, side, side + 1)
    found, expected = gate.train()._convolved(maps), gate.eval()._convolved(maps)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    (ours,), (theirs,) = (torch.autograd.grad(x.square().sum(), gate.conv.weight) for x in (found, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
