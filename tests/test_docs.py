"""Documentation is true: commands, flags, settings, Python, links and paths on all pages are those of the code."""

from __future__ import annotations

import io
import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from eval.__main__ import main as eval_main
from eval.__main__ import parse as parse_evaluation
from eval.metrics import Metric, MetricError
from eval.metrics.registry import SPEECH_METRICS
from eval.result_schema import SYSTEMS
from model.__main__ import main as model_main
from model.checkpoint import Checkpoint, save_checkpoint
from model.transforms import TransformSettings
from pipeline.build import plan_build, run_build
from pipeline.cli import COMMANDS
from pipeline.config import DATASETS, BuildSettings, config_file
from pipeline.media.coordinates import VIDEO_EXTENSIONS
from shards.format.sidecar import Reason
from tests.benchmarks.__main__ import main as benchmarks_main
from tests.model.networks import small_lip_to_speech
from train.__main__ import main as train_main
from train.__main__ import parse as parse_training
from train.tasks.vsr import VSRTask

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")] + sorted(
    ROOT.glob("docs/*.md")
)
TEXTS = {page: page.read_text() for page in PAGES}
README = TEXTS[ROOT / "README.md"]
DATA = TEXTS[ROOT / "docs/data.md"]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
CHANGELOG = ROOT / "CHANGELOG.md"  # names flags that no longer exist
FLAG = r"(?<![\w-])--[a-z][\w.-]*\w"

