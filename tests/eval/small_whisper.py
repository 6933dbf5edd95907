"""A Whisper model in faster-whisper's form that hears the same word in everything: real code, weights of a few numbers.

All layers are 0, so that what the decoder says depends on the position alone: the word at first, then the end.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

_WIDTH = 16
_SPECIAL = [
    *("<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>"),
    *("<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
    *(f"<|{number / 50:.2f}|>" for number in range(1501)),
]


def small_whisper(folder: Path, word: str, times: int) -> Path:
    """Write the model; returns its folder."""
    folder.mkdir()
    tokens = [word, "<unk>", *_SPECIAL]
    spec = import_module("ctranslate2.specs").WhisperSpec(1, 2, 1, 2)
    encoder, decoder = spec.encoder, spec.decoder
    _fill(encoder.conv1, (_WIDTH, 80, 3))
    _fill(encoder.conv2, (_WIDTH, _WIDTH, 3))
    for layer in encoder.layer + decoder.layer:
        _fill_attention(layer.self_attention, (3 * _WIDTH, _WIDTH))
        _fill_norm(layer.ffn.layer_norm)
        _fill(layer.ffn.linear_0, (_WIDTH, _WIDTH))
        _fill(layer.ffn.linear_1, (_WIDTH, _WIDTH))
    for layer in decoder.layer:
        _fill_attention(layer.attention, (_WIDTH, 2 * _WIDTH, _WIDTH))
    _fill_norm(encoder.layer_norm)
    _fill_norm(decoder.layer_norm)
    encoder.position_encodings.encodings = _zeros(1500, _WIDTH)
    decoder.embeddings.weight = _zeros(len(tokens), _WIDTH)
    decoder.position_encodings.encodings = positions = _zeros(448, _WIDTH)
    decoder.projection.weight = projection = _zeros(len(tokens), _WIDTH)
    # the first word comes at position 1, after the two tokens of the prompt
    positions[: 1 + times, 0] = positions[1 + times :, 1] = 1
    projection[0, 0] = projection[tokens.index("<|endoftext|>"), 1] = 5
    spec.register_vocabulary(tokens)
    for name in ("suppress_ids", "suppress_ids_begin", "lang_ids", "alignment_heads"):
        setattr(spec.config, name, [])
    spec.validate()
    spec.optimize("float32")
    spec.save(str(folder))
    tokenizers = import_module("tokenizers")
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.add_special_tokens(_SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def _fill(layer: Any, shape: tuple[int, ...]) -> None:
    layer.weight, layer.bias = _zeros(*shape), _zeros(shape[0])


def _fill_norm(norm: Any) -> None:
    norm.gamma, norm.beta = np.ones(_WIDTH, np.float32), _zeros(_WIDTH)


def _fill_attention(attention: Any, sizes: tuple[int, ...]) -> None:
    _fill_norm(attention.layer_norm)
    for linear, size in zip(attention.linear, sizes, strict=True):
        _fill(linear, (size, _WIDTH))
