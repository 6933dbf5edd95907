"""Builds are pure functions of their plan: any number of workers, any interruption, the same bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.build import plan_build, run_build
from pipeline.cli import main
from pipeline.errors import BuildError
from pipeline.plan import Plan
from pipeline.recipe import Recipe
from pipeline.verify import verify
from shards import Store, open_dataset
from tests.corpora import Lrs2Corpus


def plan_of(recipe: Recipe) -> Plan:
    return plan_build(recipe, lambda line: None)


def build(recipe: Recipe, out: Path, workers: int = 0) -> None:
    run_build(plan_of(recipe), recipe, str(out), workers=workers)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def built(small_corpus: Lrs2Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a build of the small corpus looks like, by file name."""
    out = tmp_path_factory.mktemp("built") / "out"
    build(Recipe(dataset="lrs2", root=str(small_corpus.root), shard_mb=0.8), out)
    return contents(out)


def lay_out(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_dataset_has_the_files_that_the_contract_names(built: dict[str, bytes], tmp_path: Path) -> None:
    tars = [name for name in built if name.endswith(".tar")]
    assert {name.rsplit("-", 1)[0] for name in tars} == {"train", "val", "test", "pretrain"}
    assert len([name for name in tars if name.startswith("train")]) > 1
    others = {"manifest.json", "index.parquet", "errors.jsonl"}
    assert set(built) == others | set(tars) | {name.replace(".tar", ".json") for name in tars}
    dataset = open_dataset(str(lay_out(built, tmp_path / "out")))
    assert dataset.index.num_rows == 10
    assert {len(sample.meta.words) for sample in dataset.samples("pretrain")} == {2}
    for sample in dataset.samples():
        assert sample.meta.source.startswith(f"{sample.meta.set}/speaker")
        assert sample.roi.shape == (sample.meta.frames, 90, 90)
        assert sample.text.startswith("place blue")


def test_shards_are_of_about_equal_size(built: dict[str, bytes]) -> None:
    sizes = [len(content) for name, content in built.items() if name.startswith("train") and name.endswith("tar")]
    assert max(sizes) < 2 * min(sizes)


def test_building_again_changes_nothing(built: dict[str, bytes], small_recipe: Recipe, tmp_path: Path) -> None:
    out = lay_out(built, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    result = run_build(plan_of(small_recipe), small_recipe, str(out), workers=0)
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")} == before
    assert result.reused == len(before)
    assert contents(out) == built


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20_000])


DAMAGE: list[tuple[str, str, Callable[[Path], None], str]] = [
    ("a flipped byte in a shard", "train-000000.tar", flip_a_byte, "train-000000.tar: sha256"),
    ("a shard cut short", "val-000000.tar", cut_short, "val-000000.tar: is .* bytes, the manifest says"),
    ("a missing shard", "test-000000.tar", Path.unlink, "test-000000.tar: is missing"),
    ("a missing sidecar", "val-000000.json", Path.unlink, "val-000000.tar: its sidecar is missing"),
    ("a damaged sidecar", "val-000000.json", cut_short, "val-000000.json: not the sidecar"),
    ("missing errors", "errors.jsonl", Path.unlink, "errors.jsonl: is missing"),
]


