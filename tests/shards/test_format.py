"""What is written is what is read, and what breaks the contract is named."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shards import DatasetError, Sample, SampleMeta, ShardWriter, Store, decode_sample, encode_sample
from shards.format.manifest import ShardEntry
from shards.format.npy import decode_npy, encode_npy
from shards.format.roi import ROI_CODECS, RoiCodec, decode_roi, encode_roi, roi_member
from shards.loading.dataset import read_row, read_tar


def make_sample(key: str = "main/a/1", frames: int = 8, crop_radius: int = 11, **meta: Any) -> Sample:
    random = np.random.default_rng(len(key) + frames)
    side = 2 * (crop_radius + 5)
    smooth = np.cumsum(np.cumsum(random.normal(0, 1, (frames, side, side)), axis=1), axis=2)
    roi = np.clip(128 + smooth, 0, 255).astype(np.uint8)
    described = SampleMeta(
        set=key.split("/")[0],
        split="train",
        speaker="a",
        source="main/a/1.mp4",
        source_sha256="0" * 64,
        frames=frames,
        fps=25,
        crop_radius=crop_radius,
        lips=[(80, 100)] * frames,
        words=[("hello", 0.1, 0.25)],
        sound=(0, 640 * frames),
        notes=[],
    )
    wav = random.integers(-9000, 9000, 640 * frames).astype(np.int16)
    mel = random.normal(0, 0.3, (80, 4 * frames)).astype(np.float32)
    return Sample(key, roi, mel, wav, "hello wörld", replace(described, **meta))


def assert_same(found: Sample, expected: Sample, roi_error: float = 0.0) -> None:
    assert (found.key, found.text, found.meta) == (expected.key, expected.text, expected.meta)
    np.testing.assert_array_equal(found.wav, expected.wav)
    np.testing.assert_array_equal(found.mel, expected.mel)
    assert np.abs(found.roi.astype(int) - expected.roi).mean() <= roi_error


@pytest.mark.parametrize(("codec", "roi_error"), [("npy", 0.0), ("ffv1", 0.0), ("h264", 1.0)])
def test_sample_comes_back_as_it_was_with_every_roi_codec(codec: RoiCodec, roi_error: float) -> None:
    sample = make_sample(crop_radius=40, frames=12)
    members = encode_sample(sample, codec)
    assert len(members) == 5
    assert_same(decode_sample(sample.key, members), sample, roi_error)


@pytest.mark.parametrize("codec", ROI_CODECS)
def test_roi_codec_gives_the_same_bytes_for_the_same_frames(codec: RoiCodec) -> None:
    roi = make_sample(crop_radius=40, frames=30).roi
    assert len({encode_roi(roi, codec) for _ in range(4)}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["ffv1", "h264"])
def test_roi_codec_gives_the_same_bytes_in_other_processes(codec: str, tmp_path: Path) -> None:
    np.save(tmp_path / "roi.npy", make_sample(crop_radius=40, frames=60).roi)
    program = (
        "import sys, hashlib, numpy as np; from shards.format.roi import encode_roi;"
        f"roi = np.load({str(tmp_path / 'roi.npy')!r});"
        "junk = [np.random.bytes(n) for n in range(1000, 100000, 7919)];"
        f"print(*{{hashlib.sha256(encode_roi(roi, {codec!r})).hexdigest() for _ in range(6)}})"
    )
    digests: list[bytes] = []
    for _ in range(3):
        digests += subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.split()
    assert len(digests) == 3, "one in each process"
    assert len(set(digests)) == 1


def test_h264_footage_is_under_one_grey_level_off(footage: Path) -> None:
    import av

    from shards.format.roi import luma

    errors = []
    for path in sorted((footage / "LRS2-BBC" / "main" / "grid_s01").glob("*.mp4"))[::150]:
        with av.open(str(path)) as container:
            roi = np.stack([luma(frame)[60:150, 35:125] for frame in container.decode(video=0)])
        decoded = decode_roi(encode_roi(roi, "h264"), "roi.mkv", len(roi), 90, "clip")
        lossless = decode_roi(encode_roi(roi, "ffv1"), "roi.mkv", len(roi), 90, "clip")
        np.testing.assert_array_equal(lossless, roi)
        errors.append(np.abs(decoded.astype(int) - roi).mean())
    assert max(errors) < 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"roi": np.zeros((8, 32, 30), np.uint8)}, "roi"),
        ({"roi": np.zeros((7, 32, 32), np.uint8)}, "roi"),
        ({"roi": np.zeros((8, 32, 32), np.float32)}, "roi"),
        ({"mel": np.zeros((80, 31), np.float32)}, "mel"),
        ({"mel": np.full((80, 32), np.nan, np.float32)}, "finite"),
        ({"wav": np.zeros(640 * 8 - 1, np.int16)}, "wav"),
        ({"key": "main/a.b"}, "dots"),
        ({"key": "main/a b"}, "white space"),
        ({"key": "other/a"}, "set"),
    ],
)
def test_sample_that_breaks_the_contract_is_not_written(change: dict[str, Any], what: str) -> None:
    with pytest.raises(DatasetError, match=what):
        encode_sample(replace(make_sample(), **change), "npy")


def npy_claiming(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    header = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"x" * 10


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"not an array at all",
        npy_claiming((10**6, 10**6, 10**6)),
        npy_claiming((-1, -10)),
        npy_claiming((10,), "|O"),
        encode_npy(np.zeros(4))[:-1],
        encode_npy(np.zeros(4)) + b"x",
        encode_npy(np.asfortranarray(np.zeros((2, 2))))[:10],
        encode_npy(np.zeros(4)).replace(b"}", b"("),
        encode_npy(np.zeros(4)).replace(b"False", b"-" * 5 + b"F"),
        encode_npy(np.zeros(4))[:10] + b"(" * 118,
    ],
)
def test_hostile_array_is_refused_without_unpickling_or_allocating(content: bytes) -> None:
    with pytest.raises(DatasetError, match=r"main/a\.mel\.npy"):
        decode_npy(content, "main/a.mel.npy")


def test_pickled_array_is_refused() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match="plain numbers"):
        decode_npy(buffer.getvalue(), "x")


@given(st.binary(max_size=300))
def test_random_bytes_are_a_dataset_error(content: bytes) -> None:
    for member in ("roi.npy", "mel.npy", "wav", "json"):
        members = encode_sample(make_sample(), "npy") | {member: content}
        with pytest.raises(DatasetError, match="main/a/1"):
            decode_sample("main/a/1", members)


GOOD = {codec: encode_sample(make_sample(), codec) for codec in ROI_CODECS}


@example(codec="ffv1", member=2, where=0.0625, value=128)  # a tag that is no UTF-8
@given(codec=st.sampled_from(ROI_CODECS), member=st.integers(0, 4), where=st.floats(0, 1), value=st.integers(0, 255))
def test_changed_byte_is_nothing_worse_than_a_dataset_error(
    codec: RoiCodec, member: int, where: float, value: int
) -> None:
    name = sorted(GOOD[codec])[member]
    content = bytearray(GOOD[codec][name])
    content[round(where * (len(content) - 1))] = value
    with suppress(DatasetError):
        sample = decode_sample("main/a/1", GOOD[codec] | {name: bytes(content)})
        assert sample.roi.shape == (8, 32, 32)


@pytest.mark.parametrize("member", ["roi.npy", "mel.npy", "wav", "txt", "json"])
def test_missing_member_is_named(member: str) -> None:
    members = encode_sample(make_sample(), "npy")
    del members[member]
    with pytest.raises(DatasetError, match=f"main/a/1: member {member} is missing"):
        decode_sample("main/a/1", members)


def test_video_of_more_frames_than_declared_is_not_read_further() -> None:
    video = encode_roi(make_sample(frames=60).roi, "ffv1")
    with pytest.raises(DatasetError, match="more than the 8 frames"):
        decode_roi(video, "roi.mkv", 8, 32, "main/a.roi.mkv")
    assert roi_member("ffv1") == "roi.mkv"


def write_shard(store: Store, samples: list[Sample], codec: RoiCodec = "npy") -> ShardWriter:
    with ShardWriter.create(store, "train-000000.tar", codec) as writer:
        for sample in samples:
            writer.write(sample)
    return writer


def keys_of(folder: Path, shard: str = "train-000000.tar") -> list[str]:
    """Keys of a tar, read as one of 100 frames."""
    entry = ShardEntry(shard, 0, "0" * 64, 3, 100)
    return [key for key, _ in read_tar(Store(str(folder)), entry, 11)]


@pytest.mark.parametrize("codec", ROI_CODECS)
def test_index_rows_point_to_the_bytes_of_each_member(tmp_path: Path, codec: RoiCodec) -> None:
    store = Store(str(tmp_path))
    samples = [make_sample(f"main/speaker/{number}", crop_radius=16) for number in range(3)]
    writer = write_shard(store, samples, codec)
    for row, sample in zip(writer.rows, samples, strict=True):
        assert_same(read_row(store, row), sample, roi_error=3.0 if codec == "h264" else 0.0)


def test_shards_of_the_same_samples_are_the_same_file(tmp_path: Path) -> None:
    samples = [make_sample(f"main/s/{number}") for number in range(3)]
    first = write_shard(Store(str(tmp_path / "a")), samples)
    second = write_shard(Store(str(tmp_path / "b")), samples)
    content = (tmp_path / "a" / "train-000000.tar").read_bytes()
    assert content == (tmp_path / "b" / "train-000000.tar").read_bytes()
    assert first.sha256 == second.sha256 == Store(str(tmp_path / "a")).sha256("train-000000.tar")
    assert first.bytes == len(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert {(info.mtime, info.uid, info.gid, info.uname, info.gname) for info in tar} == {(0, 0, 0, "", "")}


def test_shard_is_read_by_plain_webdataset(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    samples = [make_sample(f"main/s/{number}") for number in range(4)]
    write_shard(Store(str(tmp_path)), samples)
    read = list(webdataset.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False).decode())
    assert [entry["__key__"] for entry in read] == [sample.key for sample in samples]
    np.testing.assert_array_equal(read[2]["roi.npy"], samples[2].roi)
    np.testing.assert_array_equal(read[2]["mel.npy"], samples[2].mel)
    assert read[2]["txt"] == "hello wörld"
    assert read[2]["json"]["frames"] == 8


def test_keys_may_be_long_and_of_any_script(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    sample = make_sample("main/" + "дом-" * 60 + "/" + "x" * 150)
    row = write_shard(store, [sample]).rows[0]
    assert_same(read_row(store, row), sample)
    assert keys_of(tmp_path) == [sample.key]


def test_key_written_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="main/a/1: written twice"):
        write_shard(Store(str(tmp_path)), [make_sample(), make_sample()])
    assert list(tmp_path.iterdir()) == [], "nothing is left under the final name, nor a temporary file"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(tarfile.SYMTYPE, "main/a.txt"), (tarfile.CHRTYPE, "main/a.txt"), (tarfile.REGTYPE, "noextension")],
)
def test_tar_with_members_that_no_shard_has_is_refused(tmp_path: Path, kind: bytes, name: str) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DatasetError, match=r"evil\.tar"):
        keys_of(tmp_path, "evil.tar")


def test_tar_that_is_cut_short_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_shard(store, [make_sample(f"main/s/{number}") for number in range(3)])
    shard = tmp_path / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:30_000])
    with pytest.raises(DatasetError, match=r"train-000000\.tar"):
        keys_of(tmp_path)


def test_json_member_is_plain_json() -> None:
    meta = json.loads(encode_sample(make_sample(), "npy")["json"])
    assert meta["lips"][0] == [80, 100]
    assert meta["words"] == [["hello", 0.1, 0.25]]
