"""Which clips a report shows, and what it shows of each: lips, mels and waveforms on one time axis, texts and figures.

Both mels are measured on the waveforms that are heard, in one way and on one scale: the generated mel is that of the
generated sound, with what the vocoder made of it, not the network's output.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc
from markupsafe import Markup

from eval.report.alignment import WordAlignment, align_words
from eval.report.tables import Look, look_of
from eval.report.waveforms import Array, SoundError, draw_mel, draw_wave, read_sound
from eval.results import RATES, SYSTEMS, Evaluation
from eval.scoring import wav_name
from runtime.constants import FPS, SAMPLES_PER_FRAME
from runtime.images import data_uri, jpeg, make_tiles, strip
from shards import Dataset, DatasetError, Sample
from shards.format.sample import encode_wav

Row = dict[str, Any]

STRIP, NARROW_STRIP = 12, 6
"""Frames in a strip, on a wide screen and on a phone."""

MOST_SECONDS = 10
"""Of a clip: a page of long ones stays small."""

_HEARD = ("original", "network", "ceiling")  # systems with a player


class Sound(NamedTuple):
    """What is heard of a system: its mel, its waveform's picture and its sound; or why there is none."""

    system: str
    mel: str
    wave: Markup
    uri: str
    missing: str


class Text(NamedTuple):
    """What was recognised: of what, and the errors marked; None where it is not known what was said."""

    of: str
    heard: str
    marked: WordAlignment | None


@dataclass(frozen=True)
class Card:
    """What the template shows of a clip.

    Attributes:
        rank: best, median or worst.
        row: the network's.
        seconds: of the time axis.
        strip, narrow_strip: data URIs of lips; empty where there are none to be had.
        sounds: the original's first.
        texts: what was recognised.
        figures: metric -> system -> figure.
        notes: what is missing, and why.
    """

    rank: str
    row: Row
    seconds: float
    strip: str
    narrow_strip: str
    sounds: list[Sound]
    texts: list[Text]
    figures: list[tuple[Look, dict[str, float | None]]]
    notes: list[str]


def choose(evaluation: Evaluation, look: Look, shown: int) -> dict[str, list[str]]:
    """`best`, `median` and `worst` -> up to `shown` keys each, the best of each first, no clip twice; fewer than three
    clips are all best. Of equal clips, the first by key counts as the better."""
    keys, values, _ = evaluation.figures("network", look.name)
    sign = -1 if look.display.higher_is_better else 1
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
    looks: Sequence[Look],
    normalize: Callable[[str], str],
) -> Card:
    """A clip, read from the report's folder and, for its lips, from the dataset.

    Args:
        rank: best, median or worst.
        key: of the clip.
        evaluation: it is of.
        dataset: it is of; None: no lips are shown.
        looks: of the metrics.
        normalize: what texts went through before their errors were counted.
    """
    rows: dict[str, Row] = {row["system"]: row for row in evaluation.clips.filter(pc.field("key") == key).to_pylist()}
    network, notes = rows["network"], list[str]()
    frames = min(network["frames"], MOST_SECONDS * FPS)
    if frames < network["frames"]:
        notes.append(f"The first {MOST_SECONDS} of {network['seconds']:.1f} s are shown.")
    sample = _sample(dataset, key, notes)
    tiles = None if sample is None else make_tiles(sample.roi[:frames])
    for system, row in rows.items():
        for metric, reason in json.loads(row["failed"] or "{}").items():
            notes.append(f"No {look_of(metric).display.title} of {_OF[system]}: {reason}.")
    return Card(
        rank=rank,
        row=network,
        seconds=frames / FPS,
        strip="" if tiles is None else jpeg(strip(tiles, STRIP)),
        narrow_strip="" if tiles is None else jpeg(strip(tiles, NARROW_STRIP)),
        sounds=[
            _sound(evaluation, key, system, rows.get(system), sample, frames * SAMPLES_PER_FRAME) for system in _HEARD
        ],
        texts=_texts(rows, normalize),
        figures=[(look, {system: _figure(rows.get(system), look.name) for system in rows}) for look in looks],
        notes=notes,
    )


_OF = {
    "network": "the network",
    "shuffled_lips": "the network with shuffled lips",
    "untrained": "the untrained network",
    "mean_mel": "the mean mel",
    "ceiling": "the ceiling",
    "original": "the original",
}


def _sample(dataset: Dataset | None, key: str, notes: list[str]) -> Sample | None:
    if dataset is None:
        notes.append("The lips are not shown: the report was made without the dataset.")
        return None
    try:
        sample = dataset.sample(key)
    except DatasetError as error:
        notes.append(f"The lips are not shown: {error}.")
        return None
    if not sample.roi.size:
        notes.append("The lips are not shown: the clip has no pictures.")
        return None
    return sample


def _sound(evaluation: Evaluation, key: str, system: str, row: Row | None, sample: Sample | None, length: int) -> Sound:
    """Of a system, from the folder. The original is there without a row, too, and may come from the dataset."""
    name = row["wav"] if row is not None else wav_name(system, key)
    instead = sample.wav if system == "original" and sample is not None else None
    return sound_of(system, evaluation.folder, name, length, instead)


def sound_of(system: str, folder: Path, name: str | None, length: int, instead: Array | None = None) -> Sound:
    """What is heard of a system.

    Args:
        system: it is of.
        folder: of the evaluation.
        name: of the file in it; None where none was kept.
        length: samples of the time axis, that it is cut to.
        instead: int16 (L,) that are heard where there is no such file.
    """
    try:
        samples = read_sound(folder, name)
    except SoundError as error:
        if instead is None:
            return Sound(system, "", Markup(""), "", str(error))
        samples = instead
    samples = samples[:length]
    uri = data_uri("audio/wav", encode_wav(samples))
    return Sound(system, draw_mel(samples, length), draw_wave(samples, length), uri, "")


def _texts(rows: dict[str, Row], normalize: Callable[[str], str]) -> list[Text]:
    """Of the network's sound first, then of the lips, then of the others."""
    said = rows["network"]["text"]
    heard = [("the network's sound", rows["network"]["hypothesis"]), ("the lips", rows["network"]["lips_hypothesis"])]
    heard += [(_OF[system], rows[system]["hypothesis"]) for system in SYSTEMS[1:] if system in rows]
    return [
        Text(of, text, align_words(normalize(said), normalize(text)) if said else None)
        for of, text in heard
        if text is not None
    ]


def _figure(row: Row | None, metric: str) -> float | None:
    if row is None:
        return None
    if metric in RATES:
        errors, counted = (row[column] for column in RATES[metric])
        return errors / counted if counted else None
    value: float | None = row[metric]
    return value
