"""Fingerprint of an evaluation: written into its folder first, so that another one is refused there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.result_schema import FORMAT
from eval.results import ABOUT_NAME, read_about, write_json
from eval.settings import EvaluationSettings
from model.checkpoint import Checkpoint
from runtime.versions import versions_of
from shards import Dataset, Store
from shards.format.manifest import MANIFEST_NAME
from shards.loading.planned_batches import MicroBatch

DIGEST = re.compile("[0-9a-f]{64}")
"""What stands in an evaluation's identity for a file."""

_LIBRARIES = (
    *("lip-to-speech", "torch", "numpy", "scipy", "soxr", "librosa", "pystoi", "pesq", "jiwer", "ray"),
    *("faster-whisper", "whisper-normalizer", "Resemblyzer", "speechmos", "onnxruntime"),
)


def about_of(
    settings: EvaluationSettings, dataset: Dataset, checkpoint: Checkpoint, planned: Sequence[MicroBatch], command: str
) -> dict[str, Any]:
    """The content of `evaluation.json`. `identity` is what figures depend on: settings, digests of files."""
    manifest = dataset.store.sha256(MANIFEST_NAME)
    files = {name: digest_of(getattr(settings, name)) for name in ("asr", "speaker_reference")}
    files["vocoder"] = digest_of(settings.vocoder_file)
    weights = digest_of(settings.checkpoint)
    return {
        "format": FORMAT,
        "identity": {
            **settings.identity(),
            **{name: digest for name, digest in files.items() if digest is not None},
            "checkpoint": weights,
            "manifest": manifest,
        },
        "checkpoint": {
            "path": settings.checkpoint,
            "sha256": weights,
            "step": checkpoint.step,
            "padding": checkpoint.settings.padding,
            "parameters": sum(tensor.numel() for tensor in checkpoint.weights.values()),
            "metrics": dict(checkpoint.metrics),
        },
        "dataset": {
            "url": settings.shards,
            "recipe": dataset.manifest.recipe["dataset"],
            "plan": dataset.manifest.plan,
            "manifest_sha256": manifest,
            "split": settings.split,
            "clips": sum(len(micro_batch.clips) for micro_batch in planned),
        },
        "settings": vars(settings),
        "versions": versions_of(_LIBRARIES),
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def digest_of(path: str | None) -> str | None:
    """SHA-256 of a file; None where there is none."""
    if path is None or not Path(path).is_file():
        return None
    file = Path(path).absolute()
    return Store(str(file.parent)).sha256(file.name)


def claim(store: Store, about: dict[str, Any]) -> None:
    """Write what is evaluated into an empty folder; accept one of the very same evaluation, and refuse others."""
    found = read_about(Path(store.path()))
    if found is None:
        if store.exists() and any(not name.startswith(".") for name in store.names()):
            raise ValueError(f"{store.path()}: is not empty and holds no evaluation: choose another --out")
        write_json(store, ABOUT_NAME, about)
        return
    before, now = found.get("identity", {}), json.loads(json.dumps(about["identity"]))
    different = [
        f"{name} was {repr(before.get(name))[:200]} and is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if different:
        raise ValueError(
            f"{store.path()}: holds another evaluation ({'; '.join(different)}): choose another --out, or delete it"
        )
