"""`precision: auto`: chosen by device and size when a run begins, and kept on resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.conformer import ConformerSettings
from model.lip_to_speech import LipToSpeechSettings
from model.visual_encoder import VisualSettings
from tests.train.runs import task_flags
from train import precision
from train.__main__ import main
from train.precision import best_precision, cpu_computes_in_bf16
from train.settings import TrainSettings

SMALL = TrainSettings(network=LipToSpeechSettings(visual=VisualSettings(conformer=ConformerSettings(width=128))))


@pytest.mark.parametrize(
    ("device", "settings", "in_bf16", "expected"),
    [
        ("cuda", SMALL, False, "bf16"),
        ("cpu", TrainSettings(), True, "bf16"),
        ("cpu", TrainSettings(), False, "float32"),
        ("cpu", SMALL, True, "float32"),
        ("cpu", replace(SMALL, task="asr"), True, "bf16"),  # of another network, which is large
    ],
)
def test_best_precision_goes_by_device_and_size(
    device: str, settings: TrainSettings, in_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_computes_in_bf16", lambda: in_bf16)
    assert best_precision(settings, torch.device(device)) == expected


@pytest.mark.parametrize(("capability", "expected"), [("amx_bf16", True), ("avx512_bf16", True), ("avx2", False)])
def test_cpu_computes_in_bf16_by_its_instructions(
    capability: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True}, raising=False)
    assert cpu_computes_in_bf16() == expected


@pytest.mark.parametrize("first", ["float32", "bf16"])
def test_auto_precision_of_a_resumed_run_is_what_it_began_with(shards: str, tmp_path: Path, first: str) -> None:
    settings = {"steps": 1, "every": 1, "validation.split": "null"}
    assert main(task_flags("asr", shards, tmp_path, precision=first, **settings)) == 0
    settings["steps"] = 2
    assert main([*task_flags("asr", shards, tmp_path, precision="auto", **settings), "--resume=auto"]) == 0
    kept = json.loads((tmp_path / "settings.json").read_text())
    assert kept["settings"]["precision"] == kept["fingerprint"]["settings"]["precision"] == first
