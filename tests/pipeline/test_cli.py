"""The command line: flags and settings files of `pipeline`, and the messages for wrong ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.cli import COMMANDS, main
from tests.corpora import Lrs2Corpus


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command line."""
    try:
        status = main(arguments)
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    output = capsys.readouterr()
    return status, output.out, output.err


def build_arguments(corpus: Lrs2Corpus, out: Path) -> list[str]:
    return ["build", "--dataset", "lrs2", "--root", str(corpus.root), "--out", str(out), "--workers", "0"]


def test_build_verify_info_and_preview_follow_each_other(
    capsys: pytest.CaptureFixture[str], small_corpus: Lrs2Corpus, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    status, output, errors = run(capsys, *build_arguments(small_corpus, out))
    assert status == 0
    assert "pretrain" in output
    assert "10/10 clips" in errors
    status, output, _ = run(capsys, "verify", str(out), "--workers", "0")
    assert (status, "verified: 10 clips" in output) == (0, True)
    status, output, _ = run(capsys, "info", str(out))
    assert status == 0
    assert "speaker0" in output
    assert "no clip was skipped" in output
    assert run(capsys, "preview", str(out), "--n", "1", "--split", "val", "--html", str(tmp_path / "val.html"))[0] == 0
    status, output, _ = run(capsys, "preview", str(out), "--n", "3")
    assert status == 0
    assert f"preview of 3 clips, to open in a browser: {out}-preview.html" in output.replace("\n", "")
    assert Path(f"{out}-preview.html").stat().st_size > 10_000


def test_build_dry_run_prints_the_plan_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], small_corpus: Lrs2Corpus, tmp_path: Path
) -> None:
    status, output, _ = run(capsys, *build_arguments(small_corpus, tmp_path / "out"), "--dry-run", "--shard-mb=0.5")
    assert status == 0
    for words in ("bytes expected", "shards", "hours", "train", "pretrain"):
        assert words in output
    assert not (tmp_path / "out").exists()


def test_build_sums_up_skipped_clips_by_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("a/1")
    corpus.add("a/2", transcript=None)
    corpus.add("a/3", coordinates=None)
    status, output, _ = run(capsys, *build_arguments(corpus.finish(), tmp_path / "out"))
    assert status == 0
    assert "1 skipped: transcript: transcript_missing" in output
    assert "1 skipped: index: coordinates_missing" in output
    assert "errors.jsonl" in output


def test_build_takes_the_settings_file_of_the_named_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    for dataset, setting in (
        ("lrs2", "crop_radius: 40"),
        ("lrs3", "crop_radius: 50"),
        ("folder", "transcripts: optional"),
    ):
        status, output, _ = run(capsys, "build", "--dataset", dataset, "--print_config")
        assert status == 0
        assert setting in output
        assert f"dataset: {dataset}" in output
    assert "root: data/demo/LRS2-BBC" in run(capsys, "build", "--print_config")[1], "the demo is the default"


