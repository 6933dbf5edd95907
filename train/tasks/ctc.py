"""CTC training: what VSR and ASR share, the texts of a batch as targets, and word errors of greedy hypotheses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from eval.metrics.text import character_errors, normalize_text, word_errors
from model.asr import ASRModel
from model.ctc import greedy
from model.losses import LossSettings, ctc_loss, distillation_loss
from model.tokenizer import Tokenizer
from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME
from shards.loading.collate import Batch
from train.settings import Score
from train.state import TrainState
from train.tasks.inputs import target_mels
from train.tasks.task import Losses, Task
from train.tasks.units import with_unit_loss
from train.validation_metrics import ValidationMetrics


class CtcOutput(NamedTuple):
    """Logits (B, T, vocabulary) and their lengths (B,), and if there are any the logits of intermediate layers (layers,
    B, T, vocabulary) and of units (B, T, units)."""

    logits: Tensor
    lengths: Tensor
    intermediate: Tensor | None
    unit_logits: Tensor | None = None


@dataclass
class CtcTask(Task):
    """A task whose network recognizes the text: its loss is CTC, and with a frozen ASR model those of units and of
    distillation."""

    tokenizer: Tokenizer
    loss_names: ClassVar[tuple[str, ...]] = ("ctc", "ctc_intermediate", "distillation", "units", "ctc_skipped")
    default_best: ClassVar[Score] = "wer"

    @property
    def scores(self) -> tuple[Score, ...]:
        return "ctc", "wer", "cer"

    @abstractmethod
    def forward(self, network: Any, batch: Batch, seed: int | None) -> CtcOutput:
        """What the network recognizes in a batch; `seed`: of the augmentation, None: none."""

    def loss(self, network: Any, batch: Batch, seed: int, state: TrainState) -> Losses:
        """CTC of the texts, and what the frozen ASR model, if there is one, makes of the sound."""
        output, weights = self.forward(network, batch, seed), self.settings.losses
        text = text_loss(output, *encode_texts(batch.texts, self.tokenizer), weights.intermediate_ctc)
        losses = Losses(weights.ctc * text.total, text.parts)
        if self.asr is not None:
            mel = target_mels(batch.to(self.device, non_blocking=True), batch.lengths[batch.wav_rows])
            with self.autocast():
                if output.unit_logits is not None:
                    losses = with_unit_loss(losses, output.unit_logits, self.asr, mel, batch.lengths, weights.units)
                if weights.distillation:
                    losses = with_distillation_loss(losses, output, self.asr, mel, weights)
        return losses

    def validate(
        self, network: Any, batch: Batch, references: Mapping[str, Tensor], metrics: ValidationMetrics
    ) -> None:
        """CTC, word and character errors of greedy hypotheses."""
        output = self.forward(network, batch, None)
        score_ctc(metrics, batch, output.logits, output.lengths, self.tokenizer)


def text_loss(output: CtcOutput, pieces: Tensor, piece_lengths: Tensor, intermediate_share: float) -> Losses:
    """CTC of texts (`encode_texts`), of which intermediate layers have a share, where there are any."""
    ctc = ctc_loss(output.logits, output.lengths, pieces, piece_lengths)
    total, parts = ctc.loss, {"ctc": ctc.loss.detach(), "ctc_skipped": ctc.skipped.detach().float()}
    if output.intermediate is not None:
        layers = len(output.intermediate)
        texts = pieces.repeat(layers, 1), piece_lengths.repeat(layers)
        early = ctc_loss(output.intermediate.flatten(0, 1), output.lengths.repeat(layers), *texts).loss
        total = (1 - intermediate_share) * total + intermediate_share * early
        parts["ctc_intermediate"] = early.detach()
    return Losses(total, parts)


def with_distillation_loss(
    losses: Losses, output: CtcOutput, asr_model: ASRModel, mel: Tensor, weights: LossSettings
) -> Losses:
    """Losses, and beside them the weighted cross-entropy with what the frozen ASR model reads in ground-truth mels (B,
    n_mels, 4 T). Intermediate layers get the share `losses.intermediate_ctc`. Clips without text have it, too."""
    with torch.no_grad():
        teacher = asr_model(mel, MEL_FRAMES_PER_VIDEO_FRAME * output.lengths).logits
    loss = distillation_loss(output.logits, teacher, output.lengths)
    if output.intermediate is not None:
        early = torch.stack([distillation_loss(x, teacher, output.lengths) for x in output.intermediate]).mean()
        loss = torch.lerp(loss, early, weights.intermediate_ctc)
    return Losses(losses.total + weights.distillation * loss, losses.parts | {"distillation": loss.detach()})


def encode_texts(texts: Sequence[str | None], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """(B, U) pieces, padded with 0, and (B,) pieces of each, none where a text is not known; on the CPU, where
    `ctc_loss` wants them."""
    encoded = [[] if text is None else tokenizer.encode(text) for text in texts]
    longest = max(1, *map(len, encoded))
    padded = torch.tensor([pieces + [0] * (longest - len(pieces)) for pieces in encoded])
    return padded, torch.tensor([len(pieces) for pieces in encoded])


def score_ctc(metrics: ValidationMetrics, batch: Batch, logits: Tensor, lengths: Tensor, tokenizer: Tokenizer) -> None:
    """Add to metrics the CTC loss of clips whose text is known and fits, and word and character errors of greedy
    hypotheses; logits are (B, T, vocabulary), lengths (B,) their frames."""
    pieces, piece_lengths = encode_texts(batch.texts, tokenizer)
    ctc = ctc_loss(logits, lengths, pieces, piece_lengths)
    metrics.add("ctc", float(ctc.loss) * len(lengths), int((piece_lengths > 0).sum()) - int(ctc.skipped))
    for key, text, best_path in zip(batch.keys, batch.texts, greedy(logits.float(), lengths), strict=True):
        if not text:
            continue
        reference, hypothesis = normalize_text(text), normalize_text(tokenizer.decode(best_path))
        metrics.add("wer", *word_errors(reference, hypothesis))
        metrics.add("cer", *character_errors(reference, hypothesis))
        if key in metrics.shown:
            metrics.transcripts.append((key, reference, hypothesis))
