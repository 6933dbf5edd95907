"""Texts of a batch: as pieces for CTC, and against what a CTC head reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eval.metrics.text import character_errors, normalize_text, word_errors
from model.ctc import greedy
from model.losses import ctc_loss
from model.tokenizer import Tokenizer
from shards.loading.collate import Batch
from train.tasks.task import Losses
from train.validation import Tally


def pieces_of(texts: Sequence[str | None], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """(B, U) pieces, padded with 0, and (B,) how many, on the CPU, where `ctc_loss` wants them; none where a text is
    not known."""
    encoded = [[] if text is None else tokenizer.encode(text) for text in texts]
    longest = max(1, *map(len, encoded))
    padded = torch.tensor([pieces + [0] * (longest - len(pieces)) for pieces in encoded])
    return padded, torch.tensor([len(pieces) for pieces in encoded])


def reading_losses(logits: Tensor, lengths: Tensor, texts: Sequence[str | None], tokenizer: Tokenizer) -> Losses:
    """CTC alone, of tasks that learn to read; arguments as of `ctc_loss` and `pieces_of`."""
    ctc = ctc_loss(logits, lengths, *pieces_of(texts, tokenizer))
    return Losses(ctc.loss, {"ctc": ctc.loss.detach(), "text_left_out": ctc.skipped.detach().float()})


def score_reading(tally: Tally, batch: Batch, logits: Tensor, lengths: Tensor, tokenizer: Tokenizer) -> None:
    """The mean CTC loss of clips whose text is known and fits; word and character errors of what is read greedily.

    Args:
        tally: takes ctc, wer and cer, and what was read of clips to show.
        batch: the clips.
        logits: (B, T, vocabulary).
        lengths: (B,) frames.
        tokenizer: of the vocabulary.
    """
    pieces, piece_lengths = pieces_of(batch.texts, tokenizer)
    found = ctc_loss(logits, lengths, pieces, piece_lengths)
    tally.add("ctc", float(found.loss) * len(lengths), int((piece_lengths > 0).sum()) - int(found.skipped))
    for key, text, read_pieces in zip(batch.keys, batch.texts, greedy(logits.float(), lengths), strict=True):
        if not text:
            continue
        said, read = normalize_text(text), normalize_text(tokenizer.decode(read_pieces))
        tally.add("wer", *word_errors(said, read))
        tally.add("cer", *character_errors(said, read))
        tally.show_text(key, said, read)
