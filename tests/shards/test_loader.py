"""Batches hold what is stored, in the plan's order, whoever reads them; what cannot be read is named or reported."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.segment_sampling import draw_words, whole_clip
from pipeline.build import plan_build, run_build
from pipeline.config import BuildSettings
from shards import Dataset, DatasetError, Sample, StorageError, Store, open_dataset
from shards.format.roi import ROI_CODECS, RoiCodec
from shards.loading.batch_plan import BatchSettings, plan_epoch, plan_evaluation
from shards.loading.collate import Batch, Contents
from shards.loading.distribute import distribute_from, steps_in_epoch
from shards.loading.draws import Segment
from shards.loading.index_view import ClipIndex, IndexedClip
from shards.loading.loader import LoaderSettings, load
from shards.loading.member_reader import MemberReader
from shards.loading.planned_batches import MicroBatch
from tests.processes import alive, descendants
from tests.shards.datasets import small_dataset

HERE = LoaderSettings(workers=0)
SKIP = LoaderSettings(workers=0, on_error="skip")
SETTINGS = BatchSettings(max_padded_frames=120, window_shards=2)


def draw(clip: IndexedClip, random: Random) -> Segment:
    return draw_words(clip.words, clip.frames, random) if clip.words else whole_clip(clip.text, clip.frames)


def plan(dataset: Dataset, epoch: int = 0) -> Sequence[MicroBatch]:
    return plan_epoch(dataset.index, ["train"], 0, epoch, draw, SETTINGS)


def read(dataset: Dataset, slots: Sequence[MicroBatch | None], settings: LoaderSettings = HERE) -> list[Batch]:
    return [batch for batch in load(dataset, slots, settings) if batch is not None]


def content(batch: Batch) -> bytes:
    """All of a batch, to compare; arrays as their bytes."""
    return pickle.dumps([value.numpy() if isinstance(value, torch.Tensor) else value for value in vars(batch).values()])


def samples(dataset: Dataset) -> dict[str, Sample]:
    """What the plain way of reading gives."""
    return {sample.key: sample for sample in dataset.samples("train")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twenty clips of training in four shards. Not to be changed by a test."""
    return small_dataset(str(tmp_path_factory.mktemp("dataset")))


def assert_holds(batch: Batch, micro_batch: MicroBatch, dataset: Dataset, stored: dict[str, Sample]) -> None:
    keys = dataset.index["key"].to_pylist()
    assert batch.keys == [keys[clip.row] for clip in micro_batch.clips]
    assert batch.texts == [clip.text for clip in micro_batch.clips]
    assert batch.lengths.tolist() == [clip.stop - clip.start for clip in micro_batch.clips]
    assert batch.wav_rows.tolist() == [row for row, clip in enumerate(micro_batch.clips) if not clip.whole]
    assert (batch.number, batch.skipped) == (micro_batch.number, [])
    clips, frames = len(batch.keys), micro_batch.frames
    side = stored[batch.keys[0]].roi.shape[1] if batch.keys else 32
    assert (batch.roi.shape, batch.roi.dtype) == ((clips, frames, side, side), torch.uint8)
    assert (batch.mel.shape, batch.mel.dtype) == ((clips, 80, 4 * frames), torch.float32)
    assert (batch.wav.shape, batch.wav.dtype) == ((len(batch.wav_rows), 640 * frames), torch.float32)
    sounds = iter(batch.wav.numpy())
    for number, clip in enumerate(micro_batch.clips):
        sample, length = stored[batch.keys[number]], clip.stop - clip.start
        assert batch.speakers[number] == sample.meta.speaker
        np.testing.assert_array_equal(batch.roi[number, :length], sample.roi[clip.start : clip.stop])
        assert not batch.roi[number, length:].any()
        if clip.whole:
            np.testing.assert_array_equal(batch.mel[number, :, : 4 * length], sample.mel)
            assert (batch.mel[number, :, 4 * length :] == -1).all()
        else:
            assert (batch.mel[number] == -1).all()
            sound = next(sounds)
            np.testing.assert_array_equal(
                sound[: 640 * length], sample.wav[640 * clip.start : 640 * clip.stop] / np.float32(32768)
            )
            assert not sound[640 * length :].any()


