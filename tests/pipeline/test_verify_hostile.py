"""`pipeline verify` ends with all findings, whatever a dataset holds; `info` and `preview` with one sentence."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.verify import verify
from shards import open_dataset
from shards.format.index_bytes import INDEX_NAME
from shards.format.index_writer import encode_index
from tests.pipeline.test_preview import dataset_of, sample_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    samples = [sample_of("main/x/1"), sample_of("main/x/2"), sample_of("main/y/3", split="test")]
    return Path(dataset_of(tmp_path / "set", samples))


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    content = encode_index(rows)
    (folder / INDEX_NAME).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][INDEX_NAME] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def null_frames(folder: Path) -> None:
    rows = open_dataset(str(folder)).index.to_pylist()
    write_rows(folder, [row | {"frames": None} for row in rows])


def key_twice(folder: Path) -> None:
    rows = open_dataset(str(folder)).index.to_pylist()
    write_rows(folder, [rows[0], rows[1] | {"key": rows[0]["key"]}, rows[2]])


def name_no_utf8(folder: Path) -> None:
    shard = folder / "train-000000.tar"
    content = bytearray(shard.read_bytes())
    at = content.index(b"main/x/2.json")
    content[at] = 0xFF
    content[at + 148 : at + 156] = b" " * 8
    content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    shard.write_bytes(content)


def fifo(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def folder_instead(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return change


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "null frames": (null_frames, "index.parquet: column frames: 3 nulls, expected none; rows are taken from"),
    "a key twice": (key_twice, ": the key stands more than once"),
    "no index": (lambda folder: (folder / INDEX_NAME).unlink(), "index.parquet: is missing; rows are taken from"),
    "a name that is no UTF-8": (name_no_utf8, "the name of a member is not UTF-8"),
    "a link to itself as plan.json": (lambda folder: (folder / "plan.json").symlink_to("plan.json"), "plan.json: "),
    **{
        f"{what} as {name}": (change(name), name)
        for what, change in (("a FIFO", fifo), ("a folder", folder_instead))
        for name in ("index.parquet", "errors.jsonl", "train-000000.tar", "train-000000.json", "plan.json")
    },
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_verify_keeps_all_findings(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    test = folder / "test-000000.tar"
    content = bytearray(test.read_bytes())
    content[len(content) // 2] ^= 1
    test.write_bytes(content)
    damage(folder)
    problems = verify(str(folder), workers=0)[1]
    assert any(message in problem for problem in problems)
    assert "test-000000.tar: sha256 is not the manifest's: its bytes have changed" in problems


def test_verify_without_an_index_compares_with_the_sidecars(folder: Path) -> None:
    before = verify(str(folder), workers=0)[1]
    (folder / INDEX_NAME).unlink()
    assert set(verify(str(folder), workers=0)[1]) - set(before) == {
        f"{INDEX_NAME}: is missing; rows are taken from the sidecars"
    }


@pytest.mark.parametrize("damage", [null_frames, fifo("index.parquet"), fifo("manifest.json"), key_twice])
@pytest.mark.parametrize("command", ["info", "preview", "tokenizer"])
def test_command_on_a_damaged_dataset_says_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, damage: Callable[[Path], None]
) -> None:
    damage(folder)
    assert main([command, str(folder)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "index.parquet" in said[0] or "manifest.json" in said[0]


def test_verify_of_the_index_alone_reads_no_shard(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(str(folder), index_only=True)[1] == verify(str(folder), workers=0, index_only=True)[1]
    before = verify(str(folder), index_only=True)[1]
    (folder / "train-000000.tar").unlink()
    assert verify(str(folder), index_only=True)[1] == before
    key_twice(folder)
    assert any("more than once" in problem for problem in verify(str(folder), index_only=True)[1])
    (folder / INDEX_NAME).unlink()
    assert f"{INDEX_NAME}: is missing" in verify(str(folder), index_only=True)[1]
    assert main(["verify", str(folder), "--index-only"]) == 1
