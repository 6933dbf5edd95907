"""The settings files: every setting of the published method stands in one of them, and what it says is what is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.corpora.lrs import LRS2, LRS3, Layout
from runtime.settings_file import read_section
from train.__main__ import main, parse
from train.settings import TaskName, TrainSettings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PUBLISHED = ("network", "asr", "transforms", "segments", "losses", "optimizer")
NOT_PUBLISHED = {
    *("network.vocabulary", "network.n_mels", "asr.vocabulary", "asr.n_mels"),  # the data's
    *("segments.fps", "segments.min_frames", "losses.delta", "losses.estoi", "losses.units", "losses.intermediate_ctc"),
    "losses.distillation",
    *("network.visual.front", "network.intermediate_ctc", "network.posteriors", "network.units"),
    *("asr.intermediate_ctc", "asr.units", "asr.unit_layer"),
    *("transforms.crop_radius", "transforms.margin", "transforms.subtract_temporal_mean"),
}
"""Settings of those sections that docs/method.md has nothing to say of."""


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("corpus", ["lrs2", "lrs3"])
def test_config_states_every_setting_of_the_published_method(corpus: str) -> None:
    section = read_section(CONFIGS / f"{corpus}.yaml", "train")
    written = dict(_leaves({name: section[name] for name in PUBLISHED}))
    defaults = dict(_leaves({name: dataclasses.asdict(getattr(TrainSettings(), name)) for name in PUBLISHED}))
    published = {name: value for name, value in defaults.items() if name not in NOT_PUBLISHED}
    assert written == published


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("task", get_args(TaskName))
def test_config_values_are_those_that_are_run(path: Path, task: str) -> None:
    if path.stem == "folder":
        pytest.skip("a corpus without training settings")
    section = read_section(path, "train")
    settings, _, _ = parse(["--config", str(path), "--task", task])
    resolved = dict(_leaves(dataclasses.asdict(settings)))
    assert resolved["task"] == task
    above = dict(_leaves(section.get("tasks", {}).get(task, {})))
    below = {name: value for name, value in _leaves(section) if not name.startswith("tasks")}
    for name, value in (below | above).items():
        if name == "curriculum":
            assert [stage["epochs"] for stage in value] == [stage.epochs for stage in settings.curriculum]
        else:
            assert resolved[name] == value, name


@pytest.mark.parametrize(("corpus", "layout"), [("lrs2", LRS2), ("lrs3", LRS3)])
def test_config_splits_are_those_that_a_build_makes(corpus: str, layout: Layout) -> None:
    settings, _, _ = parse(["--config", str(CONFIGS / f"{corpus}.yaml")])
    assert {*settings.splits, settings.validation.split} <= set(layout.splits)


def _status(arguments: list[str]) -> Any:
    """The exit status, whether it is returned or raised by the parser."""
    try:
        return main(arguments)
    except SystemExit as left:
        return left.code


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("transforms: {erase: 3}", "erase"),
        ("tasks: {asr: {spec_augment: {masks: 3}}}", "masks"),
        ("optimizer: {learning_rate: fast}", "learning_rate"),
        ("tasks: {tts: {}}", "tts"),
        ("transforms: {crop_radius: 40}", "transforms.crop_radius"),
        ("tasks: {asr: {transforms: {crop_radius: 40}}}", "transforms.crop_radius"),
    ],
)
def test_config_with_an_unknown_setting_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, named: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"train:\n  shards: nowhere\n  {line}\n")
    assert _status(["--config", str(path), "--task", "asr"]) == 2
    assert named in capsys.readouterr().err
