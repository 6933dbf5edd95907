"""What networks do on a GPU, as far as it can be seen without one."""

from __future__ import annotations

import pytest
import torch

from model.resnet import ChannelGate
from model.synthesis import Synthesizer
from model.transforms import TransformSettings
from tests.model.networks import small_lip_to_speech


def test_channel_gate_keeps_the_type_of_its_maps_where_autocast_sums_in_float32() -> None:
    gate = ChannelGate(16).bfloat16()
    gate.excite.register_forward_hook(lambda _, __, out: out.float())  # as on a GPU
    assert gate(torch.randn(2, 16, 3, 3).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("bf16", True)])
def test_synthesizer_in_float32_switches_tf32_off(monkeypatch: pytest.MonkeyPatch, precision: str, tf32: bool) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Synthesizer(small_lip_to_speech(), TransformSettings(), torch.device("cpu"), precision=precision)  # type: ignore[arg-type]
    assert torch.backends.cudnn.allow_tf32 is tf32
