"""ASR back-ends for WER: whatever makes texts of waveforms, by name.

An ASR model is a function: waveforms in, a hypothesis each out. `load_asr` makes one of

`runs/asr/best.pt`        a checkpoint of the task `asr`, or a published one
`whisper:small.en`        Whisper, run by faster-whisper (the extra `whisper`)
`package.module:factory`  whatever factory(device) returns

None of them is given a waveform that is empty, silent or not finite: there the hypothesis is "".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch

from eval.metrics.optional import PackageMissingError, import_extra
from eval.metrics.waveforms import Wave
from model import asr as network
from model.checkpoint import Checkpoint, build_network, check_task, load_checkpoint
from model.ctc import decode
from model.mel import MelSettings, clip_mels
from model.tokenizer import Tokenizer
from runtime.constants import SAMPLE_RATE

ASR = Callable[[Sequence[Wave]], list[str]]
"""float32 (L,) waveforms at 16 kHz, of any lengths -> a hypothesis of each."""

WHISPER = "whisper:"

_IMPORT_PATH = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")

_PADDED_SECONDS = 240.0
"""Of a batch, unless a single waveform is longer."""


def load_asr(name: str, device: torch.device, tokenizer: Tokenizer | None = None, beam: int = 1) -> ASR:
    """The ASR model of a name: a function of each waveform alone, whose hypothesis is the same alone and in a batch,
    but for float32's rounding, where two pieces are equally likely.

    Args:
        name: a checkpoint file, `whisper:NAME` or `package.module:factory`. NAME is one of faster-whisper's models,
            which it fetches where it has it not yet, or a folder with one. factory(device) returns an `ASR`.
        tokenizer: for a published checkpoint, whose file holds none: that of its training. A checkpoint's own goes
            before it.
        beam: size of the beam. 1: greedy; more: a prefix beam search for a checkpoint, Whisper's own for Whisper.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a checkpoint of another network, or without a tokenizer that fits; a Whisper model that cannot be
            loaded; what cannot be imported or makes no function; a beam for what has none, or below 1. The ASR model
            itself raises it for arrays of another kind, and where it has another number of texts than waveforms.
        PackageMissingError: faster-whisper is not installed.
    """
    make, mel = _resolve(name, tokenizer, beam)
    return _guarded(name, make(device), mel)


def check_asr(name: str, tokenizer: Tokenizer | None, beam: int = 1) -> None:
    """Say now what `load_asr` would trip over, as far as that is quick. Arguments and errors are its own."""
    _resolve(name, tokenizer, beam)


def _resolve(name: str, tokenizer: Tokenizer | None, beam: int) -> tuple[Callable[[torch.device], ASR], MelSettings]:
    """What makes the ASR model of a name on a device, and the analysis of its mel."""
    if beam < 1:
        raise ValueError(f"beam: {beam} is too small, at least 1 was expected")
    if os.path.exists(name):
        checkpoint = load_checkpoint(name, "asr")
        settings = _checked(checkpoint, name)
        tokenizer = _tokenizer_of(checkpoint, name, tokenizer)
        masked = replace(checkpoint, settings=replace(settings, padding="masked"))
        built = build_network(masked, name)
        assert isinstance(built, network.ASRModel)
        return partial(_ours, built, tokenizer, checkpoint.mel, beam), checkpoint.mel
    if name.startswith(WHISPER):
        import_extra("faster_whisper", "whisper")
        return partial(_whisper, name.removeprefix(WHISPER), beam), MelSettings()
    path = _IMPORT_PATH.fullmatch(name)
    if path is None:
        raise FileNotFoundError(
            f"asr: {name}: there is no such file; expected a checkpoint, {WHISPER}NAME or package.module:factory"
        )
    if beam != 1:
        raise ValueError(f"asr: {name}: beam {beam}, which is for checkpoints and Whisper: drop it")
    try:
        factory = getattr(import_module(path[1]), path[2])
    except (ImportError, AttributeError) as error:
        raise ValueError(f"asr: {name}: cannot be imported: {error}") from error
    return partial(_custom, name, factory), MelSettings()


def recognize_each(asr: ASR, waves: Sequence[Wave]) -> list[tuple[str | None, str]]:
    """A hypothesis of each waveform, or None and why the ASR model fails on it: alone, if not together.

    What is not the waveform's fault is raised: packages that are missing, memory of the device.
    """
    try:
        return [(text, "") for text in asr(waves)]
    except Exception:  # some waveform, or all: one by one they tell
        return [_recognize_one(asr, wave) for wave in waves]


def _recognize_one(asr: ASR, wave: Wave) -> tuple[str | None, str]:
    try:
        return asr([wave])[0], ""
    except (ImportError, PackageMissingError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _guarded(name: str, asr: ASR, mel: MelSettings) -> ASR:
    """The ASR model, given only waveforms with sound in them, and held to one text a waveform."""

    def recognize(waves: Sequence[Wave]) -> list[str]:
        for number, wave in enumerate(waves):
            if wave.ndim != 1 or wave.dtype.kind != "f":
                raise ValueError(f"waveform {number} is {wave.dtype} {wave.shape}: expected float32 (samples,)")
        audible = [number for number, wave in enumerate(waves) if _has_sound(wave, mel)]
        found = asr([np.asarray(waves[number], np.float32) for number in audible]) if audible else []
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise ValueError(f"asr: {name}: returned {type(found).__name__}: expected a list of str")
        if len(found) != len(audible):
            raise ValueError(f"asr: {name}: {len(found)} texts of {len(audible)} waveforms: expected one each")
        texts = dict(zip(audible, found, strict=True))
        return [texts.get(number, "") for number in range(len(waves))]

    return recognize


def _has_sound(wave: Wave, mel: MelSettings) -> bool:
    return len(wave) > mel.n_fft // 2 and bool(np.isfinite(wave).all()) and bool(wave.any())


def _checked(checkpoint: Checkpoint, path: str) -> network.ASRSettings:
    """Its settings; `ValueError` unless it is an ASR model of sound as it comes here."""
    check_task(checkpoint, path, "asr")
    assert isinstance(checkpoint.settings, network.ASRSettings)
    mel, bands = checkpoint.mel, checkpoint.settings.n_mels
    if (mel.sample_rate, mel.n_mels) != (SAMPLE_RATE, bands):
        raise ValueError(
            f"{path}: trained on {mel.n_mels} bands at {mel.sample_rate} Hz: expected {bands}, which it has, "
            f"at {SAMPLE_RATE} Hz"
        )
    return checkpoint.settings


def _tokenizer_of(checkpoint: Checkpoint, path: str, given: Tokenizer | None) -> Tokenizer:
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


def _ours(built: network.ASRModel, tokenizer: Tokenizer, settings: MelSettings, beam: int, device: torch.device) -> ASR:
    """A checkpoint's network, batches of waveforms of nearly the same length."""
    built.to(device)

    @torch.inference_mode()
    def recognize(waves: Sequence[Wave]) -> list[str]:
        texts = [""] * len(waves)
        for rows in _batches([len(wave) for wave in waves]):
            samples = torch.tensor([len(waves[row]) for row in rows])
            padded = torch.zeros(len(rows), int(samples.max()))
            for place, row in enumerate(rows):
                padded[place, : len(waves[row])] = torch.from_numpy(waves[row])
            mel = clip_mels(padded.to(device), samples, settings)
            output = built(mel, samples // settings.hop_length)
            for row, pieces in zip(rows, decode(output.logits.float(), output.lengths, beam), strict=True):
                texts[row] = tokenizer.decode(pieces)
        return texts

    return recognize


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows, the longest first, as many together as `_PADDED_SECONDS` have room for."""
    rows = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    while rows:
        fit = max(1, int(_PADDED_SECONDS * SAMPLE_RATE) // lengths[rows[0]])
        yield rows[:fit]
        rows = rows[fit:]


def _whisper(model: str, beam: int, device: torch.device) -> ASR:
    """Whisper for English, waveform by waveform: temperature 0 alone, each window without a word of those before."""
    make = import_extra("faster_whisper", "whisper").WhisperModel
    compute = "float16" if device.type == "cuda" else "float32"
    try:
        loaded = make(model, device=device.type, device_index=device.index or 0, compute_type=compute, cpu_threads=1)
    except (OSError, RuntimeError, ValueError) as error:  # no such model, none to be fetched, or a damaged one
        raise ValueError(f"asr: {WHISPER}{model}: cannot be loaded: {error}") from error

    def recognize(waves: Sequence[Wave]) -> list[str]:
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

    return recognize


def _custom(name: str, factory: Callable[[torch.device], Any], device: torch.device) -> ASR:
    asr = factory(device)
    if not callable(asr):
        raise ValueError(f"asr: {name}: made {type(asr).__name__}: expected a function of waveforms")
    return asr  # type: ignore[no-any-return]
