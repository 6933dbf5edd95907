"""Finished evaluations made up for tests, whose figures key and system decide."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from eval.result_schema import FORMAT, SYSTEMS
from eval.results import ABOUT_NAME, Evaluation, table_of, write_clips, write_json
from eval.summary import summarize
from shards import Dataset, Store
from shards.format.wav import encode_wav
from tests.shards.datasets import noise, write_dataset

METRICS = ["l1", "stoi", "estoi", "pesq", "f0_error"]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 6 }}</script><!--<script>"
NONE = "\N{EN DASH}"  # where there is no figure
HOSTILE_KEY = "main/h/" + re.sub(r"[\s./]", "", HOSTILE)
CLIPS = 60  # more than a page of a table holds
DEFAULT_SYSTEMS = ("network", "untrained", "ceiling", "original")
LEVEL = {"network": 0.4, "shuffled_lips": 0.25, "untrained": 0.1, "mean_mel": 0.2, "ceiling": 0.9}
LEVEL |= {"ceiling_griffin_lim": 0.95, "original": 0.0}


def row_of(key: str, system: str, **known: Any) -> dict[str, Any]:
    """A clip's row with figures that key and system decide; the recording has none but its hypothesis."""
    random = np.random.default_rng(crc32(f"{key} {system}".encode()))
    frames = 12 + crc32(key.encode()) % 20
    row: dict[str, Any] = {
        "key": key,
        "split": "test",
        "speaker": f"speaker{crc32(key.encode()) % 3}",
        "frames": frames,
        "seconds": frames / 25,
        "text": "place blue at f two now",
        "speaker_reference": "main/other/1",
        "system": system,
        "failed": "{}",
        "wav": f"wav/{system}/{key}.wav",
    }
    if system != "original":
        row |= {name: float(LEVEL[system] + random.normal(0, 0.08)) for name in METRICS}
        row["f0_error"] = 1000 * row["f0_error"]
    if system != "untrained":
        wrong = int(random.integers(0, 3)) if system == "network" else 0
        hypothesis = " ".join(["gin", "green", "at", "f", "two", "now"][:wrong] + row["text"].split()[wrong:])
        row |= {
            "hypothesis": hypothesis,
            "word_errors": wrong,
            "words": 6,
            "character_errors": 2 * wrong,
            "characters": 23,
        }
    return row | known


def evaluation_of(
    folder: Path, rows: Sequence[dict[str, Any]], metrics: Sequence[str] = METRICS, **about: Any
) -> Evaluation:
    """A finished evaluation of these rows, with a tone for every waveform that they name."""
    for row in rows:
        if row["wav"]:
            file = folder / row["wav"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_wav(tone(row["system"], row["frames"])))
    known = {
        "format": FORMAT,
        "identity": {},
        "checkpoint": {"path": "runs/x/best.pt", "sha256": "ab12" * 16, "step": 12000, "parameters": 27_300_000},
        "dataset": {"url": "data/set", "recipe": "demo", "manifest_sha256": "cd34" * 16, "split": "test", "clips": 1},
        "settings": {"speaker_reference": "other", "vocoder": "default", "metrics": list(metrics), "clips": None},
        "versions": {"torch": "2.13.0"},
        "command": "python -m eval --checkpoint runs/x/best.pt",
        "started": "2026-11-23T11:00:00+00:00",
    }
    store = Store(str(folder))
    write_json(store, ABOUT_NAME, known | about)
    write_clips(store, table_of(rows, metrics))
    return Evaluation.open(folder)


def tone(system: str, frames: int) -> np.ndarray[Any, Any]:
    hz = 300 + 200 * SYSTEMS.index(system)
    return (8000 * np.sin(2 * np.pi * hz * np.arange(640 * frames) / 16_000)).astype(np.int16)


def all_rows(keys: Sequence[str], **known: Any) -> list[dict[str, Any]]:
    return [row_of(key, system, **known) for key in keys for system in DEFAULT_SYSTEMS]


def summary_of(evaluation: Evaluation, **more: Any) -> dict[str, Any]:
    return summarize(evaluation) | {"skipped": [], "damaged": []} | more


KEYS = [f"main/s/{number:02d}" for number in range(CLIPS - 1)] + [HOSTILE_KEY]


def sixty_clips(folder: Path) -> tuple[Evaluation, Dataset, dict[str, Any]]:
    """An evaluation, its dataset and its summary; name, text and speaker of one clip are meant to do harm,
    and four have no PESQ."""
    rows = all_rows(KEYS)
    for row in rows:
        if row["key"] == HOSTILE_KEY:
            row |= {"text": HOSTILE, "speaker": HOSTILE, "speaker_reference": HOSTILE}
            row |= {"hypothesis": f"{HOSTILE} more"} if row["system"] == "network" else {}
        if row["key"] in KEYS[:3] + KEYS[-1:] and row["system"] == "network":
            row |= {"pesq": None, "failed": json.dumps({"pesq": HOSTILE})}
        if row["key"] == HOSTILE_KEY and row["system"] == "network":
            row["estoi"] = 0.99  # the best: it is shown
    evaluation = evaluation_of(folder / "report", rows)
    samples = [noise(key, "test", row_of(key, "network")["frames"]) for key in KEYS]
    dataset = write_dataset(str(folder / "set"), {"test-000000.tar": samples})
    skipped = [{"key": HOSTILE_KEY, "stage": "sound", "reason": "sound_silent", "detail": HOSTILE, "split": "test"}]
    skipped += [{"key": "main/z/1", "stage": "decode", "reason": "video_short", "detail": "3 frames", "split": "test"}]
    damaged = [{"key": "main/z/2", "reason": "its checksum is wrong"}]
    return evaluation, dataset, summary_of(evaluation, skipped=skipped, damaged=damaged)
