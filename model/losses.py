"""Losses of the tasks (docs/method.md, Losses and optimizer).

    total = 100 * L1(mels, natural-log units) + CTC(lips) + MSE(features of a frozen ASR model), the last once it is on

With `masked` padding means run over valid frames; with `published` over all frames of the batch, of which those that
are padding are silent in both mels of the L1, and in the ASR features hold whatever leaked into them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.asr import ASRModel
from model.mel import natural_log
from model.padding import Padding, valid_mask


@dataclass(frozen=True)
class LossSettings:
    """Weights, and the rule by which the output content is switched on. The defaults are the published ones.

    Attributes:
        mel, ctc, content: weights of the three losses.
        units: weight of the cross-entropy of units, where a network predicts them.
        intermediate_ctc: share of the layers of intermediate CTC in the loss of CTC, where a network has any.
        distillation: weight of the cross-entropy between what the CTC head and what a frozen ASR model reads, frame by
            frame, where there is an ASR model; 0, as published.
        delta, estoi: weights of two that the published method does not have: the mel's slopes in time and in pitch, and
            one minus ESTOI of the two mels, for a vocoder of the two waveforms (`model.estoi_loss`).
        content_after_epoch: epochs, counted from 1, that come first.
        content_below: mean L1 of an epoch, in natural-log units, that switches it on.
    """

    mel: float = 100.0
    ctc: float = 1.0
    content: float = 1.0
    units: float = 20.0
    intermediate_ctc: float = 0.5
    distillation: float = 0.0
    delta: float = 0.0
    estoi: float = 0.0
    content_after_epoch: int = 5
    content_below: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.intermediate_ctc <= 1:
            raise ValueError(f"losses.intermediate_ctc: {self.intermediate_ctc}, a share from 0 to 1 was expected")


def content_switches_on(epoch: int, mean_l1: float, settings: LossSettings = LossSettings()) -> bool:
    """Whether the output content loss is on for good after this epoch (counted from 1) with its mean L1."""
    return epoch > settings.content_after_epoch and mean_l1 < settings.content_below


def mel_l1(generated: Tensor, target: Tensor, lengths: Tensor, padding: Padding) -> Tensor:
    """Mean absolute difference of two mels in natural-log units, a float32 scalar.

    Args:
        generated, target: (B, n_mels, S), the network's mels.
        lengths: (B,) valid mel frames of each.
        padding: whether the mean runs over those frames, or over all S.
    """
    valid = valid_mask(lengths, generated.shape[-1], generated.device)[:, None]
    generated, target = (natural_log(x.float().masked_fill(~valid, 0.0)) for x in (generated, target))
    if padding == "published":
        return F.l1_loss(generated, target)
    return (generated - target).abs().sum() / (valid.sum() * generated.shape[1]).clamp_min(1)


def mel_l1_per_clip(generated: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
    """(B,) `mel_l1` of each clip over its valid frames, as if it were alone. Arguments as of `mel_l1`."""
    ones = (slice(number, number + 1) for number in range(len(generated)))
    return torch.stack([mel_l1(generated[one], target[one], lengths[one], "masked") for one in ones])


def delta_l1(generated: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
    """Mean absolute difference of the slopes of two mels, from frame to frame and from band to band, in natural-log
    units: what makes a mel sharp, and what a mean of likely mels lacks. Arguments as of `mel_l1`."""
    valid = valid_mask(lengths, generated.shape[-1], generated.device)[:, None]
    off = natural_log(generated.float()) - natural_log(target.float())
    total, count = off.new_zeros(()), off.new_zeros(())
    for dim, inside in ((2, valid[..., 1:]), (1, valid)):
        slopes = off.diff(dim=dim).abs().masked_fill(~inside, 0.0)
        total, count = total + slopes.sum(), count + inside.sum() * slopes.shape[1]
    return total / count.clamp_min(1)


def ctc_feasible(targets: Tensor, target_lengths: Tensor, lengths: Tensor) -> Tensor:
    """bool (B,): whether CTC can align texts (B, U) of so many pieces (B,) to so many frames (B,): one for each piece,
    one more between equal neighbours."""
    inside = torch.arange(targets.shape[1], device=targets.device)[1:] < target_lengths[:, None]
    repeated = ((targets[:, 1:] == targets[:, :-1]) & inside).sum(dim=1)
    return target_lengths + repeated <= lengths


class CTCLoss(NamedTuple):
    """The loss, a float32 scalar, and how many clips of the batch had no part in it because their text did not fit."""

    loss: Tensor
    skipped: Tensor


def ctc_loss(logits: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> CTCLoss:
    """-log p of the texts, summed over the batch and divided by its size; blank 0, in float32.

    Args:
        logits: (B, T, vocabulary).
        lengths: (B,) frames of each clip.
        targets: (B, U) pieces, padded with 0.
        target_lengths: (B,) pieces of each text. 0 marks a clip without text: it has no part in the loss.

    Raises:
        ValueError: a piece that the vocabulary does not have (looked at where the targets lie on the CPU).
    """
    if targets.device.type == "cpu" and targets.numel() and not torch.compiler.is_compiling():
        largest, vocabulary = int(targets.max()), logits.shape[-1]
        if largest >= vocabulary:
            raise ValueError(f"piece {largest} of a vocabulary of {vocabulary}: is it another tokenizer's?")
    targets, on_device, pieces = (x.to(logits.device, non_blocking=True) for x in (targets, lengths, target_lengths))
    fits = ctc_feasible(targets, pieces, on_device) & (pieces > 0)
    losses = F.ctc_loss(
        logits.float().log_softmax(dim=-1).transpose(0, 1),
        targets,
        lengths,  # these two are wanted on the CPU, wherever the logits are
        target_lengths,
        reduction="none",
        zero_infinity=True,
    )
    skipped = (~fits & (pieces > 0)).sum()
    return CTCLoss(torch.where(fits, losses, losses.new_zeros(())).sum() / len(logits), skipped)


def unit_loss(logits: Tensor, units: Tensor, lengths: Tensor) -> Tensor:
    """Mean cross-entropy of units over valid frames, a float32 scalar.

    Args:
        logits: (B, T, units).
        units: (B, T), those of the ground truth.
        lengths: (B,) frames of each clip.
    """
    valid = valid_mask(lengths, logits.shape[1], logits.device)
    losses = F.cross_entropy(logits.float().flatten(0, 1), units.flatten(), reduction="none").view_as(units)
    return losses.masked_fill(~valid, 0.0).sum() / valid.sum().clamp_min(1)


def distillation_loss(logits: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Mean cross-entropy of a lip reader's posteriors and those of an ASR model over valid frames, a float32 scalar
    (Afouras, Chung and Zisserman, ASR is all you need: cross-modal distillation for lip reading, 2020).

    Args:
        logits: (B, T, vocabulary), of the network.
        teacher: (B, T, vocabulary), of the ASR model.
        lengths: (B,) frames of each clip.
    """
    valid = valid_mask(lengths, logits.shape[1], logits.device)
    losses = -(teacher.float().softmax(dim=-1) * logits.float().log_softmax(dim=-1)).sum(dim=-1)
    return losses.masked_fill(~valid, 0.0).sum() / valid.sum().clamp_min(1)


def content_loss(asr_model: ASRModel, generated: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
    """Mean squared difference of an ASR model's features of two mels (output content loss), a float32 scalar.

    Args:
        asr_model: frozen (`freeze`); gradients flow through it to the generated mel only. Its padding says what the
            mean runs over.
        generated, target: (B, n_mels, S), the network's mels. What lies past their lengths is not looked at.
        lengths: (B,) mel frames of each.
    """
    valid = valid_mask(lengths, generated.shape[-1], generated.device)[:, None]
    generated, target = (x.masked_fill(~valid, 0.0) for x in (generated, target))
    found = asr_model(generated, lengths)
    with torch.no_grad():
        wanted = asr_model(target, lengths)
    squares: Tensor = (found.features.float() - wanted.features.float()).square()
    if asr_model.settings.padding == "published":
        return squares.mean()
    valid = valid_mask(found.lengths, squares.shape[1], squares.device)[..., None]
    return squares.masked_fill(~valid, 0.0).sum() / (valid.sum() * squares.shape[2]).clamp_min(1)


def freeze(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, its parameters without gradients."""
    return network.eval().requires_grad_(False)
