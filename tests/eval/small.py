"""A dataset with something to understand in it, a network of a few weights, and evaluations of both."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.settings import EvaluationSettings
from model.checkpoint import Checkpoint, save_checkpoint
from model.transforms import TransformSettings
from shards import Dataset, Sample
from tests.eval.sounds import sentence
from tests.model.networks import small_lip_to_speech
from tests.shards.datasets import HALF, noise, write_dataset


def spoken_clip(key: str, split: str, frames: int) -> Sample:
    """Noise for lips, and a stretch of a spoken sentence."""
    spoken = np.resize(np.roll(sentence(), 97 * len(key)), 640 * frames)
    return replace(noise(key, split, frames), wav=(20_000 * spoken).astype(np.int16), text="now now")


def spoken_dataset(folder: Path) -> Dataset:
    """Eight clips of three speakers in the split test; one more was left out of it, and one of another split."""
    named = {
        "test-000000.tar": [spoken_clip(f"main/a/{number}", "test", 40 + 5 * number) for number in range(4)],
        "test-000001.tar": [spoken_clip(f"main/b/{number}", "test", 51 + number) for number in range(3)],
        "test-000002.tar": [spoken_clip("main/alone/0", "test", 60)],
    }
    lost = {"key": "main/b/9", "source": "b/9.mp4", "stage": "decode", "reason": "video_short", "detail": "3 frames"}
    lines = [json.dumps(lost | {"split": split}) for split in ("test", "val")]
    (folder / "errors.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return write_dataset(str(folder), named)


def small_checkpoint(path: Path) -> Path:
    """Writes an untrained network."""
    torch.manual_seed(1)
    network = small_lip_to_speech()
    pictures = TransformSettings(crop_radius=HALF, size=32)
    save_checkpoint(path, Checkpoint(network.settings, network.state_dict(), transforms=pictures))
    return path


def small_evaluation(dataset: Dataset, checkpoint: Path, out: Path, **more: Any) -> EvaluationSettings:
    """In this process, by two quick metrics, in batches of two or three clips."""
    quick: dict[str, Any] = {"metrics": ["stoi", "estoi"], "workers": 0, "max_padded_frames": 160, "device": "cpu"}
    where = {"checkpoint": str(checkpoint), "shards": dataset.store.url, "split": "test", "out": str(out)}
    return EvaluationSettings(**{**quick, **where, **more})


def digests(folder: Path) -> dict[str, str]:
    """Of all files but those that say when."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("report.html", "evaluation.json"):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
