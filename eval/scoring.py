"""Scores of a synthesized clip: metrics of every system's waveform, word and character errors of its hypotheses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.batch_synthesis import SynthesizedClip, float_wave
from eval.metrics import PairScores, character_errors, metric_of, score, word_errors
from eval.metrics.text import normalizer_of
from eval.results import RATES
from eval.settings import EvaluationSettings
from runtime.constants import FPS

Waves = Mapping[str, np.ndarray[Any, Any]]


def score_waves(waves: Waves, metrics: Sequence[str]) -> dict[str, PairScores]:
    """Metrics of every system's waveform beside the original.

    Args:
        waves: system -> int16 samples at 16 kHz, the `original` among them.
        metrics: names. Of the original only those that take one waveform alone.

    Returns:
        System -> figures, and why there is none.
    """
    of_pairs = {system: float_wave(wave) for system, wave in waves.items()}
    alone = [name for name in metrics if metric_of(name).alone]
    return {
        system: score(alone if system == "original" else metrics, of_pairs["original"], wave)
        for system, wave in of_pairs.items()
    }


def rows_of(
    clip: SynthesizedClip, scored: Mapping[str, PairScores], settings: EvaluationSettings
) -> list[dict[str, Any]]:
    """The rows of `clips.parquet` that a clip gives, in the order of `SYSTEMS`.

    An original without figures and without a hypothesis gives none.

    Args:
        clip: as synthesized.
        scored: system -> its scores.
        settings: which systems and metrics, and how texts are compared.
    """
    rows = []
    for system in settings.systems:
        of = scored.get(system, PairScores({}, {}))
        row: dict[str, Any] = {
            "key": clip.key,
            "split": settings.split,
            "speaker": clip.speaker,
            "frames": clip.frames,
            "seconds": clip.frames / FPS,
            "text": clip.text,
            "speaker_reference": clip.speaker_reference,
            "system": system,
            "l1": clip.l1.get(system),
            **{name: of.values.get(name) for name in settings.metrics},
            "wav": wav_name(system, clip.key) if system in clip.waves else None,
        }
        failed = dict(of.failed)
        if system in clip.failures:
            failed |= dict.fromkeys(["l1", *settings.metrics], clip.failures[system])
        if row["l1"] is not None and not np.isfinite(row["l1"]):
            row["l1"], failed["l1"] = None, "the mel holds values that are not finite"
        if system in clip.hypotheses:
            row["hypothesis"] = clip.hypotheses[system]
            row |= _errors(clip.text, clip.hypotheses[system], settings.normalizer, RATES["wer"] + RATES["cer"])
        if system in clip.asr_failures:
            failed |= dict.fromkeys(("wer", "cer"), clip.asr_failures[system])
        if system == "network" and clip.lips_hypothesis is not None:
            row["lips_hypothesis"] = clip.lips_hypothesis
            columns = RATES["lips_wer"] + RATES["lips_cer"]
            row |= _errors(clip.text, clip.lips_hypothesis, settings.normalizer, columns)
        row["failed"] = json.dumps(failed, ensure_ascii=False, sort_keys=True)
        if system != "original" or of.values or failed or clip.hypotheses:
            rows.append(row)
    return rows


def wav_name(system: str, key: str) -> str:
    """Where a waveform lies in the folder of an evaluation."""
    return f"wav/{system}/{key}.wav"


def _errors(text: str | None, hypothesis: str, normalizer: str, columns: Sequence[str]) -> dict[str, int]:
    """The four counts of words and of characters; none where the text is not known."""
    if not text:
        return {}
    normalised = normalizer_of(normalizer)
    text, hypothesis = normalised(text), normalised(hypothesis)
    return dict(zip(columns, (*word_errors(text, hypothesis), *character_errors(text, hypothesis)), strict=True))