@pytest.mark.parametrize("codec", ROI_CODECS)
def test_batch_holds_what_is_stored_of_the_planned_parts(
    tmp_path: Path, codec: RoiCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used_before(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.full(shape, 7, dtype=dtype)

    monkeypatch.setattr(torch, "empty", used_before)
    dataset = small_dataset(str(tmp_path), codec)
    planned, stored = plan(dataset), samples(dataset)
    batches = read(dataset, planned)
    assert len(batches) == len(planned)
    assert {False, True} == {clip.whole for micro_batch in planned for clip in micro_batch.clips}
    for batch, micro_batch in zip(batches, planned, strict=True):
        assert_holds(batch, micro_batch, dataset, stored)


def test_loader_reads_what_the_dataset_gives_clip_by_clip(small_settings: BuildSettings, tmp_path: Path) -> None:
    run_build(plan_build(small_settings, print), small_settings, str(tmp_path), workers=0)
    dataset = open_dataset(str(tmp_path))
    planned = plan_epoch(dataset.index, ["train", "pretrain"], 0, 0, draw, replace(SETTINGS, max_padded_frames=100))
    stored = {sample.key: sample for sample in dataset.samples()}
    batches = read(dataset, planned)
    assert sum(len(batch.keys) for batch in batches) == 8
    assert sum(len(batch.wav_rows) for batch in batches) == 2, "both of pretrain give a part"
    for batch, micro_batch in zip(batches, planned, strict=True):
        assert_holds(batch, micro_batch, dataset, stored)


def test_shapes_are_padded_to_what_was_planned(dataset: Dataset) -> None:
    planned = plan_epoch(dataset.index, ["train"], 0, 0, draw, replace(SETTINGS, round_frames=25))
    stored = samples(dataset)
    for batch, micro_batch in zip(read(dataset, planned), planned, strict=True):
        assert batch.roi.shape[1] % 25 == 0
        assert_holds(batch, micro_batch, dataset, stored)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_batches_in_the_same_order(dataset: Dataset, workers: int) -> None:
    planned = plan(dataset)
    expected = [content(batch) for batch in read(dataset, planned)]
    settings = LoaderSettings(workers=workers, prefetch=2)
    assert [content(batch) for batch in read(dataset, planned, settings)] == expected


@pytest.mark.slow
def test_spawned_workers_give_the_same_batches(dataset: Dataset) -> None:
    planned = plan(dataset)
    expected = [content(batch) for batch in read(dataset, planned)]
    assert [content(b) for b in read(dataset, planned, LoaderSettings(workers=1, start_method="spawn"))] == expected


def test_resumed_run_reads_the_tail_of_the_straight_one(dataset: Dataset) -> None:
    planned = plan(dataset)
    straight = [content(batch) for batch in read(dataset, distribute_from(planned, 2, 0, 0, 1))]
    for step in range(steps_in_epoch(len(planned), 2) + 1):
        rest = [content(batch) for batch in read(dataset, distribute_from(planned, 2, step, 0, 1))]
        assert rest == straight[2 * step :]


@pytest.mark.parametrize("workers", [0, 1])
def test_empty_slots_come_through_in_their_places(dataset: Dataset, workers: int) -> None:
    planned = plan(dataset)[:2]
    slots = [None, planned[0], None, planned[1], None]
    found = [batch and batch.number for batch in load(dataset, slots, LoaderSettings(workers=workers))]
    assert found == [None, planned[0].number, None, planned[1].number, None]
    assert list(load(dataset, [], LoaderSettings(workers=workers))) == []
    assert list(load(dataset, [None], LoaderSettings(workers=workers))) == [None]


def test_loader_leaves_the_global_random_numbers_alone(dataset: Dataset) -> None:
    before = torch.get_rng_state()
    for workers in (0, 1):
        read(dataset, plan(dataset)[:2], LoaderSettings(workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("contents", "empty"), [(Contents(roi=False), {"roi"}), (Contents(sound=False), {"mel", "wav"})]
)
def test_members_that_a_task_does_not_need_are_not_read(dataset: Dataset, contents: Contents, empty: set[str]) -> None:
    planned = plan(dataset)
    for batch, full in zip(
        read(dataset, planned, replace(HERE, contents=contents)), read(dataset, planned), strict=True
    ):
        for name in ("roi", "mel", "wav"):
            if name in empty:
                assert not getattr(batch, name).numel()
            else:
                assert torch.equal(getattr(batch, name), getattr(full, name))
        assert (batch.keys, batch.lengths.tolist()) == (full.keys, full.lengths.tolist())


def test_references_come_with_their_clips_and_not_where_no_sound_is_read(dataset: Dataset) -> None:
    planned, stored = plan_epoch(dataset.index, ["train"], 0, 0, draw, SETTINGS, reference_frames=50), samples(dataset)
    keys = dataset.index["key"].to_pylist()
    voices = 0
    for batch, micro_batch in zip(read(dataset, planned), planned, strict=True):
        for number, clip in enumerate(micro_batch.clips):
            frames = 0 if clip.reference is None else clip.reference.stop - clip.reference.start
            assert batch.reference_frames[number] == frames
            assert not batch.reference[number, :, frames:].any()
            if clip.reference:
                expected = stored[keys[clip.reference.row]].mel[:, clip.reference.start : clip.reference.stop]
                np.testing.assert_array_equal(batch.reference[number, :, :frames], expected)
                voices += 1
    assert voices > 10
    mute = read(dataset, planned[:1], replace(HERE, contents=Contents(sound=False)))[0]
    assert (mute.reference.numel(), mute.reference_frames.tolist()) == (0, [0] * len(mute.keys))


@pytest.mark.parametrize("roi", [True, False])
def test_samples_of_every_clip_are_read_without_stored_mels(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, roi: bool
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a mel was read")

    planned, stored = plan_evaluation(dataset.index, ["train"], draw, SETTINGS), samples(dataset)
    full = read(dataset, planned)
    assert any(0 < len(batch.wav_rows) < len(batch.keys) for batch in full), "whole clips, and parts"
    monkeypatch.setattr(MemberReader, "mel", refuse)
    for batch, other, micro_batch in zip(
        read(dataset, planned, replace(HERE, contents=Contents(roi=roi, stored_mel=False))), full, planned, strict=True
    ):
        assert (batch.mel == -1).all()
        assert batch.mel.shape == other.mel.shape
        assert batch.wav_rows.tolist() == list(range(len(batch.keys)))
        assert batch.wav.shape == (len(batch.keys), 640 * micro_batch.frames)
        for key, clip, wav in zip(batch.keys, micro_batch.clips, batch.wav, strict=True):
            frames = clip.stop - clip.start
            true = torch.tensor(stored[key].wav[640 * clip.start : 640 * clip.stop]) / 32768
            assert torch.equal(wav[: 640 * frames], true)
            assert not wav[640 * frames :].any()
        assert torch.equal(batch.roi, other.roi) if roi else not batch.roi.numel()


def test_samples_stay_with_their_clips_where_one_is_skipped(tmp_path: Path) -> None:
    dataset = small_dataset(str(tmp_path), shards=2)
    stored = samples(dataset)
    (tmp_path / "train-000001.tar").unlink()
    planned = plan_evaluation(dataset.index, ["train"], settings=BatchSettings(max_padded_frames=400, window_shards=2))
    (batch,) = read(dataset, planned, replace(SKIP, contents=Contents(stored_mel=False)))
    assert (len(batch.skipped), len(batch.keys), len(batch.wav)) == (5, 5, 5)
    for row, key, wav in zip(batch.wav_rows.tolist(), batch.keys, batch.wav, strict=True):
        assert batch.keys[row] == key
        true = torch.tensor(stored[key].wav) / 32768
        assert torch.equal(wav[: len(true)], true)


def test_batch_moves_to_a_device_and_its_lengths_stay(dataset: Dataset) -> None:
    batch = read(dataset, plan(dataset)[:1])[0]
    moved = batch.to("meta")
    assert {getattr(moved, name).device.type for name in ("roi", "mel", "wav", "wav_rows", "reference")} == {"meta"}
    assert moved.lengths.device.type == "cpu"
    assert (moved.keys, moved.texts) == (batch.keys, batch.texts)


def test_batch_pins_all_that_goes_to_a_device(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = read(dataset, plan(dataset)[:1])[0]
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)  # as far as it can be seen without a GPU
    pinned = batch.pin_memory()
    assert content(pinned) == content(batch)
    for name in ("roi", "mel", "wav", "wav_rows", "reference"):
        assert getattr(pinned, name) is not getattr(batch, name) or not getattr(batch, name).numel()


def truncate(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:20_000])


def change_headers(shard: Path) -> None:
    content = shard.read_bytes()
    shard.write_bytes(content.replace(b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x09").replace(b"RIFF", b"RUFF"))


def shift(shard: Path) -> None:
    shard.write_bytes(b"\0" * 512 + shard.read_bytes())


def other_frames(shard: Path) -> None:
    content = shard.read_bytes()
    for frames in range(8, 50):
        content = content.replace(b"(%d, 32, 32)" % frames, b"(%d, 32, 32)" % (frames + 1 if frames != 9 else 8))
    shard.write_bytes(content)


def not_finite(shard: Path) -> None:
    parts = shard.read_bytes().split(b"(80, ")  # in each mel's header
    shard.write_bytes(b"(80, ".join([parts[0], *(p[:200] + b"\xff" * 32 + p[232:] for p in parts[1:])]))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (truncate, "the shard ends after"),
        (change_headers, "no .npy header|no wav header"),
        (shift, "no .npy header|no wav header"),
        (other_frames, r"expected \|u1"),
        (not_finite, "not finite"),
        (Path.unlink, "the shard is missing"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_shard_is_named_or_its_clips_are_skipped_and_reported(
    tmp_path: Path, damage: object, what: str, workers: int
) -> None:
    assert callable(damage)
    dataset = small_dataset(str(tmp_path), clips=4)
    stored = samples(dataset)
    planned = plan_evaluation(dataset.index, ["train"], draw=draw, settings=SETTINGS)
    damage(tmp_path / "train-000001.tar")
    settings = LoaderSettings(workers=workers)
    with pytest.raises(DatasetError, match=rf"train-000001\.tar: .*({what})") as caught:
        read(dataset, planned, settings)
    assert "/s1/" in str(caught.value), "the clip is named too"
    batches = read(dataset, planned, replace(settings, on_error="skip"))
    skipped = [each for batch in batches for each in batch.skipped]
    assert skipped
    assert all(each.key.split("/")[1] == "s1" and "train-000001.tar" in each.reason for each in skipped)
    used = [key for batch in batches for key in batch.keys]
    assert sorted(used + [each.key for each in skipped]) == sorted(
        k for k in dataset.index["key"].to_pylist() if "/v/" not in k
    )
    for batch, micro_batch in zip(batches, planned, strict=True):
        kept = tuple(v for v in micro_batch.clips if dataset.index["key"][v.row].as_py() in batch.keys)
        assert_holds(replace(batch, skipped=[]), micro_batch._replace(clips=kept), dataset, stored)


def test_batch_whose_clips_are_all_skipped_has_none(tmp_path: Path) -> None:
    dataset = small_dataset(str(tmp_path), shards=1)
    (planned, *_) = plan(dataset)
    (tmp_path / "train-000000.tar").unlink()
    (batch,) = read(dataset, [planned], SKIP)
    assert len(batch.skipped) == len(planned.clips)
    assert (batch.keys, batch.roi.shape, batch.lengths.shape) == ([], (0, planned.frames, 32, 32), (0,))
    assert (len(batch.mel), len(batch.wav), len(batch.wav_rows)) == (0, 0, 0)


@pytest.mark.parametrize("codec", ["ffv1", "h264"])
def test_video_that_does_not_decode_is_named_or_skipped(tmp_path: Path, codec: RoiCodec) -> None:
    dataset = small_dataset(str(tmp_path), codec)
    rows = dataset.index.to_pylist()
    planned = plan_evaluation(dataset.index, ["train"], settings=SETTINGS)
    shard = tmp_path / rows[2]["shard"]
    content = bytearray(shard.read_bytes())
    content[rows[2]["roi_offset"] : rows[2]["roi_offset"] + 200] = b"x" * 200
    shard.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{shard.name}: {rows[2]['key']}\.roi\.mkv"):
        read(dataset, planned)
    assert [each.key for batch in read(dataset, planned, SKIP) for each in batch.skipped] == [rows[2]["key"]]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_failing_disk_always_stops_since_the_clips_may_be_fine(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, on_error: Literal["raise", "skip"]
) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    for workers in (0, 1):
        with pytest.raises(StorageError, match=r"train-00000\d\.tar: reading failed: Input/output error"):
            read(dataset, plan(dataset), LoaderSettings(workers=workers, on_error=on_error))


def test_disk_that_fails_for_a_moment_is_read_again_from_a_file_opened_anew(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(dataset)
    expected = [content(batch) for batch in read(dataset, planned)]
    opened: list[str] = []
    failed: list[int] = []
    whole_open, whole_read = os.open, os.preadv

    def noted(path: Any, *arguments: Any, **named: Any) -> int:
        opened.append(str(path))
        return whole_open(path, *arguments, **named)

    def stale(descriptor: int, buffers: Any, offset: int) -> int:
        if len(failed) < 2:
            failed.append(descriptor)
            raise OSError(116, "Stale file handle")
        return whole_read(descriptor, buffers, offset)

    monkeypatch.setattr(os, "open", noted)
    monkeypatch.setattr(os, "preadv", stale)
    assert [content(batch) for batch in read(dataset, planned)] == expected
    tars = [path for path in opened if path.endswith(".tar")]
    assert len(failed) == 2
    assert len(tars) == len(set(tars)) + 2


@pytest.mark.slow
def test_worker_that_hangs_is_gone_when_the_loader_is_closed(dataset: Dataset) -> None:
    batches: Any = load(dataset, plan(dataset), LoaderSettings(workers=1))
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    batches.close()
    assert not alive(worker.pid)


def test_workers_are_not_started_where_there_is_nothing_to_read(dataset: Dataset) -> None:
    batches = load(dataset, [None, None], LoaderSettings(workers=2))
    assert next(batches) is None
    assert not multiprocessing.active_children()
    assert list(batches) == [None]


def test_short_reads_are_continued(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan(dataset)
    expected = [content(batch) for batch in read(dataset, planned)]
    whole_read = os.preadv

    def some(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return whole_read(descriptor, [buffers[0].cast("B")[:1000]], offset)

    monkeypatch.setattr(os, "preadv", some)
    assert [content(batch) for batch in read(dataset, planned)] == expected


def test_shards_open_at_once_are_few_and_none_afterwards(tmp_path: Path) -> None:
    dataset = small_dataset(str(tmp_path), shards=40, clips=2)
    planned = plan_epoch(dataset.clip_index, ["train"], 0, 0, draw, BatchSettings(120, 40))
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    for _ in load(dataset, planned, HERE):
        most = max(most, len(os.listdir("/proc/self/fd")))
    assert before + 20 < most <= before + 32
    assert len(os.listdir("/proc/self/fd")) == before


def test_loader_that_is_closed_early_leaves_no_process(dataset: Dataset) -> None:
    before = set(descendants(os.getpid()))
    batches = load(dataset, plan(dataset), LoaderSettings(workers=2))
    next(batches)
    assert len(set(descendants(os.getpid())) - before) >= 2
    batches.close()
    assert not set(descendants(os.getpid())) - before


def test_worker_that_is_killed_is_named(dataset: Dataset) -> None:
    before = set(descendants(os.getpid()))
    batches = load(dataset, [*plan(dataset)] * 20, LoaderSettings(workers=1, prefetch=1))
    next(batches)
    (worker,) = set(descendants(os.getpid())) - before

    def kill_and_go_on() -> None:
        os.kill(worker, signal.SIGKILL)
        list(batches)

    with pytest.raises(RuntimeError, match=rf"worker.*{worker}"):  # from wherever we are when it is noticed
        kill_and_go_on()


def test_index_that_cannot_be_is_refused(dataset: Dataset) -> None:
    index = dataset.index
    wrong = index.set_column(index.schema.get_field_index("frames"), "frames", pa.array([0] * len(index), pa.int32()))
    broken = Dataset(dataset.store, dataset.manifest)
    vars(broken)["clip_index"] = ClipIndex.of(wrong)
    with pytest.raises(DatasetError, match="main/s0/00: the index names 0 frames"):
        read(broken, [])


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"prefetch": 0}, {"on_error": "ignore"}])
def test_loader_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoaderSettings(**wrong)  # type: ignore[arg-type]


def test_shards_are_read_shuffled_and_batched_by_plain_webdataset(dataset: Dataset) -> None:
    webdataset = pytest.importorskip("webdataset")
    shards = sorted(str(path) for path in Path(dataset.store.path()).glob("train-*.tar"))
    stream = (
        webdataset.WebDataset(shards, shardshuffle=len(shards), seed=7)
        .shuffle(100, seed=7)
        .decode()
        .to_tuple("__key__", "roi.npy", "mel.npy", "txt", "json")
        .batched(6, collation_fn=None)
    )
    batches = list(stream)
    assert [len(batch) for batch in batches] == [6, 6, 6, 2]
    clips = {key: rest for batch in batches for key, *rest in batch}
    stored = [key for key in dataset.index["key"].to_pylist() if "/v/" not in key]
    assert sorted(clips) == sorted(stored)
    assert list(clips) != stored, "they came in another order"
    for key, (roi, mel, text, meta) in clips.items():
        sample = dataset.sample(key)
        np.testing.assert_array_equal(roi, sample.roi)
        np.testing.assert_array_equal(mel, sample.mel)
        assert (text, meta["frames"]) == (sample.text, sample.meta.frames)


def test_dataset_that_travelled_by_url_is_read_the_same(dataset: Dataset) -> None:
    again = open_dataset(Store(dataset.store.url).url)
    planned = plan(dataset)
    assert plan(again) == planned
    assert [content(batch) for batch in read(again, planned)] == [content(batch) for batch in read(dataset, planned)]
