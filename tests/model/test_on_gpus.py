"""What networks do on a GPU, as far as it can be seen without one."""

from __future__ import annotations

import torch

from model.resnet import ChannelGate


def test_channel_gate_keeps_the_type_of_its_maps_where_autocast_sums_in_float32() -> None:
    gate = ChannelGate(16).bfloat16()
    gate.excite.register_forward_hook(lambda _, __, out: out.float())  # as on a GPU
    assert gate(torch.randn(2, 16, 3, 3).bfloat16()).dtype == torch.bfloat16
