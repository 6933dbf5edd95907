"""What listens to a waveform: anything that makes texts of waveforms, under a name.

A recogniser is a function: waveforms in, one text each out. `load_asr` makes one of

`runs/asr/best.pt`        a checkpoint of the recipe `asr`, or a published recogniser
`whisper:small.en`        Whisper, run by faster-whisper (the extra `whisper`)
`package.module:factory`  whatever factory(device) returns

None of them is given what cannot be heard, a waveform that is empty, silent or broken: there the text is "".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.metrics.audio import Wave
from eval.metrics.optional import import_extra
from eval.systems import check_recipe
from model import asr as network
from model.checkpoint import Checkpoint, build_network, load_checkpoint
from model.ctc import BeamSettings, beam_search, greedy
from model.mel import MelSettings, log_mel_batch
from model.tokenizer import Tokenizer
from runtime.constants import SAMPLE_RATE

ASRModel = Callable[[Sequence[Wave]], list[str]]
"""float32 (L,) waveforms at 16 kHz, of any lengths -> what is heard in each."""

WHISPER = "whisper:"

_IMPORT_PATH = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")

_PADDED_SECONDS = 240.0
"""Of a batch, unless a single waveform is longer."""


def load_asr(
    name: str,
    device: torch.device,
    tokenizer: Tokenizer | None = None,
    beam: int = 1,
) -> ASRModel:
    """The recogniser of a name, ready to listen.

    Args:
        name: a checkpoint file, `whisper:NAME` or `package.module:factory`. NAME is one of faster-whisper's models,
            which it fetches where it has it not yet, or a folder with one. factory(device) returns a `ASRModel`.
        device: that it runs on.
        tokenizer: for a published recogniser, whose file holds none: that of its training. A checkpoint's own goes
            before it.
        beam: how many beginnings of a text are kept on the way. 1: the best path of a checkpoint, and greedily by
            Whisper; more: a prefix beam search, and Whisper's own.

    Returns:
        A function that does not depend on what is heard together: a clip's text is the same alone and in a batch, but
        for float32's rounding, where two pieces are equally likely.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a checkpoint of another network, or without a tokenizer that fits; a Whisper model that cannot be
            loaded; what cannot be imported or makes no recogniser; a beam for what has none, or below 1. The recogniser
            itself raises it for arrays of another kind, and where it has another number of texts than waveforms.
        PackageMissingError: faster-whisper is not installed.
    """
    if beam < 1:
        raise ValueError(f"beam: {beam} is too small, at least 1 was expected")
    if os.path.exists(name):
        checkpoint = load_checkpoint(name)
        _check(checkpoint, name)
        return _guarded(name, _ours(checkpoint, name, device, tokenizer, beam), checkpoint.mel)
    if name.startswith(WHISPER):
        return _guarded(name, _whisper(name.removeprefix(WHISPER), device, beam))
    path = _IMPORT_PATH.fullmatch(name)
    if path is None:
        raise FileNotFoundError(
            f"recogniser {name}: there is no such file; expected a checkpoint, {WHISPER}NAME or package.module:factory"
        )
    _check_beam(name, beam)
    return _guarded(name, _imported(name, path[1], path[2], device))


def check_asr(name: str, tokenizer: Tokenizer | None, beam: int = 1) -> None:
    """Say now what `load_asr` would trip over, as far as that is quick. Arguments and errors are its own."""
    path = _IMPORT_PATH.fullmatch(name)
    if name.startswith(WHISPER):
        import_extra("faster_whisper", "whisper")
    elif path is not None and not os.path.exists(name):
        _check_beam(name, beam)
        _factory(name, path[1], path[2])
    else:
        load_asr(name, torch.device("cpu"), tokenizer, beam)


def _check_beam(name: str, beam: int) -> None:
    if beam != 1:
        raise ValueError(f"recogniser {name}: beam {beam}, which is for checkpoints and Whisper: leave it out")


def _guarded(name: str, recogniser: ASRModel, mel: MelSettings = MelSettings()) -> ASRModel:
    """The recogniser, given only what can be heard, and held to one text a waveform."""

    def recognise(waves: Sequence[Wave]) -> list[str]:
        for number, wave in enumerate(waves):
            if wave.ndim != 1 or wave.dtype.kind != "f":
                raise ValueError(f"waveform {number} is {wave.dtype} {wave.shape}: expected float32 (samples,)")
        audible = [number for number, wave in enumerate(waves) if _can_be_heard(wave, mel)]
        heard = recogniser([np.asarray(waves[number], np.float32) for number in audible]) if audible else []
        if not isinstance(heard, list) or not all(isinstance(text, str) for text in heard):
            raise ValueError(f"recogniser {name}: returned {type(heard).__name__}: expected a list of str")
        if len(heard) != len(audible):
            raise ValueError(f"recogniser {name}: {len(heard)} texts of {len(audible)} waveforms: expected one each")
        texts = dict(zip(audible, heard, strict=True))
        return [texts.get(number, "") for number in range(len(waves))]

    return recognise


def _can_be_heard(wave: Wave, mel: MelSettings) -> bool:
    return len(wave) > mel.n_fft // 2 and bool(np.isfinite(wave).all()) and bool(wave.any())


def _check(checkpoint: Checkpoint, path: str) -> None:
    """`ValueError` unless it is a recogniser of sound as it comes here."""
    check_recipe(checkpoint, path, "asr")
    assert isinstance(checkpoint.settings, network.ASRSettings)
    mel, bands = checkpoint.mel, checkpoint.settings.n_mels
    if (mel.sample_rate, mel.n_mels) != (SAMPLE_RATE, bands):
        raise ValueError(
            f"{path}: trained on {mel.n_mels} bands at {mel.sample_rate} Hz: expected {bands}, which it has, "
            f"at {SAMPLE_RATE} Hz"
        )


def _tokenizer_of(checkpoint: Checkpoint, path: str, given: Tokenizer | None) -> Tokenizer:
    """The checkpoint's own, or the given one."""
    if checkpoint.tokenizer is not None:
        return checkpoint.tokenizer
    pieces = checkpoint.settings.vocabulary
    if given is None:
        raise ValueError(f"{path}: holds no tokenizer, as published files do: give the one of its {pieces} pieces")
    if given.vocabulary_size != pieces:
        raise ValueError(
            f"{path}: has {pieces} pieces, and the tokenizer {given.vocabulary_size}: give the one that it was "
            "trained with"
        )
    return given


