"""The losses: what is weighed, what is left out, when the output content is switched on."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from model.losses import (
    LossSettings,
    content_loss,
    content_switches_on,
    ctc_feasible,
    ctc_loss,
    delta_l1,
    distillation_loss,
    freeze,
    mel_l1,
)
from model.mel import natural_log
from model.padding import Padding
from tests.model.networks import small_asr


def test_loss_settings_default_to_the_published_ones() -> None:
    assert (LossSettings().mel, LossSettings().ctc, LossSettings().content) == (100, 1, 1)


@pytest.mark.parametrize(
    ("epoch", "mean_l1", "on"),
    [(1, 0.1, False), (5, 0.1, False), (6, 0.69, True), (6, 0.7, False), (60, 0.71, False), (60, 0.5, True)],
)
def test_content_loss_is_switched_on_after_the_fifth_epoch_once_l1_is_low(epoch: int, mean_l1: float, on: bool) -> None:
    assert content_switches_on(epoch, mean_l1) is on


@pytest.mark.parametrize("padding", ["masked", "published"])
def test_l1_is_in_natural_log_units(padding: Padding) -> None:
    silence, full = torch.full((1, 80, 8), -1.0), torch.full((1, 80, 8), 1.0)
    found = mel_l1(silence, full, torch.tensor([8]), padding)
    assert float(found) == pytest.approx(-math.log(1e-5), rel=1e-6)
    assert not mel_l1(silence, full, torch.tensor([0]), "masked").any()


def test_ctc_is_feasible_exactly_when_its_loss_is_finite() -> None:
    texts = [pieces for size in range(5) for pieces in itertools.product([1, 2], repeat=size)]
    targets = torch.full((len(texts), 6), 2)  # the padding repeats the last piece, and must not count
    for row, pieces in zip(targets, texts, strict=True):
        row[: len(pieces)] = torch.tensor(pieces)
    target_lengths = torch.tensor([len(pieces) for pieces in texts])
    for frames in range(1, 9):
        lengths = torch.full_like(target_lengths, frames)
        scores = torch.zeros(frames, len(texts), 3).log_softmax(dim=2)
        finite = torch.nn.functional.ctc_loss(scores, targets, lengths, target_lengths, reduction="none").isfinite()
        assert ctc_feasible(targets, target_lengths, lengths).tolist() == finite.tolist()
    no_text = torch.zeros(2, 0, dtype=torch.long)
    assert ctc_feasible(no_text, torch.tensor([0, 0]), torch.tensor([1, 9])).all()


def _ctc_inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logits = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([[1, 2, 0, 0], [3, 3, 3, 4], [0, 0, 0, 0]])
    return logits, torch.tensor([6, 5, 6]), targets, torch.tensor([2, 4, 0])


def test_ctc_skips_texts_that_do_not_fit_and_counts_them() -> None:
    """3 3 3 4 needs six frames, two for the blanks between, and has five; the third clip has no text."""
    logits, lengths, targets, target_lengths = _ctc_inputs()
    loss, skipped = ctc_loss(logits, lengths, targets, target_lengths)
    alone = torch.nn.functional.ctc_loss(
        logits[:1].log_softmax(-1).transpose(0, 1), targets[:1, :2], lengths[:1], target_lengths[:1], reduction="sum"
    )
    torch.testing.assert_close(loss, alone / 3)
    assert int(skipped) == 1
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0].any()
    assert not logits.grad[1:].any()
    lengths[1] = 6
    assert int(ctc_loss(logits, lengths, targets, target_lengths).skipped) == 0


def test_pieces_of_another_vocabulary_are_refused() -> None:
    logits, lengths, targets, target_lengths = _ctc_inputs()
    with pytest.raises(ValueError, match="piece 5 of a vocabulary of 5"):
        ctc_loss(logits, lengths, targets + 1, target_lengths)


@pytest.mark.parametrize("padding", ["masked", "published"])
def test_content_loss_gradients_reach_the_generated_mel_only(padding: Padding) -> None:
    asr_model = small_asr(padding)
    freeze(asr_model)
    generated, true = (torch.randn(2, 80, 40, requires_grad=True) for _ in range(2))
    lengths = torch.tensor([40, 24])
    content_loss(asr_model, generated, true, lengths).backward()
    assert generated.grad is not None
    assert generated.grad[0].any()
    assert not generated.grad[1, :, 24:].any()
    assert true.grad is None
    assert all(x.grad is None for x in asr_model.parameters())
    assert float(content_loss(asr_model, true, true, lengths).detach()) < 1e-10


def test_delta_l1_is_of_neighboring_valid_frames_and_bands() -> None:
    generator = torch.Generator().manual_seed(5)
    generated, true = torch.randn(2, 2, 6, 9, generator=generator)
    lengths = torch.tensor([9, 4])
    expected = []
    for clip, length in enumerate(lengths.tolist()):
        off = (natural_log(generated[clip, :, :length]) - natural_log(true[clip, :, :length])).double()
        expected += [off[:, 1:] - off[:, :-1], off[1:] - off[:-1]]
    mean = torch.cat([slopes.abs().flatten() for slopes in expected]).mean()
    assert float(delta_l1(generated, true, lengths)) == pytest.approx(float(mean), rel=1e-5)
    assert float(delta_l1(true + 0.1, true, lengths)) < 1e-5, "a mel that is louder throughout has the same slopes"


def test_delta_l1_of_a_single_frame_is_of_its_bands() -> None:
    generated, true = torch.zeros(1, 6, 1), torch.linspace(-0.5, 0.5, 6)[None, :, None]
    expected = float((natural_log(true).diff(dim=1)).abs().mean())
    assert float(delta_l1(generated, true, torch.tensor([1]))) == pytest.approx(expected, rel=1e-5)


def test_distillation_loss_is_the_mean_cross_entropy_over_valid_frames() -> None:
    generator = torch.Generator().manual_seed(6)
    logits, teacher = torch.randn(2, 2, 4, 5, generator=generator)
    lengths = torch.tensor([4, 1])
    valid = [(logits[0], teacher[0]), (logits[1, :1], teacher[1, :1])]
    ours, theirs = (torch.cat(parts) for parts in zip(*valid, strict=True))
    expected = torch.nn.functional.cross_entropy(ours, theirs.softmax(dim=-1))
    torch.testing.assert_close(distillation_loss(logits, teacher, lengths), expected)
    entropy = torch.distributions.Categorical(logits=theirs).entropy().mean()
    torch.testing.assert_close(distillation_loss(teacher, teacher, lengths), entropy)
    logits[1, 1:] = float("nan")
    torch.testing.assert_close(distillation_loss(logits, teacher, lengths), expected)
