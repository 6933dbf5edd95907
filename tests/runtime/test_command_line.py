"""Settings files and flags: nothing that they name where a setting is expected is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from train.__main__ import parse

CLASS = {"class_path": "evil_settings.E"}
BY_PATH = "evil.yaml"
SECTIONS: list[dict[str, Any]] = [
    {"network": CLASS},
    {"network": "evil_settings.E"},
    {"network": json.dumps(CLASS)},
    {"network": BY_PATH},
    {"network": {"visual": CLASS}},
    {"network": {"visual": {"conformer": "evil_settings.E"}}},
    {"network": CLASS | {"init_args": {"vocabulary": 3}}},
    {"curriculum": [CLASS]},
    {"curriculum": ["evil_settings.E"]},
    {"tasks": {"lip2speech": {"network": CLASS}}},
    {"out": CLASS},
    {"schedule": {"rate": CLASS}},
    {"schedule": "os.system"},
]
FLAGS = [
    ["--network=evil_settings.E"],
    ["--network", json.dumps(CLASS)],
    ["--network.class_path=evil_settings.E"],
    ["--network.visual=evil_settings.E"],
    ["--network", BY_PATH],
    ["--curriculum", json.dumps([CLASS])],
    ["--network.help=evil_settings.E"],
    ["--device=evil_settings.E"],
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a module that leaves a file when it is imported."""
    (tmp_path / "evil_settings.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass E: pass\n")
    (tmp_path / BY_PATH).write_text("class_path: evil_settings.E\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("section", SECTIONS, ids=str)
def test_settings_file_with_a_class_path_is_refused_before_an_import(section: dict[str, Any], folder: Path) -> None:
    (folder / "x.yaml").write_text(yaml.safe_dump({"train": section}))
    refused = r"^2$|x\.yaml: train\..*(class_path: settings name values|and a mapping of settings was expected)"
    with pytest.raises((SystemExit, ValueError), match=refused):
        parse(["--config=x.yaml"])
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_flags_with_a_class_path_are_refused_before_an_import(flags: list[str], folder: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(flags)
    assert not (folder / "ran").exists()


def test_settings_in_mappings_and_lists_are_still_read(folder: Path) -> None:
    stage = {"epochs": 1, "max_words": 2, "max_frames": 100}
    section = {"curriculum": [stage], "network": {"visual": {"conformer": {"layers": 2}}}}
    (folder / "x.yaml").write_text(yaml.safe_dump({"train": section}))
    settings, _, _ = parse(["--config=x.yaml", "--network.vocabulary=31"])
    assert vars(settings.curriculum[0]) == stage
    assert (settings.network.visual.conformer.layers, settings.network.vocabulary) == (2, 31)


def test_error_of_a_flag_escapes_and_cuts_what_a_settings_file_holds(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.yaml").write_text(yaml.safe_dump({"train": {"seed": "\u202e\x1b[2J" + 100_000 * "x"}}))
    with pytest.raises(SystemExit, match="2"):
        parse(["--config=x.yaml"])
    said = capsys.readouterr().err
    assert "seed" in said
    assert r"\u202e\x1b[2J" in said
    assert len(said) < 20_000
    assert not {"\u202e", "\x1b"} & set(said)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"network": 2}, "train.network: 2, and a mapping"),
        ({"network": {"speaker": [1]}}, r"train.network.speaker: \[1\], and a mapping"),
        ({"optimizer": None}, "train.optimizer: None, and a mapping"),
        ({"batch": "x.yaml"}, "train.batch: 'x.yaml', and a mapping"),
        ({"curriculum": None}, "train.curriculum: null, and a value"),
        ({"tasks": {"lip2speech": {"losses": True}}}, "train.losses: True, and a mapping"),
        ({"network": {"speaker": {"channels": []}}}, r"width 512, channels \(\): expected 1 or more"),
        ({"network": {"decoder": {"channels": []}}}, r"width 512, channels \(\): expected 1 or more"),
    ],
    ids=str,
)
def test_settings_of_another_kind_are_refused_by_name(section: dict[str, Any], expected: str, folder: Path) -> None:
    (folder / "y.yaml").write_text(yaml.safe_dump({"train": section}))
    with pytest.raises(ValueError, match=expected):
        parse(["--config=y.yaml"])


@pytest.mark.parametrize("task", [["asr"], {"asr": 1}, 3, "other"], ids=str)
def test_settings_with_a_task_that_is_no_name_are_refused(
    task: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "y.yaml").write_text(yaml.safe_dump({"train": {"task": task, "tasks": {"asr": {"out": "x"}}}}))
    with pytest.raises(SystemExit, match="2"):
        parse(["--config=y.yaml"])
    said = capsys.readouterr().err
    assert '"task"' in said
    assert "<class" not in said
