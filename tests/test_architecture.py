"""The architecture: imports run only downwards and in no circle, and names that were replaced are gone."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ALLOWED = {
    "runtime": set[str](),
    "shards": {"runtime"},
    "model": {"runtime"},
    "pipeline": {"model", "shards", "runtime"},
    "eval": {"pipeline", "model", "shards", "runtime"},
    "train": {"eval", "model", "shards", "runtime"},
}
"""Rooms, and the rooms that each may import."""

NARROW = {("train", "eval"): ("eval.metrics",), ("eval", "pipeline"): ("pipeline.media", "pipeline.tracking")}
"""Of these rooms only a part may be imported."""

RAY = ("runtime/ray_connection.py", "eval/executors.py")
"""Where jobs are started."""

OLD_MODULES = [
    "train.going_on",
    "train.start",
    "train.run",
    "train.run_folder",
    "train.ranks",
    "train.logbook",
    "train.meter",
    "train.recipe",
    "train.recipes",
    "train.visual",
    "train.asr",
    "train.lip2speech",
    "train.texts",
    "train.sound",
    "train.speaking",
    "train.pictures",
    "train.schedule",
    "train.loop",
    "eval.running",
    "eval.work",
    "eval.hearing",
    "eval.voices",
    "eval.file_voice",
    "eval.networks",
    "eval.mels",
    "eval.identity",
    "eval.intervals",
    "eval.batches",
    "eval.one_clip",
    "eval.metrics.judges",
    "eval.metrics.words",
    "eval.metrics.waves",
    "eval.metrics.warping",
    "eval.metrics.packages",
    "eval.metrics.scorers",
    "eval.report.marking",
    "eval.compare.alike",
    "shards.reading",
    "pipeline.grey",
    "pipeline.sound",
    "pipeline.timing",
    "pipeline.jobs",
    "pipeline.lag",
    "pipeline.pictures",
    "pipeline.recipe",
    "pipeline.datasets",
    "pipeline.av_sync",
    "pipeline.commands",
    "runtime.mel_image",
    "model.visual",
    "model.speaker",
    "model.decoder",
    "model.recogniser",
    "model.segments",
    "model.plain_settings",
    "model.compiled",
    "model.resizing",
    "configs",
]

OLD_SETTINGS = [
    "half",
    "crops",
    "keep",
    "on_damage",
    "still",
    "warm_up",
    "bad_steps",
    "reference_from",
    "slope",
    "recipe",
    "recipes",
    "micro_batches",
    "voice",
    "recogniser",
    "optimiser",
    "normaliser",
    "init_visual",
]


def modules(room: str) -> dict[str, Path]:
    """Module name -> file, of a room."""
    found = {}
    for path in sorted((ROOT / room).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def all_modules() -> dict[str, Path]:
    return {name: path for room in ALLOWED for name, path in modules(room).items()}


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Everything that a file imports, inside of functions too, but for what only type checkers see."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def ours(path: Path) -> set[str]:
    """Modules of ours that a file imports; of a package, the module in it where one is named."""
    known = imports_of(path) & all_modules().keys()
    return {name for name in known if not any(other.startswith(f"{name}.") for other in known)}


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_run_downwards(room: str) -> None:
    wrong = []
    for name, path in modules(room).items():
        for imported in ours(path):
            target = imported.partition(".")[0]
            parts = NARROW.get((room, target), (target,))
            fits = target == room or (
                target in ALLOWED[room] and any(f"{imported}.".startswith(f"{p}.") for p in parts)
            )
            if not fits:
                wrong.append(f"{name} imports {imported}")
    assert not wrong, "\n".join(sorted(wrong))


def test_imports_form_no_circle() -> None:
    graph = {name: ours(path) - {name} for name, path in all_modules().items()}
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    # what is left has only imports into what is left: take away what nobody in it imports, too
    while roots := graph.keys() - {target for targets in graph.values() for target in targets}:
        graph = {name: targets for name, targets in graph.items() if name not in roots}
    assert not graph, {name: sorted(targets & graph.keys()) for name, targets in graph.items()}


def test_ray_is_imported_only_where_jobs_are_started() -> None:
    users = {str(path.relative_to(ROOT)) for path in all_modules().values() if "ray" in imports_of(path)}
    assert users <= set(RAY)


def test_prints_escape_what_files_hold() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in all_modules().values()
        if path != ROOT / "runtime/terminal.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not found, f"runtime.terminal.say instead of print: {found}"


def test_configs_hold_yaml_only() -> None:
    assert {path.suffix for path in (ROOT / "configs").iterdir() if path.name != "__pycache__"} == {".yaml"}


def test_replaced_module_names_are_gone() -> None:
    python = [path for room in (*ALLOWED, "tests") for path in (ROOT / room).rglob("*.py")]
    found = [f"{path}: {name}" for path in python for name in imports_of(path) & set(OLD_MODULES)]
    assert not found, "\n".join(found)
    assert not set(OLD_MODULES) & all_modules().keys()


def test_replaced_settings_are_gone() -> None:
    names = "|".join(OLD_SETTINGS)
    field = re.compile(rf"^    ({names}): [A-Za-z]|^\s*[{{,]?\s*({names}): \S", re.MULTILINE)
    flag = re.compile(rf"--(?:[a-z_.-]+\.)?({names.replace('_', '[-_]')})\b(?![.-])")
    found = []
    batch = re.compile(r"\bbatch(?:\.|: \{.*\b)max[-_]frames\b")  # batch.max_padded_frames: padding is counted
    settings = [*ROOT.glob("*/settings.py"), ROOT / "pipeline/config.py", ROOT / "model/transforms.py"]
    for path in [*settings, ROOT / "model/losses.py", *ROOT.glob("configs/*.yaml")]:
        text = path.read_text("utf-8")
        found += [f"{path.relative_to(ROOT)}: {match[0].strip()}" for match in field.finditer(text)]
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in batch.finditer(text)]
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", *ROOT.glob("docs/*.md")]:
        text = path.read_text("utf-8")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for old in (flag, batch) for match in old.finditer(text)]
    assert not found, "\n".join(found)