# of other programs: Ray, TensorBoard, torchrun, sbatch, git, ruff; and of tests/fuzz
FOREIGN = {
    "--no-deps",
    "--head",
    "--port",
    "--logdir",
    "--standalone",
    "--nproc-per-node",
    "--nnodes",
    "--max-restarts",
    "--requeue",
    "--replay",
    "--forms",
    "--commands",
    "--generate",
    "--include-dashboard",
    "--dashboard-host",
    "--host",
    "--bind_all",
}
FOREIGN |= {f"--rdzv-{name}" for name in ("backend", "endpoint", "id")}
FOREIGN |= {f"--{name}" for name in ("nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "signal")}


def code_lines(text: str) -> list[str]:
    """Lines of a page's indented code blocks; a line that ends in a backslash and the next ones are one."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    joined = "\n".join(re.findall(r"^    .*", text, re.MULTILINE)).replace("\\\n", " ").replace("$seed", "0")
    return [line.strip() for line in joined.splitlines()]


def python_blocks(page: Path) -> list[str]:
    """The fenced Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", TEXTS[page], re.DOTALL)


def commands_like(pattern: str) -> list[tuple[str, ...]]:
    """Groups of a pattern in the code lines of all pages but the change log."""
    lines = [line for page, text in TEXTS.items() if page != CHANGELOG for line in code_lines(text)]
    return [found.groups() for line in lines if (found := re.search(pattern, line))]


@cache
def flags_of(*command: str) -> frozenset[str]:
    """The flags that a command's `--help` lists, with underscores and with hyphens: either is accepted."""
    printed = io.StringIO()
    program = _program(*command)
    with redirect_stdout(printed), pytest.raises(SystemExit):
        program()
    text = printed.getvalue()
    return frozenset(re.findall(FLAG, text + text.replace("_", "-")))


def _program(name: str, *command: str) -> Callable[[], object]:
    arguments = [*command, "--help"]
    if name == "pipeline":
        return lambda: COMMANDS[command[0]](["--help"])
    programs: dict[str, Callable[[list[str]], object]] = {
        "eval": eval_main,
        "model": model_main,
        "benchmarks": benchmarks_main,
        "train": train_main if command else parse_training,
    }
    return lambda: programs[name](arguments)


def test_readme_has_at_most_180_lines() -> None:
    assert len(README.splitlines()) <= 180


def test_readme_results_are_those_of_the_results_page() -> None:
    table = re.search(r"\n\| data and training .*?\n\n", README, re.DOTALL)
    assert table
    results = TEXTS[ROOT / "docs/results.md"]
    assert {number for number in re.findall(r"\d\.\d+", table[0]) if f" {number}" not in results} == set()


def test_python_blocks_run(small_settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_build(plan_build(small_settings, lambda line: None), small_settings, "data/demo-shards", workers=0)
    for number in range(4):  # as many train shards as the demo has
        if not Path(f"data/demo-shards/train-{number:06}.tar").exists():
            shutil.copy("data/demo-shards/train-000000.tar", f"data/demo-shards/train-{number:06}.tar")
    network = small_lip_to_speech()
    pictures = TransformSettings(crop_radius=small_settings.crop_radius, size=32)
    Path("runs/demo").mkdir(parents=True)
    save_checkpoint("runs/demo/best.pt", Checkpoint(network.settings, network.state_dict(), transforms=pictures))
    blocks = [(page, block) for page in PAGES if page != CONTRIBUTING for block in python_blocks(page)]
    assert {page.name for page, _ in blocks} >= {"README.md", "shard-format.md", "model.md"}
    for page, block in blocks:
        printed: list[object] = []
        exec(compile(block, str(page), "exec"), {"print": lambda *line, to=printed: to.append(line)})
        assert printed, f"{page.name}: a block printed nothing:\n{block}"


def test_contributing_metric_runs() -> None:
    names: dict[str, Any] = {}
    exec(python_blocks(CONTRIBUTING)[0], names)
    metric: Metric = names["SNR"]
    wave = np.sin(np.arange(16_000, dtype=np.float32))
    assert metric.function(wave, np.float32(0.9) * wave) == pytest.approx(20.0, abs=1e-3)
    with pytest.raises(MetricError):
        metric.function(wave, wave)


def test_contributing_dataset_is_indexed(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(python_blocks(CONTRIBUTING)[1], names)
    for video in ("train/ann_1.mp4", "train/bob_1.mp4", "val/ann_2.mp4"):
        (tmp_path / video).parent.mkdir(exist_ok=True)
        (tmp_path / video).touch()
    index = names["index_prefixed"](BuildSettings(root=str(tmp_path)))
    assert [(clip.split, clip.speaker) for clip in index.clips] == [("train", "ann"), ("train", "bob"), ("val", "ann")]


def test_contributing_task_is_a_task() -> None:
    names: dict[str, Any] = {"__name__": "contributing"}
    exec(python_blocks(CONTRIBUTING)[2], names)
    assert issubclass(names["CleanVSRTask"], VSRTask)
    assert {"build_model", "loss", "dummy_loss", "validate"} <= set(dir(names["CleanVSRTask"]))


def test_pipeline_commands_are_documented_and_their_flags_exist() -> None:
    lines = commands_like(r"^pipeline (\w+)(.*)$")
    assert {name for name, _ in lines} == set(COMMANDS)
    for name, line in lines:
        assert set(re.findall(FLAG, line.partition(" #")[0])) - flags_of("pipeline", name) == set(), f"{name} {line}"


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("model", {"import", "info", "export"}),
        ("eval", {"compare", "release", "serve", "synthesize"}),
        ("train", {"units"}),
    ],
)
def test_subcommands_are_documented_and_their_flags_exist(package: str, expected: set[str]) -> None:
    lines = commands_like(rf"python -m {package} ([a-z]\w*)(.*)$")
    assert {name for name, _ in lines} >= expected
    for name, line in lines:
        assert set(re.findall(FLAG, line.partition(" #")[0])) - flags_of(package, name) == set(), f"{name} {line}"


def test_flags_in_prose_exist() -> None:
    known = (
        set(FOREIGN)
        | flags_of("eval")
        | flags_of("train")
        | flags_of("train", "units")
        | flags_of("benchmarks")
        | flags_of("benchmarks", "gpu")
    )
    known |= {flag for name in COMMANDS for flag in flags_of("pipeline", name)}
    known |= {flag for name in ("compare", "release", "serve", "synthesize") for flag in flags_of("eval", name)}
    known |= {flag for name in ("import", "info", "export") for flag in flags_of("model", name)}
    for page, text in TEXTS.items():
        if page != CHANGELOG:
            assert set(re.findall(FLAG, text)) - known == set(), page.name


def test_trainings_parse_and_fit_their_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    trainings = commands_like(r"^(.*)-m train (--.*)$")
    assert len(trainings) > 10
    for launcher, line in trainings:
        settings, *_ = parse_training(shlex.split(line, comments=True))
        ranks = [int(n) for n in re.findall(r"--(?:nnodes|nproc-per-node) (\d+)", launcher)]
        assert settings.micro_batches_per_step % math.prod(ranks) == 0, line


def test_evaluations_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    evaluations = commands_like(r"python -m eval (--.*)$")
    assert len(evaluations) > 4
    for (line,) in evaluations:
        parse_evaluation(shlex.split(line, comments=True))


def test_benchmarks_named_exist() -> None:
    named = {name for text in TEXTS.values() for name in re.findall(r"python -m tests\.benchmarks (\w+)", text)}
    assert len(named - {"NAME"}) > 5
    modules = {path.stem for path in (ROOT / "tests/benchmarks").iterdir()}
    assert named - {"NAME"} - modules == set()


def test_make_targets_and_extras_exist() -> None:
    everything = "\n".join(TEXTS.values())
    targets = re.findall(r"\bmake ([a-z]+)", "".join(re.findall(r"^    .*|`[^`]*`", everything, re.MULTILINE)))
    assert {name for name in targets if f"\n{name}:" not in (ROOT / "Makefile").read_text()} == set()
    extras = {name for group in re.findall(r"-e '\.\[([\w,-]+)\]'", everything) for name in group.split(",")}
    assert {name for name in extras if f"\n{name} =" not in (ROOT / "setup.cfg").read_text()} == set()


def test_links_lead_to_pages_and_headings() -> None:
    for page, text in TEXTS.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path) if path else page
            assert file.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors_of(file.read_text()), f"{page.name}: {target}"


def anchors_of(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    assert linked == {str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md")}


def test_source_files_named_exist() -> None:
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    tracked = set(found.stdout.split()) or {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py")}
    names = {Path(name).name for name in tracked}
    for page, text in TEXTS.items():
        if page == CHANGELOG:
            continue
        for path in re.findall(r"`([\w./-]+\.(?:py|yaml|yml|sh))`", text):
            assert "NAME" in path or path in (tracked if "/" in path else names), f"{page.name}: {path}"


def test_skip_reasons_are_explained() -> None:
    assert {reason for reason in get_args(Reason) if f"`{reason}`" not in DATA} == set()


def test_video_extensions_are_listed() -> None:
    assert {kind for kind in VIDEO_EXTENSIONS if f"`.{kind}`" not in DATA} == set()


def test_metrics_and_systems_are_listed() -> None:
    page = TEXTS[ROOT / "docs/evaluation.md"]
    assert {name for name in [*SPEECH_METRICS, *SYSTEMS] if f"`{name}`" not in page} == set()


def test_method_has_the_headings_that_the_code_cites() -> None:
    headings = re.findall(r"^(?:## |\*\*)([^*\n]+)", TEXTS[ROOT / "docs/method.md"], re.MULTILINE)
    cited: set[str] = set()
    for package in ("eval", "model", "pipeline", "runtime", "shards", "train"):
        for file in (ROOT / package).rglob("*.py"):
            text = re.sub(r"\n\s*", " ", file.read_text())
            cited |= {
                name for names in re.findall(r"docs/method\.md, ([A-Z][\w ,]*)[.;)]", text) for name in _split(names)
            }
    assert len(cited) > 10
    assert {name for name in cited if not any(heading.startswith(name) for heading in headings)} == set()


def _split(names: str) -> list[str]:
    whole = ("From mel to waveform, and scores",)  # headings with a comma or an "and" of their own
    if names.startswith((*whole, "Losses and optimizer")):
        return [names]
    return re.split(r", | and ", names)


def test_datasets_have_a_config_file() -> None:
    for dataset in DATASETS:
        assert f"dataset: {dataset}" in config_file(dataset).read_text()
