"""Scores of a synthesized clip, and the rows that it gives: a row a system."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.batch_synthesis import SynthesizedClip, float_wave
from eval.metrics.pair_scores import PairScores
from eval.metrics.registry import metric_of
from eval.metrics.scoring_process import ScoringProcess
from eval.metrics.text import character_errors, normalizer_of, word_errors
from eval.result_schema import RATES, wav_name
from eval.settings import EvaluationSettings
from runtime.constants import FPS
from runtime.limits import MAX_REASON_LENGTH, MAX_RESULT_TEXT

Waves = Mapping[str, np.ndarray[Any, Any]]


def score_waves(waves: Waves, metrics: Sequence[str], scorer: ScoringProcess) -> dict[str, PairScores]:
    """Metrics of every system's waveform beside the original: system -> figures, and why there is none.

    `waves` are int16 samples at 16 kHz by system, the `original` among them.
    """
    of_pairs = {system: float_wave(wave) for system, wave in waves.items()}
    return {
        system: scorer.score(metrics_for(system, metrics), of_pairs["original"], wave)
        for system, wave in of_pairs.items()
    }


def metrics_for(system: str, metrics: Sequence[str]) -> list[str]:
    """Which metrics a system is scored by: the original only by those that take one waveform alone."""
    return [name for name in metrics if system != "original" or metric_of(name).alone]


def rows_of(
    clip: SynthesizedClip, scored: Mapping[str, PairScores], settings: EvaluationSettings
) -> list[dict[str, Any]]:
    """The rows of `clips.parquet` that a clip gives, in the order of `SYSTEMS`.

    An original without figures and without a hypothesis gives none. `scored` is by system.
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
        failed = of.failed | clip.failed.get(system, {})
        if row["l1"] is not None and not np.isfinite(row["l1"]):
            row["l1"], failed["l1"] = None, "the mel holds values that are not finite"
        if clip.text is not None and len(clip.text.encode()) > MAX_RESULT_TEXT:
            row["text"] = None
        if len(clip.hypotheses.get(system, "").encode("utf-8", "replace")) > MAX_RESULT_TEXT:
            why = f"the hypothesis has {len(clip.hypotheses[system]):,} characters: more than {MAX_RESULT_TEXT:,} bytes"
            failed |= dict.fromkeys(("wer", "cer"), why)
        elif system in clip.hypotheses:
            row["hypothesis"] = clip.hypotheses[system]
            row |= _errors(row["text"], clip.hypotheses[system], settings.normalizer, RATES["wer"] + RATES["cer"])
        if system == "network" and clip.lips_hypothesis is not None:
            row["lips_hypothesis"] = clip.lips_hypothesis
            columns = RATES["lips_wer"] + RATES["lips_cer"]
            row |= _errors(row["text"], clip.lips_hypothesis, settings.normalizer, columns)
        failed = {name: reason[:MAX_REASON_LENGTH] for name, reason in failed.items()}
        row["failed"] = json.dumps(failed, ensure_ascii=False, sort_keys=True)
        if system != "original" or of.values or failed or clip.hypotheses:
            rows.append(row)
    return rows


def _errors(text: str | None, hypothesis: str, normalizer: str, columns: Sequence[str]) -> dict[str, int]:
    """The four counts of words and of characters; none where the text is not known."""
    if not text:
        return {}
    normalised = normalizer_of(normalizer)
    text, hypothesis = normalised(text), normalised(hypothesis)
    return dict(zip(columns, (*word_errors(text, hypothesis), *character_errors(text, hypothesis)), strict=True))
