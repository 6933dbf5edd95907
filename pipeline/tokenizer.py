"""Train a SentencePiece tokenizer on a dataset's transcripts, and keep it beside them.

Held-out text has no part in it unless asked for. The transcripts are taken in the order of their keys, so the tokenizer
depends on the text and not on how it is spread over shards.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from model.tokenizer import FILE_NAME, Tokenizer, train_tokenizer
from shards import Store, open_dataset
from shards.format.store import absolute_url


@dataclass(frozen=True)
class TrainedTokenizer:
    """What was trained, on which splits, how many texts and words, and where it lies."""

    tokenizer: Tokenizer
    splits: list[str]
    texts: int
    words: int
    path: str


def train_on_dataset(
    url: str, *, out: str | None = None, vocabulary_size: int, splits: Sequence[str] | None = None
) -> TrainedTokenizer:
    """Train a tokenizer on transcripts of a dataset and write it, whole or not at all.

    Args:
        url: local folder or fsspec URL of a finished dataset.
        out: file to write, a local path or URL; None: `tokenizer.model` in the dataset.
        vocabulary_size: pieces wanted (see `train_tokenizer`).
        splits: whose transcripts; None: see `Dataset.training_splits`.

    Raises:
        DatasetError: there is no dataset, or no such split.
        ValueError: there is no transcript, no split to train on, or `out` names no file.
        StorageError: the disk or network failed.
    """
    store, name = Store(url), FILE_NAME
    if out is not None:
        if not out or out.endswith("/") or os.path.isdir(out):
            raise ValueError(f"{out!r} is a folder: name the file to write, such as {os.path.join(out, FILE_NAME)}")
        folder, _, name = absolute_url(out).rpartition("/")
        store = Store(folder or "/")
    dataset = open_dataset(url)
    for split in splits or ():
        dataset.manifest.shard_names(split)
    chosen = list(splits) if splits else list(dataset.training_splits())
    clips = dataset.index.select(["key", "split", "text"]).filter(pc.field("split").isin(chosen)).sort_by("key")
    texts = [text for text in clips["text"].to_pylist() if text.strip()]
    if not texts:
        raise ValueError(
            f"{url}: no transcript in {', '.join(chosen)}: a tokenizer needs text to be trained on; without text "
            "`python -m train --task lip2speech` trains without a tokenizer"
        )
    tokenizer = train_tokenizer(texts, vocabulary_size)
    store.write(name, tokenizer.model_bytes)
    return TrainedTokenizer(tokenizer, chosen, len(texts), sum(len(text.split()) for text in texts), store.path(name))
