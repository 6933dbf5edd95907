"""Texts of a batch: as pieces for CTC, and against what a CTC head reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eval.metrics.words import character_errors, normalised, word_errors
from model.ctc import greedy
from model.losses import ctc_loss
from model.tokenizer import Tokenizer
from train.validation import Tally


def pieces_of(texts: Sequence[str | None], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """(B, U) pieces, padded with 0, and (B,) how many, on the CPU, where `ctc_loss` wants them; none where a text is
    not known."""
    encoded = [[] if text is None else tokenizer.encode(text) for text in texts]
    longest = max(1, *map(len, encoded))
    padded = torch.tensor([pieces + [0] * (longest - len(pieces)) for pieces in encoded])
    return padded, torch.tensor([len(pieces) for pieces in encoded])


def score_ctc(tally: Tally, logits: Tensor, lengths: Tensor, pieces: Tensor, piece_lengths: Tensor) -> None:
    """The mean CTC loss of clips whose text is known and fits; arguments as of `ctc_loss`."""
    found = ctc_loss(logits, lengths, pieces, piece_lengths)
    tally.add("ctc", float(found.loss) * len(lengths), int((piece_lengths > 0).sum()) - int(found.left_out))


def score_texts(
    tally: Tally, keys: Sequence[str], texts: Sequence[str | None], logits: Tensor, lengths: Tensor, reader: Tokenizer
) -> None:
    """Word and character errors of what is read greedily, of clips whose text is known.

    Args:
        tally: takes wer and cer, and what was read of clips to show.
        keys, texts: of the clips.
        logits: (B, T, vocabulary).
        lengths: (B,) frames.
        reader: of the vocabulary.
    """
    for key, text, pieces in zip(keys, texts, greedy(logits.float(), lengths), strict=True):
        if not text:
            continue
        said, read = normalised(text), normalised(reader.decode(pieces))
        tally.add("wer", *word_errors(said, read))
        tally.add("cer", *character_errors(said, read))
        tally.show_text(key, said, read)