def _ours(checkpoint: Checkpoint, path: str, device: torch.device, given: Tokenizer | None, beam: int) -> ASRModel:
    """A checkpoint's network with masked padding, batches of waveforms of nearly the same length."""
    tokenizer = _tokenizer_of(checkpoint, path, given)
    masked = replace(checkpoint, settings=replace(checkpoint.settings, padding="masked"))
    built = build_network(masked, path).to(device)
    assert isinstance(built, network.ASRModel)

    def read(logits: Tensor, lengths: Tensor) -> list[list[int]]:
        if beam == 1:
            return greedy(logits, lengths)
        found = beam_search(logits.log_softmax(dim=-1), lengths, BeamSettings(beam=beam))
        return [answers[0].tokens for answers in found]

    @torch.inference_mode()
    def recognise(waves: Sequence[Wave]) -> list[str]:
        texts = [""] * len(waves)
        for rows in _batches([len(wave) for wave in waves]):
            samples = torch.tensor([len(waves[row]) for row in rows])
            padded = torch.zeros(len(rows), int(samples.max()))
            for place, row in enumerate(rows):
                padded[place, : len(waves[row])] = torch.from_numpy(waves[row])
            # whole hops: the last frame, half of it reflection, is not trained on either
            lengths = samples // checkpoint.mel.hop_length
            mel = log_mel_batch(padded.to(device), samples, checkpoint.mel)[..., : int(lengths.max())]
            heard = built(mel, lengths)
            for row, pieces in zip(rows, read(heard.logits.float(), heard.lengths), strict=True):
                texts[row] = tokenizer.decode(pieces)
        return texts

    return recognise


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows, the longest first, as many together as `_PADDED_SECONDS` have room for."""
    rows = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    while rows:
        fit = max(1, int(_PADDED_SECONDS * SAMPLE_RATE) // lengths[rows[0]])
        yield rows[:fit]
        rows = rows[fit:]


def _whisper(model: str, device: torch.device, beam: int) -> ASRModel:
    """Whisper for English, waveform by waveform: temperature 0 alone, each window without a word of those before."""
    make = import_extra("faster_whisper", "whisper").WhisperModel
    compute = "float16" if device.type == "cuda" else "float32"
    try:
        loaded = make(model, device=device.type, device_index=device.index or 0, compute_type=compute, cpu_threads=1)
    except (OSError, RuntimeError, ValueError) as error:  # no such model, none to be fetched, or a damaged one
        raise ValueError(f"recogniser {WHISPER}{model}: cannot be loaded: {error}") from error

    def recognise(waves: Sequence[Wave]) -> list[str]:
        texts = []
        for wave in waves:
            segments, _ = loaded.transcribe(
                wave,
                language="en",
                beam_size=beam,
                temperature=0.0,
                without_timestamps=True,
                condition_on_previous_text=False,
            )
            texts.append(" ".join(segment.text.strip() for segment in segments))
        return texts

    return recognise


def _imported(name: str, module: str, factory: str, device: torch.device) -> ASRModel:
    """What a factory of someone else's makes."""
    recogniser = _factory(name, module, factory)(device)
    if not callable(recogniser):
        raise ValueError(f"recogniser {name}: made {type(recogniser).__name__}: expected a function of waveforms")
    return recogniser  # type: ignore[no-any-return]


def _factory(name: str, module: str, factory: str) -> Callable[[torch.device], Any]:
    try:
        found: Callable[[torch.device], Any] = getattr(import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"recogniser {name}: cannot be imported: {error}") from error
    return found