@pytest.mark.parametrize(("name", "damage", "message"), [entry[1:] for entry in DAMAGE], ids=[e[0] for e in DAMAGE])
def test_verify_names_damage_and_build_repairs_it(
    built: dict[str, bytes],
    small_recipe: Recipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    out = lay_out(built, tmp_path / "out")
    damage(out / name)
    assert main(["verify", str(out), "--workers", "0"]) == 1
    import re

    assert re.search(message, capsys.readouterr().out)
    build(small_recipe, out)
    assert contents(out) == built
    assert main(["verify", str(out), "--workers", "0"]) == 0


@pytest.mark.parametrize("name", ["manifest.json", "index.parquet"])
def test_a_damaged_manifest_or_index_is_named_and_repaired(
    built: dict[str, bytes], small_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = lay_out(built, tmp_path / "out")
    (out / name).write_bytes(built[name][: len(built[name]) // 2])
    assert main(["verify", str(out), "--workers", "0"]) == 2
    assert name in capsys.readouterr().err
    build(small_recipe, out)
    assert contents(out) == built


def test_verify_recomputes_the_mel_from_the_samples(built: dict[str, bytes], tmp_path: Path) -> None:
    """A mel that does not belong to its sound is found even where every checksum has been made to fit."""
    import hashlib
    import json

    out = lay_out(built, tmp_path / "out")
    row = (
        open_dataset(str(out))
        .index.filter(__import__("pyarrow.compute").compute.field("shard") == "val-000000.tar")
        .to_pylist()[0]
    )
    tar = bytearray(built["val-000000.tar"])
    tar[row["mel_offset"] + row["mel_size"] - 2] ^= 0x40
    (out / "val-000000.tar").write_bytes(tar)
    old, new = (hashlib.sha256(content).hexdigest() for content in (built["val-000000.tar"], tar))
    for name in ("manifest.json", "val-000000.json"):
        (out / name).write_text((out / name).read_text().replace(old, new))
    assert json.loads((out / "manifest.json").read_text())["splits"]["val"][0]["sha256"] == new
    problems = verify(str(out), workers=0)[1]
    assert len(problems) == 1
    assert "mel is up to" in problems[0]
    assert row["key"] in problems[0]


def test_another_plan_is_refused_with_what_differs_and_the_way_out(
    built: dict[str, bytes], small_recipe: Recipe, tmp_path: Path
) -> None:
    out = lay_out(built, tmp_path / "out")
    with pytest.raises(ValueError, match=r"another plan \(seed: 0 there, 7 now\): choose an empty --out"):
        build(replace(small_recipe, seed=7), out)
    (out / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"another plan \(half: 40 there, 50 now\)"):
        build(replace(small_recipe, half=50), out)
    (out / "manifest.json").write_bytes(built["manifest.json"])
    assert contents(out) == built, "nothing was touched"


def test_a_changed_corpus_is_another_plan(built: dict[str, bytes], tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("a/1")
    recipe = Recipe(dataset="lrs2", root=str(corpus.finish().root))
    build(recipe, tmp_path / "out")
    corpus.add("a/2")
    corpus.finish()
    with pytest.raises(ValueError, match="the corpus has changed since"):
        build(recipe, tmp_path / "out")


def test_a_folder_of_other_things_is_refused(small_recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"is not empty \(thesis\.tex \.\.\.\) and holds no dataset"):
        build(small_recipe, tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_where_a_corpus_is_mounted_does_not_matter(
    built: dict[str, bytes], small_corpus: Lrs2Corpus, small_recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "mounted").symlink_to(small_corpus.folder)
    build(replace(small_recipe, root=str(tmp_path / "mounted" / "LRS2-BBC")), tmp_path / "out")
    assert contents(tmp_path / "out") == built


def test_a_full_disk_fails_the_shard_says_so_and_the_rest_goes_on(
    built: dict[str, bytes], small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if "val-000000.tar" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(descriptor)

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(
            BuildError, match=r"(?s)1 of .* val-000000\.tar: No space left .*No space left|No space left"
        ):
            build(small_recipe, out)
    assert set(contents(out)) == set(built) - {"val-000000.tar", "val-000000.json"} - {
        "manifest.json",
        "index.parquet",
        "errors.jsonl",
    }
    build(small_recipe, out)
    assert contents(out) == built


def test_what_a_killed_attempt_left_is_swept_up(built: dict[str, bytes], small_recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".train-000000.tar.0123abcd.part").write_bytes(b"half a shard")
    build(small_recipe, out)
    assert contents(out) == built


def test_a_build_into_and_out_of_an_object_store_gives_the_same_bytes(
    built: dict[str, bytes], small_recipe: Recipe, tmp_path: Path
) -> None:
    url = f"memory://{tmp_path.name}/out"
    run_build(plan_of(small_recipe), small_recipe, url, workers=0)
    store = Store(url)
    assert {name: store.read(name) for name in store.names()} == built
    assert verify(url, workers=0)[1] == []


def test_a_limit_takes_so_many_clips_of_each_split(small_recipe: Recipe) -> None:
    shards = plan_of(replace(small_recipe, limit=1)).shards
    assert sorted((shard.split, len(shard.clips)) for shard in shards) == [
        ("pretrain", 1),
        ("test", 1),
        ("train", 1),
        ("val", 1),
    ]


def test_a_clips_place_does_not_depend_on_other_splits_or_on_listing_order(small_recipe: Recipe) -> None:
    def order(recipe: Recipe) -> list[str]:
        return [clip.key for shard in plan_of(recipe).shards if shard.split == "train" for clip in shard.clips]

    assert order(small_recipe) == order(replace(small_recipe, shard_mb=999))
    assert order(small_recipe) != order(replace(small_recipe, seed=1))


@pytest.mark.parametrize("codec", ["ffv1", "h264"])
def test_video_codecs_build_and_verify_like_raw_arrays(small_recipe: Recipe, tmp_path: Path, codec: str) -> None:
    recipe = replace(small_recipe, roi_codec=codec)  # type: ignore[arg-type]
    build(recipe, tmp_path / "a")
    build(recipe, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert verify(str(tmp_path / "a"), workers=0)[1] == []
    assert {row["roi_member"] for row in open_dataset(str(tmp_path / "a")).index.to_pylist()} == {"roi.mkv"}
