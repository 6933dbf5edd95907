"""A dataset's own files, damaged with checksums made to fit, are a DatasetError that names file and field."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards import Dataset, DatasetError, Sidecar, open_dataset, read_sidecar
from shards.format import index as index_module
from shards.format.index_bytes import INDEX_NAME
from shards.format.index_writer import encode_index
from shards.format.manifest import read_plan, read_skipped
from shards.format.sidecar import encode_sidecar
from shards.loading.batch_plan import plan_epoch
from shards.loading.collate import BatchReader, Contents
from shards.loading.dataset import read_tar
from tests.shards.datasets import small_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return small_dataset(str(tmp_path / "set"), shards=1, clips=3)


def change_manifest(folder: Path, change: Callable[[Any], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def write_index(dataset: Dataset, content: bytes) -> Path:
    """Another index, which the manifest has the checksum of."""
    folder = Path(dataset.store.path())
    (folder / INDEX_NAME).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    change_manifest(folder, lambda manifest: manifest["sha256"].update({INDEX_NAME: digest}))
    return folder


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", store_schema=False)
    return buffer.getvalue()


HUGE = 1 << 62


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"frames": None}, "column frames: 1 null"),
        ({"key": None}, "column key: 1 null"),
        ({"words": None}, "column words: 1 null"),
        ({"words": [{"word": None, "start": 0.0, "end": 0.1}]}, "column words: 1 null"),
        ({"words": [None]}, "column words: .* null"),
        ({"words": [{"word": "a", "start": float("nan"), "end": 0.1}]}, "words"),
        ({"words": [{"word": "a", "start": 0.2, "end": 0.1}]}, "words"),
        ({"words": [{"word": "a", "start": 0.2, "end": float("inf")}]}, "words"),
        ({"frames": -5}, "frames"),
        ({"frames": 2**31 - 1}, "frames"),
        ({"frames": 9}, "frames"),
        ({"key": "main/../../x"}, "no key"),
        ({"key": "/etc/passwd"}, "no key"),
        ({"key": "main/a\x1b[2J"}, "no key"),
        ({"key": "main/a b"}, "no key"),
        ({"key": "main/" + "x" * 5000}, "no key"),
        ({"key": "other/s0/00"}, "begin with its set"),
        ({"key": "pretrain/s0/01", "set": "pretrain"}, "more than once"),
        ({"shard": "../../../etc/passwd"}, "does not list"),
        ({"shard": "val-000000.tar"}, "does not list"),
        ({"split": "val"}, "does not list"),
        ({"roi_member": "roi.exe"}, "roi_member"),
        ({"source": "/etc/passwd"}, "source"),
        ({"source": "a/../../b"}, "source"),
        ({"speaker": "x" * (2 << 20)}, "speaker"),
        ({"roi_offset": -1}, "roi_offset"),
        ({"roi_offset": HUGE}, "roi_offset"),
        ({"mel_offset": 0}, "mel_offset"),
        ({"wav_size": HUGE}, "wav_size"),
        ({"mel_size": 5}, "mel_size"),
        ({"roi_size": 7 << 30}, "roi_size"),
        ({"txt_size": 100 << 20}, "txt_size"),
        ({"json_size": -1}, "json_size"),
    ],
)
def test_index_row_that_cannot_be_is_refused_by_what_is_wrong(
    dataset: Dataset, change: dict[str, Any], what: str
) -> None:
    rows = dataset.index.to_pylist()
    rows[0] |= change
    folder = write_index(dataset, encode_index(rows))
    with pytest.raises(DatasetError, match=rf"index\.parquet: .*{what}"):
        _ = open_dataset(str(folder)).index


CHANGED: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a column more": (lambda table: table.append_column("more", table["key"]), "unknown columns: more"),
    "a column twice": (lambda table: table.append_column("key", table["key"]), "columns"),
    "a column less": (lambda table: table.drop_columns(["words"]), "missing or unknown columns: words"),
    "frames as text": (
        lambda table: table.set_column(4, "frames", table["frames"].cast(pa.string())),
        "column frames: found string, expected int32",
    ),
    "other words": (lambda table: table.set_column(8, "words", table["text"]), "column words: found string"),
    "a row less": (lambda table: table.slice(1), "the manifest says 3"),
    "no rows": (lambda table: table.slice(0, 0), "the manifest says"),
    "the rows twice": (lambda table: pa.concat_tables([table, table]), "the manifest says 3"),
    "text that is no UTF-8": (
        lambda table: table.set_column(7, "text", pa.array([b"\xff"] * len(table), pa.binary()).view(pa.string())),
        "not a readable index",
    ),
}


@pytest.mark.parametrize(("change", "what"), CHANGED.values(), ids=CHANGED)
def test_index_of_another_form_is_refused_by_its_columns(
    dataset: Dataset, change: Callable[[pa.Table], pa.Table], what: str
) -> None:
    folder = write_index(dataset, parquet(change(dataset.index)))
    with pytest.raises(DatasetError, match=rf"index\.parquet: .*{what}"):
        _ = open_dataset(str(folder)).index


def test_index_is_compared_with_the_checksum_before_it_is_parsed(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(dataset.store.path(INDEX_NAME))
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.delattr(index_module, "pq")
    with pytest.raises(DatasetError, match=r"index\.parquet: sha256 is not the manifest's"):
        _ = open_dataset(dataset.store.url).index


def repeated(table: pa.Table, column: str, value: str, rows: int) -> pa.Table:
    """One row many times, with one long string in all of them, which the file holds once."""
    one = table.slice(0, 1).combine_chunks()
    column_of = {name: one[name].take(pa.array([0] * rows)) for name in one.column_names}
    codes = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value]))
    if column == "words":
        numbers = pa.array([0.0] * rows)
        struct = pa.StructArray.from_arrays([codes, numbers, numbers], ["word", "start", "end"])
        column_of["words"] = pa.ListArray.from_arrays(pa.array(range(rows + 1), pa.int32()), struct)
    else:
        column_of[column] = codes
    return pa.table(column_of)


@pytest.mark.parametrize("column", ["text", "words"])
def test_index_whose_strings_repeat_takes_no_memory(dataset: Dataset, column: str) -> None:
    content = parquet(repeated(dataset.index, column, "x" * 100_000, 10_000))  # a gigabyte
    assert len(content) < 200_000
    folder = write_index(dataset, content)
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(DatasetError, match=r"index\.parquet: bytes in memory: 1,0.* is allowed"):
        _ = open_dataset(str(folder)).index
    assert pa.default_memory_pool().max_memory() - before < 64 << 20


def test_index_of_many_equal_rows_is_refused_by_what_it_says_of_itself(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "MIN_INDEX_ROOM", 1 << 20)
    folder = write_index(dataset, parquet(repeated(dataset.index, "text", "x", 300_000)))
    with pytest.raises(DatasetError, match=r"index\.parquet: bytes in memory"):
        _ = open_dataset(str(folder)).index


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("splits/train/0/bytes", -1),
        ("splits/train/0/frames", 10**30),
        ("splits/train/0/frames", 1.5),
        ("splits/train/0/name", "train-000000.tar\n"),
        ("splits/train/0/name", "val-000000.tar"),
        ("splits/train/0/sha256", "0"),
        ("splits", {"../x": []}),
        ("splits", {"a\n": []}),
        ("splits", []),
        ("features/crop/crop_radius", 10**9),
        ("features/crop/crop_radius", -3),
        ("features/crop", {"crop_radius": [11]}),
        ("recipe", {"dataset": {"a": {"b": []}}}),
        ("totals/hours", "1"),
        ("totals/clips", -1),
        ("versions", {"numpy": "2"}),
        ("sha256", {"index.parquet": 3}),
        ("plan", None),
        ("more", 1),
        ("format", "1"),
    ],
)
def test_manifest_with_a_wrong_field_is_refused_by_its_name(dataset: Dataset, path: str, value: object) -> None:
    *folders, name = path.split("/")

    def change(manifest: Any) -> None:
        for folder in folders:
            manifest = manifest[int(folder) if folder.isdigit() else folder]
        manifest[name] = value

    change_manifest(Path(dataset.store.path()), change)
    with pytest.raises(DatasetError, match=r"manifest\.json: "):
        open_dataset(dataset.store.url)


NONSENSE = [
    b"",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"null",
    b"NaN",
    b"[]",
    b'"x"',
    b"{}",
    b"9" * 9999,
]


@pytest.mark.parametrize("content", NONSENSE)
def test_json_files_of_nonsense_are_refused_by_their_names(dataset: Dataset, content: bytes) -> None:
    store = dataset.store
    for name in ("manifest.json", "train-000000.json", "errors.jsonl", "plan.json"):
        store.write(name, content)
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        open_dataset(store.url)
    with pytest.raises(DatasetError, match=r"train-000000\.json"):
        read_sidecar(store, "train-000000.tar")
    assert read_plan(store) is None
    if content:
        with pytest.raises(DatasetError, match=r"errors\.jsonl: .*line 1"):
            read_skipped(store)


@pytest.mark.parametrize("name", ["manifest.json", "index.parquet", "train-000000.tar", "train-000000.json"])
def test_fifo_in_place_of_a_file_is_refused_by_its_name(dataset: Dataset, name: str) -> None:
    path = Path(dataset.store.path(name))
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(DatasetError, match=rf"{name}: a FIFO"):
        read_all(dataset.store.url)


def read_all(url: str) -> None:
    dataset = open_dataset(url)
    list(dataset.samples())
    planned = plan_epoch(dataset.index, ["train"], 0, 0)
    BatchReader(dataset, Contents()).read(planned[0])
    for shard in dataset.manifest.shard_names():
        read_sidecar(dataset.store, shard)


def test_fifo_in_place_of_a_shard_is_no_clip_of_a_batch(dataset: Dataset) -> None:
    planned = plan_epoch(dataset.index, ["train"], 0, 0)
    path = Path(dataset.store.path("train-000000.tar"))
    path.unlink()
    os.mkfifo(path)
    batch = BatchReader(dataset, Contents(), skip=True).read(planned[0])
    assert not batch.keys
    assert all("a FIFO" in failure.reason and failure.key in failure.reason for failure in batch.skipped)


def sidecar_of(dataset: Dataset) -> Sidecar:
    (entry,) = dataset.manifest.splits["train"]
    rows = [row for row in dataset.index.to_pylist() if row["shard"] == entry.name]
    return Sidecar("plan", entry.name, "train", entry.bytes, entry.sha256, rows, [], {"numpy": "2"})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"rows": [{"key": "main/a"}]}, "rows"),
        ({"rows": None}, "rows"),
        ({"bytes": -1}, "bytes"),
        ({"shard": "val-000000.tar"}, "shard"),
        ({"shard": "../x.tar"}, "shard"),
        ({"skipped": [{"key": "a"}]}, "skipped"),
        ({"skipped": [dict.fromkeys(("key", "split", "source", "stage", "reason", "detail"), "x")]}, "skipped"),
        ({"versions": {"numpy": 2}}, "versions"),
        ({"split": "../x"}, "split"),
        ({"more": 1}, "more"),
    ],
)
def test_sidecar_with_a_wrong_field_is_refused_by_its_name(dataset: Dataset, change: dict[str, Any], what: str) -> None:
    dataset.store.write("train-000000.json", encode_sidecar(sidecar_of(dataset)))
    assert read_sidecar(dataset.store, "train-000000.tar") == sidecar_of(dataset)
    body = json.dumps(asdict(sidecar_of(dataset)) | change)
    digest = hashlib.sha256(body.encode()).hexdigest()
    dataset.store.write("train-000000.json", f'{{"format":1,"digest":"{digest}","sidecar":{body}}}'.encode())
    with pytest.raises(DatasetError, match=rf"train-000000\.json: .*{what}"):
        read_sidecar(dataset.store, "train-000000.tar")


@pytest.mark.parametrize("column", ["frames", "roi_offset", "words"])
def test_sidecar_with_a_wrong_row_is_refused_by_its_column(dataset: Dataset, column: str) -> None:
    sidecar = sidecar_of(dataset)
    rows = [sidecar.rows[0], sidecar.rows[1] | {column: None}]
    dataset.store.write("train-000000.json", encode_sidecar(replace(sidecar, rows=rows)))
    with pytest.raises(DatasetError, match=rf"train-000000\.json: .*rows\[1\]\.{column}"):
        read_sidecar(dataset.store, "train-000000.tar")


def header(name: bytes, kind: bytes = tarfile.REGTYPE, size: int = 0, content: bytes = b"") -> bytes:
    info = tarfile.TarInfo("NAME")
    info.type, info.size = kind, size
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[:100] = name.ljust(100, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content + bytes(-len(content) % 512)


def pax(record: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return header(b"pax", kind, len(record), record)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (header(b"main/a.wav", size=7 << 30), "7,516,192,768 bytes, and at most"),
        (header(b"main/a.wav", size=900), "cut short"),
        (header(b"main/a.exe"), "not one of a shard"),
        (header(b"../../a.txt"), "not one of a shard"),
        (header(b"/etc/passwd.txt"), "not one of a shard"),
        (header(b"main/\xff.txt"), "not UTF-8"),
        (header(b"main/a.txt", tarfile.GNUTYPE_SPARSE), "not one of a shard"),
        (header(b"main/a.txt", tarfile.LNKTYPE), "not one of a shard"),
        (header(b"main/a.txt", tarfile.FIFOTYPE), "not one of a shard"),
        (header(b"x", tarfile.GNUTYPE_LONGNAME, 7 << 30), "not one of a shard"),
        (pax(b"15 path=main/a\n") * 3000, "not one of a shard"),
        (pax(b"25 GNU.sparse.major=1.0\n\n"), "pax header"),
        (pax(b"99 path=main/a.txt\n"), "pax header"),
        (pax(b"18 path=main/\xff.txt\n"), "pax header|UTF-8"),
        (pax(b"19 path=main/\xff.txt\n"), "UTF-8"),
        (pax(b"x" * 20_000), "not one of a shard"),
        (pax(b"15 path=main/a\n", tarfile.XGLTYPE), "not one of a shard"),
        (header(b"main/a.txt") * 2, "is there twice"),
        (header(b"main/a.txt"), "cut short"),
        (b"\0" * 100, "cut short"),
        (b"x" * 5000, "not a readable tar"),
        (b"", "cut short"),
    ],
)
def test_tar_of_anything_but_a_shards_members_is_refused(dataset: Dataset, content: bytes, what: str) -> None:
    (entry,) = dataset.manifest.splits["train"]
    dataset.store.write(entry.name, content)
    with pytest.raises(DatasetError, match=rf"train-000000\.tar: .*({what})"):
        list(read_tar(dataset.store, entry, 11))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1), junk=st.binary(min_size=1, max_size=600), cut=st.booleans(), codec=st.booleans())
def test_damaged_shard_gives_clips_or_reasons_that_name_them(
    tmp_path: Path, where: float, junk: bytes, cut: bool, codec: bool
) -> None:
    """Read by offset, as a stream and clip by clip."""
    folder = tmp_path / str(codec)
    url = str(folder)
    dataset = open_dataset(url) if folder.exists() else small_dataset(url, "ffv1" if codec else "npy", 1, 3)
    shard = folder / "train-000000.tar"
    whole = shard.read_bytes()
    at = round(where * len(whole))
    shard.write_bytes(whole[:at] if cut else whole[:at] + junk + whole[at + len(junk) :])
    try:
        reader = BatchReader(dataset, Contents(), skip=True)
        for planned in plan_epoch(dataset.index, ["train"], 0, 0):
            batch = reader.read(planned)
            named = {*batch.keys, *(failure.key for failure in batch.skipped)}
            assert named == {dataset.index["key"][clip.row].as_py() for clip in planned.clips}
        reader.close()
        found = []
        for key in dataset.index["key"].to_pylist():
            try:
                found.append(dataset.sample(key).key)
            except DatasetError as error:
                found.append(str(error))
        assert all(dataset.index["key"][row].as_py() in text for row, text in enumerate(found))
        with_error = []
        try:
            with_error += [sample.key for sample in dataset.samples("train")]
        except DatasetError as error:
            with_error.append(str(error))
        assert with_error
    finally:
        shard.write_bytes(whole)
