"""`pipeline tokenizer`: from a dataset's training transcripts to a tokenizer beside them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from model.tokenizer import Tokenizer, train_tokenizer
from pipeline.build import plan_build, run_build
from pipeline.cli import main
from pipeline.config import BuildSettings
from shards import Manifest, Store
from shards.format.index_bytes import INDEX_NAME
from shards.format.index_writer import encode_index
from shards.format.manifest import MANIFEST_NAME, ShardEntry, encode_manifest
from shards.format.member_names import MEMBERS, member_extension
from shards.format.member_sizes import member_sizes
from shards.format.sample import roi_side

Rows = list[tuple[str, str, str]]
ROWS: Rows = [
    ("main/a/1", "train", "place blue at f two now"),
    ("main/a/2", "train", "set green by g nine soon"),
    ("main/a/3", "val", "jumping ж"),
    ("main/a/4", "test", "quick щ"),
    ("pretrain/a/5", "pretrain", "lay white with x three please"),
]
TRAINING = [text for _, split, text in ROWS if split in ("train", "pretrain")]


def write_dataset(folder: Path, rows: Rows) -> Path:
    """What of a dataset tells of its text: index and manifest."""
    folder.mkdir(exist_ok=True)
    sizes = {member: member_sizes(5, roi_side(40))[member_extension(member, "roi.npy")][0] for member in MEMBERS}
    columns: dict[str, Any] = {"frames": 5, "speaker": "a", "source": "a.mp4", "words": [], "roi_member": "roi.npy"}
    columns |= {f"{member}_size": size for member, size in sizes.items()}
    written, splits = [], dict.fromkeys((split for _, split, _ in rows), 0)
    for key, split, text in rows:
        place = {f"{member}_offset": 512 + 100_000 * number for number, member in enumerate(MEMBERS)}
        place = {name: offset + 1_000_000 * splits[split] for name, offset in place.items()}
        names = {"key": key, "set": key.partition("/")[0], "split": split, "shard": f"{split}-000000.tar"}
        written.append(columns | place | names | {"text": text, "txt_size": len(text.encode())})
        splits[split] += 1
    index = encode_index(written)
    manifest = Manifest(
        plan="0",
        recipe={"dataset": "lrs2"},
        features={"crop": {"crop_radius": 40}},
        totals=dict.fromkeys(("clips", "frames", "hours", "bytes", "skipped"), 0),
        splits={
            split: [ShardEntry(f"{split}-000000.tar", 1_000_000 * clips, "0" * 64, clips, 5 * clips)]
            for split, clips in splits.items()
        },
        versions={},
        sha256={INDEX_NAME: hashlib.sha256(index).hexdigest()},
    )
    (folder / INDEX_NAME).write_bytes(index)
    (folder / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["tokenizer", *map(str, arguments)])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_tokenizer_is_trained_on_train_and_pretrain_and_kept_in_the_dataset(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "set", ROWS)
    status, output, errors = run(capsys, dataset)
    assert status == 0
    tokenizer = Tokenizer.load(dataset / "tokenizer.model")
    assert tokenizer.model_bytes == train_tokenizer(TRAINING).model_bytes
    assert f"{tokenizer.vocabulary_size} pieces from 3 texts, 18 words of" in output
    assert str(dataset / "tokenizer.model") in output
    assert f"warning: {tokenizer.vocabulary_size} pieces instead of 4000: the text allows no more" in errors


def test_tokenizer_depends_neither_on_the_order_of_shards_nor_on_held_out_text(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, rows in (
        ("a", ROWS),
        ("b", ROWS[::-1]),
        ("c", [row for row in ROWS if row[1] not in ("val", "test")]),
        ("d", [*ROWS, ("main/a/0", "train", " ")]),
    ):
        assert run(capsys, write_dataset(tmp_path / name, rows))[0] == 0
    contents = {(tmp_path / name / "tokenizer.model").read_bytes() for name in "abcd"}
    assert len(contents) == 1


def test_tokenizer_takes_splits_by_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set", ROWS)
    status, output, _ = run(capsys, dataset, "--splits", "val", "test")
    assert status == 0
    assert "2 texts, 4 words of val, test" in output
    assert 3 not in Tokenizer.load(dataset / "tokenizer.model").encode("жщ")


def test_tokenizer_without_train_and_pretrain_takes_all_splits_not_held_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    texts = {"all": "red", "extra": "blue", "unseen_test": "green", "val": "white"}
    rows = [(f"main/{split}", split, text) for split, text in texts.items()]
    status, output, _ = run(capsys, write_dataset(tmp_path / "set", rows))
    assert status == 0
    assert "2 texts, 2 words of all, extra" in output


def test_tokenizer_has_the_size_asked_for_or_more_for_a_script_of_more_characters(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "set", ROWS)
    status, output, errors = run(capsys, dataset, "--vocabulary-size", 33)
    assert (status, errors) == (0, "")
    assert "33 pieces" in output
    status, output, errors = run(capsys, dataset, "--vocabulary-size", 5)
    assert status == 0
    assert "pieces instead of 5" in errors


def test_tokenizer_may_be_written_elsewhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set", ROWS)
    assert run(capsys, dataset, "--out", tmp_path / "new" / "mine.model")[0] == 0
    assert run(capsys, dataset, "--out", "memory://tokenizers/mine.model")[0] == 0
    content = train_tokenizer(TRAINING).model_bytes
    assert (tmp_path / "new" / "mine.model").read_bytes() == content
    assert Store("memory://tokenizers").read("mine.model") == content
    assert sorted(path.name for path in dataset.iterdir()) == [INDEX_NAME, MANIFEST_NAME]


def test_tokenizer_refuses_what_it_cannot_be_trained_on_with_one_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "set", ROWS)
    silent = write_dataset(tmp_path / "silent", [("main/a", "train", ""), ("main/b", "test", "red")])
    held_out = write_dataset(tmp_path / "held_out", [("main/a", "val", "red"), ("main/b", "test", "red")])
    for arguments, message in (
        ([tmp_path / "nowhere"], "no manifest"),
        ([silent], "no transcript in train"),
        ([held_out], "no split to train on among val, test: name some with --splits"),
        ([dataset, "--splits", "tset"], "no split 'tset' here: there is train, val, test, pretrain"),
        ([dataset, "--vocabulary-size", 0], "vocabulary_size: 0"),
        ([dataset, "--out", tmp_path], "is a folder"),
    ):
        status, _, errors = run(capsys, *arguments)
        assert status == 2
        assert message in errors
        assert not (dataset / "tokenizer.model").exists()


def test_build_and_verify_take_a_dataset_with_a_tokenizer_as_before(
    capsys: pytest.CaptureFixture[str], small_settings: BuildSettings, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    built = run_build(plan_build(small_settings, lambda line: None), small_settings, str(out), workers=0)
    assert run(capsys, out)[0] == 0
    content = (out / "tokenizer.model").read_bytes()
    assert main(["verify", str(out), "--workers", "0"]) == 0
    again = run_build(plan_build(small_settings, lambda line: None), small_settings, str(out), workers=0)
    assert again.reused == sum(len(entries) for entries in built.manifest.splits.values())
    assert (out / "tokenizer.model").read_bytes() == content
