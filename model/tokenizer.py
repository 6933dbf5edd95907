"""Text to tokens and back: SentencePiece, as published (docs/method.md, Text).

Unigram, 4000 pieces, lower case; pad, which is also CTC's blank, is 0, bos 1, eos 2, unk 3. A tokenizer is the bytes of
a SentencePiece model: it travels inside a checkpoint, and a model that exists is used as it is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import sentencepiece

from runtime.limits import MAX_NAME_LENGTH, MAX_SETTING, MAX_TOKENIZER_BYTES, check_limit
from runtime.regular_file import IrregularFileError, read_regular

BLANK = 0
"""CTC's blank, which is the padding too: no piece of text may have this id."""

MAX_PIECES = 150
VOCABULARY_SIZE = 4000
FILE_NAME = "tokenizer.model"
"""Under which a dataset keeps the tokenizer that was trained on it."""

_NORMALIZATION = "nmt_nfkc"
# characters that SentencePiece's trainer keeps for itself: it would skip every sentence with one, silently
_RESERVED = str.maketrans({"\0": " ", "▅": " "})


@dataclass(frozen=True)
class Tokenizer:
    """A SentencePiece model whose pad is 0.

    Raises:
        ValueError: these are not the bytes of a SentencePiece model, it is larger than `runtime.limits` allows, or its
            pad is not 0.
    """

    model_bytes: bytes = field(repr=False)

    def __post_init__(self) -> None:
        try:
            if not self.model_bytes:
                raise RuntimeError("no bytes")
            check_limit("bytes", len(self.model_bytes), MAX_TOKENIZER_BYTES)
            pad = self._processor.pad_id()
            check_limit("pieces", self.vocabulary_size, MAX_SETTING)
            longest = max(len(self._processor.id_to_piece(number)) for number in range(self.vocabulary_size))
            check_limit("characters of a piece", longest, MAX_NAME_LENGTH)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ValueError(f"not a SentencePiece model: {' '.join(str(error).split())}") from error
        if pad != BLANK:
            raise ValueError(
                f"pad has {'no id' if pad < 0 else f'id {pad}'}, but 0 is needed, since CTC's blank is 0: "
                "train the model with pad_id=0"
            )

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Tokenizer:
        """A SentencePiece model file; `ValueError` names a file that is none, is too large, or whose pad is not 0."""
        try:
            return Tokenizer(read_regular(path, MAX_TOKENIZER_BYTES))
        except IrregularFileError:
            raise
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are, pad, bos, eos and unk among them: V of the CTC outputs."""
        return int(self._processor.get_piece_size())

    def encode(self, text: str, max_pieces: int | None = MAX_PIECES) -> list[int]:
        """The ids of a text in lower case, without bos and eos, cut after `max_pieces` (None: not cut).

        A character that the model does not know is unk.
        """
        return cast(list[int], self._processor.encode(text.lower())[:max_pieces])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; pad, bos and eos are passed over, unk is ` ⁇ `.

        Raises:
            ValueError: there is no piece of such an id.
        """
        known = list(ids)
        try:
            return str(self._processor.decode(known))
        except IndexError as error:
            raise ValueError(
                f"ids from {min(known)} to {max(known)}: the tokenizer has 0 to {self.vocabulary_size - 1}"
            ) from error

    @cached_property
    def _processor(self) -> Any:
        return sentencepiece.SentencePieceProcessor(model_proto=self.model_bytes)

    def __getstate__(self) -> dict[str, Any]:
        return {"model_bytes": self.model_bytes}  # what was built of them is built again elsewhere


def train_tokenizer(texts: Iterable[str], vocabulary_size: int = VOCABULARY_SIZE) -> Tokenizer:
    """Train a unigram model (Kudo, "Subword Regularization", 2018) on texts in lower case.

    Every character that occurs gets a piece. The same texts in the same order give the same bytes.

    Args:
        texts: in any language.
        vocabulary_size: pieces wanted, pad, bos, eos and unk among them. A small corpus may not have as many different
            pieces, and a script may have more characters: `Tokenizer.vocabulary_size` says what came of it.

    Raises:
        ValueError: there is no text, or fewer than one piece is wanted.
    """
    if vocabulary_size < 1:
        raise ValueError(f"vocabulary_size: {vocabulary_size} is too small")
    sentences = [sentence for text in texts if (sentence := " ".join(text.lower().translate(_RESERVED).split()))]
    normalize = sentencepiece.SentencePieceNormalizer(rule_name=_NORMALIZATION).normalize
    characters = set[str]().union(*map(normalize, sentences))
    if not characters:
        raise ValueError("no text: a tokenizer needs some to be trained on")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="unigram",
        vocab_size=max(vocabulary_size, len(characters) + 4),  # pad, bos, eos and unk
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name=_NORMALIZATION,
        max_sentence_length=1 << 30,  # in bytes, the most that it accepts; it skips longer ones, silently
        pad_id=BLANK,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        bos_piece="<sos>",
        eos_piece="<eos>",
        unk_piece="<unk>",
        num_threads=1,  # sums are rounded otherwise with another number
        minloglevel=2,  # errors only
    )
    return Tokenizer(model.getvalue())
