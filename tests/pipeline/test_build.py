"""Builds are pure functions of their plan: any number of workers, any interruption, the same bytes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.build import BuildError, plan_build, run_build
from pipeline.cli import main
from pipeline.config import BuildSettings
from pipeline.corpora import CorpusIndex, index_corpus
from pipeline.merge import merge
from pipeline.plan import Plan, make_plan
from pipeline.verify import verify
from shards import DatasetError, Store, open_dataset, read_sidecar
from shards.format.index_writer import encode_index
from shards.format.sidecar import encode_sidecar
from tests.corpora import Lrs2Corpus


def plan_of(settings: BuildSettings) -> Plan:
    return plan_build(settings, lambda line: None)


def build(settings: BuildSettings, out: Path, workers: int = 0) -> None:
    run_build(plan_of(settings), settings, str(out), workers=workers)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def built(small_corpus: Lrs2Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a build of the small corpus looks like, by file name."""
    out = tmp_path_factory.mktemp("built") / "out"
    build(BuildSettings(dataset="lrs2", root=str(small_corpus.root), shard_mb=0.8), out)
    return contents(out)


def lay_out(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_build_writes_the_files_that_the_contract_names(built: dict[str, bytes], tmp_path: Path) -> None:
    tars = [name for name in built if name.endswith(".tar")]
    assert {name.rsplit("-", 1)[0] for name in tars} == {"train", "val", "test", "pretrain"}
    assert len([name for name in tars if name.startswith("train")]) > 1
    others = {"manifest.json", "index.parquet", "errors.jsonl", "plan.json"}
    assert set(built) == others | set(tars) | {name.replace(".tar", ".json") for name in tars}
    dataset = open_dataset(str(lay_out(built, tmp_path / "out")))
    assert dataset.index.num_rows == 10
    assert {len(sample.meta.words) for sample in dataset.samples("pretrain")} == {2}
    for sample in dataset.samples():
        assert sample.meta.source.startswith(f"{sample.meta.set}/speaker")
        assert sample.roi.shape == (sample.meta.frames, 90, 90)
        assert sample.text.startswith("place blue")


def test_build_makes_shards_of_about_equal_size(built: dict[str, bytes]) -> None:
    sizes = [len(content) for name, content in built.items() if name.startswith("train") and name.endswith("tar")]
    assert max(sizes) < 2 * min(sizes)


def test_build_again_changes_nothing(built: dict[str, bytes], small_settings: BuildSettings, tmp_path: Path) -> None:
    out = lay_out(built, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    result = run_build(plan_of(small_settings), small_settings, str(out), workers=0)
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")} == before
    assert result.reused == len(before)
    assert contents(out) == built


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: -min(20_000, len(content) // 2)])


def change_an_offset(path: Path) -> None:
    path.write_text(re.sub(r'"roi_offset":\d', '"roi_offset":9', path.read_text(), count=1))


DAMAGE: list[tuple[str, str, Callable[[Path], None], str]] = [
    ("a flipped byte in a shard", "train-000000.tar", flip_a_byte, "train-000000.tar: sha256"),
    ("a shard cut short", "val-000000.tar", cut_short, "val-000000.tar: is .* bytes, the manifest says"),
    ("a missing shard", "test-000000.tar", Path.unlink, "test-000000.tar: is missing"),
    ("a missing sidecar", "val-000000.json", Path.unlink, "val-000000.tar: its sidecar is missing"),
    ("a damaged sidecar", "val-000000.json", cut_short, "val-000000.json: not the sidecar"),
    ("a sidecar with another offset", "val-000000.json", change_an_offset, "val-000000.json: its content is not"),
    ("missing errors", "errors.jsonl", Path.unlink, "errors.jsonl: is missing"),
    ("a missing plan", "plan.json", Path.unlink, "plan.json: is missing"),
    ("a damaged plan", "plan.json", cut_short, "plan.json: is missing, or not"),
]


@pytest.mark.parametrize(("name", "damage", "message"), [entry[1:] for entry in DAMAGE], ids=[e[0] for e in DAMAGE])
def test_verify_names_damage_and_build_repairs_it(
    built: dict[str, bytes],
    small_settings: BuildSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    out = lay_out(built, tmp_path / "out")
    damage(out / name)
    assert main(["verify", str(out), "--workers", "0"]) == 1
    assert re.search(message, capsys.readouterr().out)
    build(small_settings, out)
    assert contents(out) == built
    assert main(["verify", str(out), "--workers", "0"]) == 0


@pytest.mark.parametrize(("name", "status"), [("manifest.json", 2), ("index.parquet", 1)])
def test_verify_names_a_damaged_manifest_or_index_and_build_repairs_it(
    built: dict[str, bytes],
    small_settings: BuildSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    status: int,
) -> None:
    out = lay_out(built, tmp_path / "out")
    (out / name).write_bytes(built[name][: len(built[name]) // 2])
    assert main(["verify", str(out), "--workers", "0"]) == status
    assert name in "".join(capsys.readouterr())
    build(small_settings, out)
    assert contents(out) == built


def test_verify_recomputes_the_mel_from_the_samples(built: dict[str, bytes], tmp_path: Path) -> None:
    """A mel that does not belong to its sound is found even where every checksum has been made to fit."""
    out = lay_out(built, tmp_path / "out")
    row = next(row for row in open_dataset(str(out)).index.to_pylist() if row["shard"] == "val-000000.tar")
    tar = bytearray(built["val-000000.tar"])
    tar[row["mel_offset"] + row["mel_size"] - 2] ^= 0x40
    (out / "val-000000.tar").write_bytes(tar)
    old, new = (hashlib.sha256(content).hexdigest() for content in (built["val-000000.tar"], tar))
    (out / "manifest.json").write_text((out / "manifest.json").read_text().replace(old, new))
    sidecar = read_sidecar(Store(str(out)), "val-000000.tar")
    (out / "val-000000.json").write_bytes(encode_sidecar(replace(sidecar, sha256=new)))
    problems = verify(str(out), workers=0)[1]
    assert len(problems) == 1
    assert "mel is up to" in problems[0]
    assert row["key"] in problems[0]


def test_build_refuses_a_folder_of_another_plan_by_what_differs(
    built: dict[str, bytes], small_settings: BuildSettings, tmp_path: Path
) -> None:
    out = lay_out(built, tmp_path / "out")
    with pytest.raises(ValueError, match=r"out: .*seed: 0.*7.*--out"):
        build(replace(small_settings, seed=7), out)
    (out / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"out: .*crop_radius: 40.*50"):
        build(replace(small_settings, crop_radius=50), out)
    (out / "manifest.json").write_bytes(built["manifest.json"])
    assert contents(out) == built, "nothing was touched"


def test_build_takes_the_place_of_one_that_never_began(
    built: dict[str, bytes], small_settings: BuildSettings, tmp_path: Path
) -> None:
    other = json.dumps({"plan": "0" * 64, "settings": {"seed": 5}}).encode()
    out = lay_out({"plan.json": other}, tmp_path / "out")
    build(small_settings, out)
    assert contents(out) == built


def test_merge_lists_libraries_that_only_some_shards_were_made_with(
    built: dict[str, bytes], small_settings: BuildSettings, tmp_path: Path
) -> None:
    out = lay_out(built, tmp_path / "out")
    store = Store(str(out))
    sidecar = read_sidecar(store, "val-000000.tar")
    older = replace(sidecar, versions={"python": "3.8.1", "gone": "1.0"})
    (out / "val-000000.json").write_bytes(encode_sidecar(older))
    manifest, _ = merge(plan_of(small_settings), store)
    assert manifest.versions["gone"] == ["1.0"]
    assert manifest.versions["python"] == sorted({"3.8.1", sidecar.versions["python"]})


def test_merge_refuses_shards_of_another_plan(small_settings: BuildSettings, tmp_path: Path) -> None:
    plan, other = plan_of(small_settings), plan_of(replace(small_settings, seed=1))
    run_build(plan, small_settings, str(tmp_path / "out"), workers=0)
    with pytest.raises(DatasetError, match=r"\.tar: .*another plan"):
        merge(other, Store(str(tmp_path / "out")))


def test_build_and_verify_expand_the_home_folder_alike(
    small_settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "corpus").symlink_to(Path(small_settings.root).parent)
    settings = replace(small_settings, root="~/corpus/LRS2-BBC", limit=1)
    run_build(plan_of(settings), settings, "~/out", workers=0)
    assert verify("~/out", workers=0)[1] == []
    assert (tmp_path / "out" / "manifest.json").exists()


def test_build_refuses_to_continue_after_the_corpus_has_changed(tmp_path: Path) -> None:
    corpus = Lrs2Corpus(tmp_path / "corpus")
    corpus.add("a/1")
    settings = BuildSettings(dataset="lrs2", root=str(corpus.finish().root))
    build(settings, tmp_path / "out")
    corpus.add("a/2")
    corpus.finish()
    with pytest.raises(ValueError, match=r"out: .*corpus has changed"):
        build(settings, tmp_path / "out")


def test_build_refuses_a_folder_of_other_files(small_settings: BuildSettings, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"thesis\.tex"):
        build(small_settings, tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_build_overwrites_no_foreign_shard_of_the_same_name(small_settings: BuildSettings, tmp_path: Path) -> None:
    (tmp_path / "train-000000.tar").write_bytes(b"precious")
    with pytest.raises(ValueError, match=r"train-000000\.tar"):
        build(small_settings, tmp_path)
    assert contents(tmp_path) == {"train-000000.tar": b"precious"}


def damaged(manifest: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A manifest with another value at a path such as `totals/skipped`."""
    changed: Any = json.loads(json.dumps(manifest))
    *folders, name = path.split("/")
    place = changed
    for folder in folders:
        place = place[int(folder) if folder.isdigit() else folder]
    place[name] = value
    return dict(changed)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("totals/skipped", 7),
        ("totals/hours", 1.5),
        ("totals/clips", 11),
        ("splits/train/0/frames", 9999),
        ("splits/train/0/clips", 1),
        ("plan", "0" * 64),
    ],
)
def test_verify_counts_again(built: dict[str, bytes], tmp_path: Path, path: str, value: object) -> None:
    out = lay_out(built, tmp_path / "out")
    (out / "manifest.json").write_text(json.dumps(damaged(json.loads(built["manifest.json"]), path, value)))
    assert verify(str(out), workers=0)[1] != []


@pytest.mark.parametrize("column", ["roi_offset", "txt_size"])
def test_verify_names_an_index_row_that_points_elsewhere(built: dict[str, bytes], tmp_path: Path, column: str) -> None:
    out = lay_out(built, tmp_path / "out")
    rows = open_dataset(str(out)).index.to_pylist()
    rows[0][column] += 1
    index = encode_index(rows)
    (out / "index.parquet").write_bytes(index)
    manifest = json.loads(built["manifest.json"])
    manifest["sha256"]["index.parquet"] = hashlib.sha256(index).hexdigest()
    (out / "manifest.json").write_text(json.dumps(manifest))
    problems = verify(str(out), workers=0)[1]
    assert any(f"{rows[0]['key']}: the index's offset and size of {column[:3]}" in problem for problem in problems)


def test_verify_names_a_shard_that_the_manifest_does_not_list(built: dict[str, bytes], tmp_path: Path) -> None:
    out = lay_out(built, tmp_path / "out")
    (out / "train-000077.tar").write_bytes(built["val-000000.tar"])
    assert verify(str(out), workers=0)[1] == ["train-000077.tar: is not in the manifest"]


def test_build_and_verify_refuse_a_dataset_of_an_older_version_by_the_renamed_field(
    built: dict[str, bytes], small_settings: BuildSettings, tmp_path: Path
) -> None:
    out = lay_out(built, tmp_path / "out")
    manifest = json.loads(built["manifest.json"])
    manifest["totals"]["left_out"] = manifest["totals"].pop("skipped")
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match=r"manifest\.json: .*totals\.left_out .*totals\.skipped.*build .* again"):
        verify(str(out), workers=0)
    plan = json.loads(built["plan.json"])
    plan["settings"]["half"] = plan["settings"].pop("crop_radius")
    (out / "plan.json").write_text(json.dumps(plan | {"plan": "0" * 64}))
    with pytest.raises(ValueError, match=r"half .*crop_radius.*--out"):
        build(small_settings, out)


def test_build_builds_a_shard_again_whose_sidecar_has_a_renamed_field(
    built: dict[str, bytes], small_settings: BuildSettings, tmp_path: Path
) -> None:
    out = lay_out(built, tmp_path / "out")
    body = json.loads(built["val-000000.json"])["sidecar"]
    body["left_out"] = body.pop("skipped")
    compact = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(compact.encode()).hexdigest()
    (out / "val-000000.json").write_text(f'{{"format":1,"digest":"{digest}","sidecar":{compact}}}')
    with pytest.raises(DatasetError, match=r"val-000000\.json: .*left_out .*skipped"):
        read_sidecar(Store(str(out)), "val-000000.tar")
    result = run_build(plan_of(small_settings), small_settings, str(out), workers=0)
    assert result.reused == sum(name.endswith(".tar") for name in built) - 1
    assert contents(out) == built


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("features", {}),
        ("features/crop/crop_radius", "x"),
        ("totals", None),
        ("totals", {}),
        ("recipe", []),
        ("versions", None),
        ("splits", {"train": [{"name": "../../etc/passwd", "bytes": 1, "sha256": "", "clips": 1, "frames": 1}]}),
        ("splits", {"train": [{"name": "a.tar"}]}),
        ("splits/train/0/frames", "many"),
        ("format", 99),
        ("plan", 3),
    ],
)
@pytest.mark.parametrize("command", ["verify", "info", "preview"])
def test_commands_refuse_a_manifest_with_wrong_fields_by_its_file(
    built: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    path: str,
    value: object,
    command: str,
) -> None:
    out = lay_out(built, tmp_path / "out")
    (out / "manifest.json").write_text(json.dumps(damaged(json.loads(built["manifest.json"]), path, value)))
    assert main([command, str(out)]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_build_depends_not_on_where_the_corpus_is_mounted(
    built: dict[str, bytes], small_corpus: Lrs2Corpus, small_settings: BuildSettings, tmp_path: Path
) -> None:
    (tmp_path / "mounted").symlink_to(small_corpus.folder)
    build(replace(small_settings, root=str(tmp_path / "mounted" / "LRS2-BBC")), tmp_path / "out")
    assert contents(tmp_path / "out") == built


def test_build_on_a_full_disk_fails_that_shard_and_builds_the_others(
    built: dict[str, bytes], small_settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if "val-000000.tar" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(descriptor)

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(BuildError, match=r"(?s)1 of \d shards.*val-000000\.tar: .*No space left"):
            build(small_settings, out)
    assert set(contents(out)) == set(built) - {"val-000000.tar", "val-000000.json"} - {
        "manifest.json",
        "index.parquet",
        "errors.jsonl",
    }
    build(small_settings, out)
    assert contents(out) == built


def test_build_removes_temporary_files_of_a_killed_attempt(
    built: dict[str, bytes], small_settings: BuildSettings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".train-000000.tar.0123abcd.part").write_bytes(b"half a shard")
    build(small_settings, out)
    assert contents(out) == built


def test_build_in_an_object_store_gives_the_same_bytes(
    built: dict[str, bytes], small_settings: BuildSettings, tmp_path: Path
) -> None:
    url = f"memory://{tmp_path.name}/out"
    run_build(plan_of(small_settings), small_settings, url, workers=0)
    store = Store(url)
    assert {name: store.read(name) for name in store.names()} == built
    assert verify(url, workers=0)[1] == []


def test_plan_with_a_limit_has_at_most_that_many_clips_of_each_split(small_settings: BuildSettings) -> None:
    shards = plan_of(replace(small_settings, limit=1)).shards
    assert sorted((shard.split, len(shard.clips)) for shard in shards) == [
        ("pretrain", 1),
        ("test", 1),
        ("train", 1),
        ("val", 1),
    ]


def test_plan_places_a_clip_by_the_seed_and_not_by_listing_order_or_other_splits(
    small_settings: BuildSettings,
) -> None:
    def order(index: CorpusIndex, seed: int = 0) -> list[str]:
        plan = make_plan(index, replace(small_settings, seed=seed))
        return [clip.key for shard in plan.shards if shard.split == "train" for clip in shard.clips]

    index = index_corpus(small_settings)
    train = [clip for clip in index.clips if clip.split == "train"]
    assert order(index) == order(CorpusIndex(index.clips[::-1])) == order(CorpusIndex(train))
    assert order(index) != order(index, seed=1)


def test_plan_hash_changes_with_transcripts_and_wavs(small_settings: BuildSettings) -> None:
    index = index_corpus(small_settings)
    video, transcript, wav = index.clips[0].sizes
    hashes = {
        make_plan(CorpusIndex([replace(index.clips[0], sizes=sizes), *index.clips[1:]]), small_settings).hash
        for sizes in ((video, transcript, wav), (video, transcript + 1, wav), (video, transcript, wav + 1))
    }
    assert len(hashes) == 3


@pytest.mark.parametrize("codec", ["ffv1", "h264"])
def test_build_and_verify_take_video_codecs_like_raw_arrays(
    small_settings: BuildSettings, tmp_path: Path, codec: str
) -> None:
    settings = replace(small_settings, roi_codec=codec)  # type: ignore[arg-type]
    build(settings, tmp_path / "a")
    build(settings, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert verify(str(tmp_path / "a"), workers=0)[1] == []
    assert {row["roi_member"] for row in open_dataset(str(tmp_path / "a")).index.to_pylist()} == {"roi.mkv"}
