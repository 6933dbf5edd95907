"""A spoken clip to its figures: metrics of every system's waveform, and words against words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.metrics import PairScores, character_errors, metric_of, score, word_errors
from eval.metrics.text import normalizer_of
from eval.results import RATES, SYSTEMS
from eval.synthesis import SynthesizedClip, float_wave
from runtime.constants import FPS

Waves = Mapping[str, np.ndarray[Any, Any]]


def score_waves(waves: Waves, metrics: Sequence[str]) -> dict[str, PairScores]:
    """Metrics of every system's waveform beside the original.

    Args:
        waves: system -> int16 samples at 16 kHz, the `original` among them.
        metrics: names. Of the original only those are given that judge a waveform by itself.

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
    clip: SynthesizedClip, scored: Mapping[str, PairScores], split: str, metrics: Sequence[str], normalizer: str
) -> list[dict[str, Any]]:
    """The rows of `clips.parquet` that a clip gives, in the order of `SYSTEMS`.

    An original without figures and without a recogniser gives none.

    Args:
        clip: as spoken.
        scored: system -> its scores.
        split: that the clip is of.
        metrics: names of the metrics, `l1` not among them.
        normalizer: of texts before they are compared.
    """
    rows = []
    for system in (name for name in SYSTEMS if name in clip.waves):
        of = scored.get(system, PairScores({}, {}))
        row: dict[str, Any] = {
            "key": clip.key,
            "split": split,
            "speaker": clip.speaker,
            "frames": clip.frames,
            "seconds": clip.frames / FPS,
            "text": clip.text,
            "speaker_reference": clip.speaker_reference,
            "system": system,
            "l1": clip.l1.get(system),
            **{name: of.values.get(name) for name in metrics},
            "wav": wav_name(system, clip.key),
        }
        failed = dict(of.failed)
        if row["l1"] is not None and not np.isfinite(row["l1"]):
            row["l1"], failed["l1"] = None, "the mel holds values that are not finite"
        if system in clip.hypotheses:
            row["hypothesis"] = clip.hypotheses[system]
            row |= _errors(clip.text, clip.hypotheses[system], normalizer, RATES["wer"] + RATES["cer"])
        failed |= dict.fromkeys(("wer", "cer"), clip.asr_failures[system]) if system in clip.asr_failures else {}
        if system == "network" and clip.lips_hypothesis is not None:
            row["lips_hypothesis"] = clip.lips_hypothesis
            row |= _errors(clip.text, clip.lips_hypothesis, normalizer, RATES["lips_wer"] + RATES["lips_cer"])
        row["failed"] = json.dumps(failed, ensure_ascii=False, sort_keys=True)
        if system != "original" or of.values or failed or clip.hypotheses:
            rows.append(row)
    return rows


def wav_name(system: str, key: str) -> str:
    """Where a waveform lies in the folder of an evaluation."""
    return f"wav/{system}/{key}.wav"


def _errors(said: str | None, heard: str, normalizer: str, columns: Sequence[str]) -> dict[str, int]:
    """The four counts of words and of characters; none where it is not known what was said."""
    if not said:
        return {}
    normalize = normalizer_of(normalizer)
    said, heard = normalize(said), normalize(heard)
    return dict(zip(columns, (*word_errors(said, heard), *character_errors(said, heard)), strict=True))
