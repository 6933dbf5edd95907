"""What networks do on a GPU, as far as it can be seen without one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from model.padding import ValidFrames, round_up, valid_frames, valid_positions
from model.resnet import ChannelGate
from model.synthesis import Synthesizer
from model.transforms import TransformSettings
from model.vsr import VSRModel
from tests.model.networks import small_lip_to_speech, small_vsr_settings, without_dropout

CPU = torch.device("cpu")
LENGTHS = torch.tensor([9, 5])


def test_channel_gate_keeps_the_type_of_its_maps_where_autocast_sums_in_float32() -> None:
    gate = ChannelGate(16).bfloat16()
    gate.excite.register_forward_hook(lambda _, __, out: out.float())  # as on a GPU
    assert gate(torch.randn(2, 16, 3, 3).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("bf16", True)])
def test_synthesizer_in_float32_switches_tf32_off(monkeypatch: pytest.MonkeyPatch, precision: str, tf32: bool) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Synthesizer(small_lip_to_speech(), TransformSettings(), CPU, precision=precision)  # type: ignore[arg-type]
    assert torch.backends.cudnn.allow_tf32 is tf32


@pytest.mark.parametrize("count", [1, 5, 63, 64, 65, 130, 2399])
def test_round_up_keeps_all_positions_and_repeats_some_evenly(count: int) -> None:
    positions = torch.arange(count) * 3
    rounded = round_up(positions)
    assert len(rounded) % 64 == 0 <= len(rounded) - count < 64
    assert rounded[:count].tolist() == positions.tolist()
    times = torch.bincount(rounded // 3, minlength=count)
    assert int(times.max()) - int(times.min()) <= 1


def test_valid_frames_on_a_cpu_repeat_none() -> None:
    valid = valid_frames(torch.tensor([2, 4]), 4, CPU)
    assert valid.positions.tolist() == valid.rounded.tolist() == [0, 1, 4, 5, 6, 7]


def test_vsr_model_gives_the_same_for_frames_that_are_repeated_beyond_batch_norm() -> None:
    model = _vsr_model()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    video, positions = _video(), valid_positions(LENGTHS, 9, CPU)
    once, again = ValidFrames(positions, positions), ValidFrames(positions, round_up(positions))
    results: list[Tensor] = [model(video, LENGTHS, valid).logits for valid in (once, again)]
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=0)  # sums in another order


def test_vsr_model_compiles_without_a_break_where_valid_frames_are_given() -> None:
    compiled = torch.compile(_vsr_model(), backend="eager", fullgraph=True)
    assert compiled(_video(), LENGTHS, valid_frames(LENGTHS, 9, CPU)).logits.shape[:2] == (2, 9)


def _vsr_model() -> nn.Module:
    torch.manual_seed(0)
    return without_dropout(VSRModel(small_vsr_settings("masked"))).train()


def _video() -> Tensor:
    return torch.randn(2, 1, 9, 32, 32)
