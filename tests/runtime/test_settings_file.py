"""Settings files: sections and bases, and YAML that is too large, too deep, or holds more than plain values."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.settings_file import read_section


def written(folder: Path, text: str, name: str = "settings.yaml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_read_section_lies_over_its_base(tmp_path: Path) -> None:
    written(tmp_path, "train: {a: 1, b: {c: 2, d: 3}}", "base.yaml")
    path = written(tmp_path, "base: base.yaml\ntrain: {b: {d: 4}}")
    assert read_section(path, "train") == {"a": 1, "b": {"c": 2, "d": 4}}


def test_read_section_writes_out_aliases(tmp_path: Path) -> None:
    path = written(tmp_path, "train: {a: &x [1, 2], b: *x, c: {<<: {d: 1}}}")
    assert read_section(path, "train") == {"a": [1, 2], "b": [1, 2], "c": {"d": 1}}


BOMB = "train:\n" + "".join(
    f"  l{level}: &l{level} [{', '.join(['1' if level == 0 else f'*l{level - 1}'] * 9)}]\n" for level in range(9)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "once its aliases are written out"),
        ("train: &x {a: *x}", "alias \\*x"),
        ("train: " + "[" * 100_000 + "]" * 100_000, "32 levels"),
        ("train: " + "{a: " * 5_000 + "}" * 5_000, "32 levels"),
        ("train: {a: 2020-01-01}", "train.a: .* found a date"),
        ("train: {a: 2020-99-99}", "not readable YAML"),
        ("train: {a: !!binary aGFsbG8=}", "train.a: .* found a bytes"),
        ("train: {a: !!set {b}}", "train.a: .* found a set"),
        ("train: {a: !!python/object/apply:os.system [ls]}", "not readable YAML"),
        ("train: {a: .nan}", "train.a: .* found not a number"),
        ("train: {1: a}", "train.1: a name was expected"),
        ("train: {[a]: 1}", "not readable YAML"),
        ("train: 'a\n", "not readable YAML"),
        ("base: [x]\ntrain: {}", "base: the name of a settings file"),
        ("base: settings.yaml\ntrain: {}", "base: .*more than 8 files"),
        ("train: {a: '" + "x" * 300_000 + "'}", "at most 262,144 are allowed"),
        ("train: [1]", "train: a mapping of settings was expected"),
        ("- 1", "a mapping of sections was expected"),
    ],
)
def test_read_section_refuses_by_the_files_name(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=said) as caught:
        read_section(path, "train")
    assert str(caught.value).startswith(f"{path}: ")


def test_read_section_refuses_what_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"train: {a: \xff}")
    with pytest.raises(ValueError, match="not UTF-8 at byte 11"):
        read_section(path, "train")
