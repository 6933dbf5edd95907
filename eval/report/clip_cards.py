"""Clips that a report shows, and what of each: lips, mels and waveforms on one time axis, texts and figures.

Mels are measured on the waveforms that are played, all in one way and on one scale: the generated mel is that of the
generated waveform, with what the vocoder made of it, not the network's output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc
from markupsafe import Markup

from eval.metrics import Display
from eval.report.about import NAMES
from eval.report.alignment import WordAlignment, align_words
from eval.report.tables import Displays, display_or_name
from eval.report.waveforms import Array, WaveformError, draw_mel, draw_wave, read_waveform
from eval.result_schema import RATES, SYSTEMS, reasons_of, wav_name
from eval.results import Evaluation
from runtime.constants import FPS, SAMPLES_PER_FRAME
from runtime.images import data_uri, jpeg, make_tiles, strip
from shards import Dataset, DatasetError, Sample
from shards.format.wav import encode_wav

Row = dict[str, Any]

STRIP, NARROW_STRIP = 12, 6
"""Frames in a strip, on a wide screen and on a phone."""

MAX_SECONDS = 10
"""Of a clip, so that a page of long ones stays small."""

_PLAYED = ("original", "network", "ceiling")  # systems with a player


class Rank(NamedTuple):
    """Why a clip is shown; in a comparison, by how much its figure changed, and in which evaluation."""

    what: str
    change: str = ""
    evaluation: str = ""


class Player(NamedTuple):
    """A system's mel, its waveform's picture and its sound; `missing` says why there is none."""

    system: str
    mel: str
    wave: Markup
    uri: str
    missing: str


class Hypothesis(NamedTuple):
    """Text recognized in a source, aligned with the reference text; None where that is not known."""

    source: str
    text: str
    alignment: WordAlignment | None


@dataclass(frozen=True)
class ClipCard:
    """What a template shows of a clip."""

    ranks: list[Rank]  # why it is shown
    row: Row  # the network's; of a comparison, the first evaluation's
    seconds: float  # of the time axis
    players: list[Player]  # the original's first
    hypotheses: list[Hypothesis]
    figures: list[tuple[Display, dict[str, float | None]]]  # metric -> how it is displayed, and system -> figure
    notes: list[str]  # what is missing, and why
    strip: str = ""  # a data URI of lips; empty where there are none to be had
    narrow_strip: str = ""


def choose(evaluation: Evaluation, metric: str, shown: int) -> dict[str, list[str]]:
    """`best`, `median` and `worst` -> up to `shown` keys each, the best of each first, no clip twice; fewer than three
    clips are all best. Of equal clips, the first by key counts as the better."""
    keys, values, _ = evaluation.figures("network", metric)
    sign = -1 if display_or_name(metric).higher_is_better else 1
    ranked = [key for _, key in sorted(zip((sign * values).tolist(), keys, strict=True))]
    if len(ranked) < 3:
        return {"best": ranked[:shown]}
    each = min(shown, len(ranked) // 3)
    start = (len(ranked) - each) // 2
    return {"best": ranked[:each], "median": ranked[start : start + each], "worst": ranked[len(ranked) - each :]}


def card_of(
    rank: str,
    key: str,
    evaluation: Evaluation,
    dataset: Dataset | None,
    displays: Displays,
    normalize: Callable[[str], str],
) -> ClipCard:
    """A clip, read from the report's folder and, for its lips, from the dataset; without one, no lips are shown.

    `rank` is best, median or worst; `normalize` is the text normalizer of the error rates.
    """
    rows: dict[str, Row] = {row["system"]: row for row in evaluation.clips.filter(pc.field("key") == key).to_pylist()}
    network, notes = rows["network"], list[str]()
    frames = min(network["frames"], MAX_SECONDS * FPS)
    notes += cut_note(network["frames"])
    sample = _sample(dataset, key, notes)
    tiles = None if sample is None else make_tiles(sample.roi[:frames])
    for system, row in rows.items():
        for metric, reason in reasons_of(row["failed"]).items():
            notes.append(f"No {display_or_name(metric).title} of {NAMES[system]}: {reason}.")
    # the original's waveform is there without a row, too, and may come from the dataset
    length, stored = frames * SAMPLES_PER_FRAME, None if sample is None else sample.wav
    return ClipCard(
        ranks=[Rank(rank)],
        row=network,
        seconds=frames / FPS,
        players=[
            player_of(
                system,
                evaluation.folder,
                rows[system]["wav"] if system in rows else wav_name(system, key),
                length,
                stored if system == "original" else None,
            )
            for system in _PLAYED
            if system == "original" or system in evaluation.systems
        ],
        hypotheses=_hypotheses(rows, normalize),
        figures=[
            (display, {system: _figure(row, metric) for system, row in rows.items()})
            for metric, display in displays.items()
        ],
        notes=notes,
        strip="" if tiles is None else jpeg(strip(tiles, STRIP)),
        narrow_strip="" if tiles is None else jpeg(strip(tiles, NARROW_STRIP)),
    )


def cut_note(frames: int) -> list[str]:
    """What is to be said of a clip that is longer than what is shown."""
    return [f"The first {MAX_SECONDS} of {frames / FPS:.1f} s are shown."] if frames > MAX_SECONDS * FPS else []


def player_of(system: str, folder: Path, name: str | None, length: int, fallback: Array | None = None) -> Player:
    """The player of a system: `length` samples of the file in the evaluation's folder (None where none was kept), or of
    the `fallback`, int16 (L,), where there is no such file."""
    try:
        samples = read_waveform(folder, name, length)
    except WaveformError as error:
        if fallback is None:
            return Player(system, "", Markup(""), "", str(error))
        samples = fallback
    samples = samples[:length]
    uri = data_uri("audio/wav", encode_wav(samples))
    return Player(system, draw_mel(samples, length), draw_wave(samples, length), uri, "")


def hypothesis_of(
    source: str, reference: str | None, text: str | None, normalize: Callable[[str], str]
) -> list[Hypothesis]:
    """The hypothesis beside its reference text, or none where nothing was recognized."""
    if text is None:
        return []
    return [Hypothesis(source, text, align_words(normalize(reference), normalize(text)) if reference else None)]


def _sample(dataset: Dataset | None, key: str, notes: list[str]) -> Sample | None:
    sample, reason = None, "the report was made without the dataset"
    if dataset is not None:
        try:
            sample, reason = dataset.sample(key), "the clip has no pictures"
        except DatasetError as error:
            reason = str(error)
    if sample is not None and sample.roi.size:
        return sample
    notes.append(f"The lips are not shown: {reason}.")
    return None


def _hypotheses(rows: Mapping[str, Row], normalize: Callable[[str], str]) -> list[Hypothesis]:
    """Of the network's waveform first, then of the lips, then of the other systems."""
    network = rows["network"]
    texts = [("the network's waveform", network["hypothesis"]), ("the lips", network["lips_hypothesis"])]
    texts += [(NAMES[system], rows[system]["hypothesis"]) for system in SYSTEMS[1:] if system in rows]
    return [found for source, text in texts for found in hypothesis_of(source, network["text"], text, normalize)]


def _figure(row: Row, metric: str) -> float | None:
    if metric in RATES:
        errors, counted = (row[column] for column in RATES[metric])
        return errors / counted if counted else None
    value: float | None = row[metric]
    return value
