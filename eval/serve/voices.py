"""Voices that a page offers: speakers of the dataset that a checkpoint was trained on, a clip's sound of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.constants import FPS, SAMPLE_RATE
from runtime.limits import MAX_ABOUT_BYTES
from runtime.regular_file import read_regular_text
from shards import Dataset, open_dataset
from shards.format.wav import encode_wav

_RUN_SETTINGS = "settings.json"
"""Beside the checkpoints of a run (docs/training.md, Files of a run)."""
_MIN_FRAMES = FPS
_MAX_SECONDS = 10
_MAX_ROWS = 200_000
"""Of an index that are looked at: as many clips as LRS3 has."""


def voices_dataset(shards: str | None, checkpoint: Path) -> Dataset | None:
    """The dataset to take voices from: the one named, or the one that a checkpoint's run was trained on, if the run
    says so and it is there; None: there is none, or none is wanted. `DatasetError` where the one named cannot be read.
    """
    if shards is not None:
        return None if shards == "none" else open_dataset(shards)
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        try:
            content: Any = json.loads(read_regular_text(folder / _RUN_SETTINGS, MAX_ABOUT_BYTES))
            return open_dataset(str(content["settings"]["shards"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return None


def write_voices(dataset: Dataset, count: int, folder: Path) -> dict[str, str]:
    """Write a wav file for each of so many speakers of the training splits, those with the most clips, by name.

    A speaker's voice is the sound of his median clip, up to ten seconds.

    Returns:
        Speakers by the name of their file.

    Raises:
        DatasetError: the dataset cannot be read.
        ValueError: all its splits are held out.
        OSError: the disk failed.
    """
    index = dataset.clip_index
    names, speaker_of = index.speaker
    clips: dict[str, list[int]] = {}
    for row in index.rows_of(dataset.training_splits())[:_MAX_ROWS].tolist():
        name = names[speaker_of[row]]
        if name and index.frames[row] >= _MIN_FRAMES:
            clips.setdefault(str(name), []).append(row)
    chosen = sorted(clips, key=lambda name: (-len(clips[name]), name))[:count]
    written = {}
    for number, speaker in enumerate(sorted(chosen)):
        rows = sorted(clips[speaker], key=lambda row: (int(index.frames[row]), row))
        sound = dataset.sample(index.keys_of([rows[len(rows) // 2]])[0]).wav
        file = f"voice-{number}.wav"
        (folder / file).write_bytes(encode_wav(sound[: _MAX_SECONDS * SAMPLE_RATE]))
        written[file] = speaker
    return written
