"""Intermediate CTC: which layers are read, what is fed back, and that its gradient reaches them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.conformer import Conformer, ConformerSettings
from model.ctc import CTCHead
from model.intermediate_ctc import IntermediateCTC, Reading
from tests.model.networks import lively, small_asr, small_lip_to_speech, small_reading_lip_to_speech, small_vsr_settings


@torch.no_grad()
def test_reading_feeds_posteriors_of_its_layers_to_the_next_ones() -> None:
    torch.manual_seed(0)
    conformer = lively(Conformer(ConformerSettings(layers=3, width=16, heads=2, kernel=5), "masked"))
    head, module = CTCHead(16, 7), IntermediateCTC((2,), 7, 16)
    x, lengths = torch.randn(2, 9, 16), torch.tensor([9, 9])
    reading = Reading(module, head)
    found = conformer(x, lengths, None, reading)
    until, after = (lively(Conformer(ConformerSettings(n, 16, 2, kernel=5), "masked")) for n in (2, 1))
    until.layers.load_state_dict(conformer.layers[:2].state_dict())
    after.layers[0].load_state_dict(conformer.layers[2].state_dict())
    between = until(x, lengths)
    assert reading.logits is not None
    torch.testing.assert_close(reading.logits, head(between)[None])
    torch.testing.assert_close(found, after(between + module.feedback(head(between).softmax(dim=-1)), lengths))
    assert Reading(None, head)(1, x) is x
    assert Reading(module, head)(1, x) is x, "not a layer of it"


def test_intermediate_loss_trains_the_layers_before_it_and_the_head() -> None:
    network = small_reading_lip_to_speech().train()
    output = network(torch.randn(2, 1, 8, 32, 32), torch.tensor([8, 6]), torch.randn(2, 80, 50))
    assert output.intermediate is not None
    assert output.intermediate.shape == (1, 2, 8, 30)
    output.intermediate.square().mean().backward()
    reached = {name for name, x in network.named_parameters() if x.grad is not None and bool(x.grad.any())}
    assert {"head.weight", "visual.conformer.layers.0.norm.weight", "visual.patches.embed.weight"} <= reached
    assert not any(name.startswith(("visual.conformer.layers.1", "intermediate", "decoder")) for name in reached)


@torch.no_grad()
def test_posteriors_change_the_mel_and_without_a_head_there_are_none() -> None:
    network = small_reading_lip_to_speech()
    inputs = torch.randn(1, 1, 8, 32, 32), torch.tensor([8]), torch.randn(1, 80, 50)
    before = network(*inputs)
    assert network.read is not None
    network.read.weight.mul_(2)
    after = network(*inputs)
    assert torch.equal(before.logits, after.logits)
    assert not torch.allclose(before.mel, after.mel)
    without = type(network)(replace(network.settings, vocabulary=0)).eval()
    assert (without.read, without.intermediate) == (None, None)
    assert without(*inputs).intermediate is None


@pytest.mark.parametrize("layers", [(0,), (2,), (1, 1), (-1,)])
def test_intermediate_layers_that_are_not_before_the_last_are_refused(layers: tuple[int, ...]) -> None:
    for settings in (small_lip_to_speech().settings, small_vsr_settings(), small_asr().settings):
        with pytest.raises(ValueError, match="intermediate_ctc"):
            replace(settings, intermediate_ctc=layers)