def test_build_flags_override_a_config_which_overrides_the_file_of_its_dataset(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("data: {dataset: lrs3, shard_mb: 64, seed: 3}\n")
    _, output, _ = run(capsys, "build", "--config", str(config), "--seed", "4", "--print-config")
    for setting in ("dataset: lrs3", "crop_radius: 50", "shard_mb: 64", "seed: 4"):
        assert setting in output


def test_build_adds_splits_of_the_command_line_to_those_of_the_config(
    capsys: pytest.CaptureFixture[str], small_corpus: Lrs2Corpus, tmp_path: Path
) -> None:
    for number, name in enumerate(("even", "odd")):
        (tmp_path / f"{name}.txt").write_text(f"speaker{number}/{number:05}\n")
    config = tmp_path / "mine.yaml"
    config.write_text(
        f"data: {{dataset: lrs2, split_lists: {tmp_path}, split: [odd=odd.txt], root: {small_corpus.root}}}\n"
    )
    status, output, errors = run(capsys, "build", "--config", str(config), "--split", "even=even.txt", "--dry-run")
    assert status == 0, errors
    assert {"odd", "even"} <= set(output.split())


def test_build_verify_and_info_take_paths_with_brackets(
    capsys: pytest.CaptureFixture[str], small_corpus: Lrs2Corpus, tmp_path: Path
) -> None:
    out = tmp_path / "a[red]b[blue]"
    assert run(capsys, *build_arguments(small_corpus, out))[0] == 0
    status, output, _ = run(capsys, "verify", str(out), "--workers", "0")
    assert status == 0
    assert "a[red]b[blue]" in output
    assert run(capsys, "info", str(out))[0] == 0


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("data: {shard_gb: 1}", "shard_gb"),
        ("shard_mb: 1", "shard_mb"),
        ("data: {half: 40}", "half.*crop_radius"),
        ("data: {splits: lists}", "splits.*split_lists"),
        ("data: {crop_radius: wide}", "crop_radius"),
        ("data: {dataset: lrs9}", "lrs9"),
        ("base: nowhere.yaml", "nowhere.yaml"),
        ("a: [", "YAML"),
    ],
)
def test_build_refuses_a_wrong_config_by_its_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, what: str
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(content)
    status, _, errors = run(capsys, "build", "--config", str(config))
    assert status == 2
    assert re.search(what, errors)
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["buidl"], "no command 'buidl'"),
        (["build", "--crop-radius", "big"], "crop_radius"),
        (["build", "--half", "40"], "half.*crop_radius"),
        (["build", "--no-such-flag", "1"], "no-such-flag|no_such_flag"),
        (["build", "--dataset", "lrs5"], "lrs5"),
        (["build", "--datase", "lrs3"], "datase"),
        (["build", "--dataset", "lrs2", "--root", "/nowhere/at/all"], "/nowhere/at/all: no such folder"),
        (["build", "--dataset", "folder", "--root", ".", "--lip-box", "here"], "lip_box"),
        (["build", "--crop-radius", "0"], "crop_radius: 0 is too small"),
        (["build", "--split", "a b"], "NAME=FILE"),
        (["verify", "/nowhere/at/all"], "no manifest"),
        (["info", "/nowhere/at/all"], "no manifest"),
        (["preview", "/nowhere/at/all"], "no manifest"),
        (["info", "nosuch://bucket"], "nosuch"),
    ],
)
def test_command_line_refuses_what_is_wrong_with_one_message(
    capsys: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    status, _, errors = run(capsys, *arguments)
    assert status == 2
    assert re.search(what, errors)
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_command_line_has_help_version_and_print_config_for_each_command(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    status, output, _ = run(capsys, command, "--help")
    assert status == 0
    assert (COMMANDS[command].__doc__ or "?").split(":")[0].rstrip(".") in output.replace("\n", " ")
    assert "_mb" not in output, "flags are spelled with dashes"
    status, output, _ = run(capsys, command, "--version")
    assert (status, "lip-to-speech" in output) == (0, True)
    status, output, _ = run(capsys, command, "--print-config")
    assert (status, ": " in output) == (0, True)


def test_demo_corpus_names_a_missing_espeak_on_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("espeakng_loader.get_library_path", lambda: str(tmp_path / "nowhere.so"))
    status, _, errors = run(capsys, "demo", "--out", str(tmp_path / "demo"), "--workers", "1")
    assert status == 2
    assert "espeak" in errors
    assert "Traceback" not in errors


def test_command_line_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    status, output, _ = run(capsys, "--help")
    assert status == 0
    assert all(command in output for command in COMMANDS)
    assert run(capsys)[0] == 2


def test_demo_corpus_is_written_and_built_by_the_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    demo = ["demo", "--out", str(tmp_path / "demo"), "--clips", "9", "--speakers", "3", "--workers", "1"]
    assert run(capsys, *demo)[0] == 0
    arguments = ["--root", str(tmp_path / "demo" / "LRS2-BBC"), "--out", str(tmp_path / "out"), "--workers", "0"]
    status, _, errors = run(capsys, "build", *arguments)
    assert status == 0, errors
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["totals"]["clips"] == 9
    assert manifest["totals"]["skipped"] == 0
    assert set(manifest["splits"]) == {"train", "val", "test", "pretrain"}
    assert run(capsys, "verify", str(tmp_path / "out"), "--workers", "0")[0] == 0
