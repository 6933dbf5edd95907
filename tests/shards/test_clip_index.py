"""The index that training reads: columns in memory, texts and word times from its file, whatever groups that has."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards import Dataset, DatasetError, open_dataset
from shards.format import index_writer
from shards.format.index_bytes import INDEX_NAME
from shards.format.index_writer import encode_index
from shards.loading import index_view
from shards.loading.batch_plan import plan_epoch
from shards.loading.index_view import ClipIndex, clips_of
from tests.shards.datasets import small_dataset


def rewritten(dataset: Dataset, rows: list[dict[str, Any]]) -> Dataset:
    folder, content = Path(dataset.store.path()), encode_index(rows)
    (folder / INDEX_NAME).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][INDEX_NAME] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return open_dataset(str(folder))


@pytest.fixture(params=[1, 7, 2048])
def dataset(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """In row groups of a shard, of two shards, or one."""
    monkeypatch.setattr(index_writer, "ROWS_OF_GROUP", request.param)
    return small_dataset(str(tmp_path / "set"), shards=6)


def test_clip_index_says_what_the_index_says(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_view, "_MOST_TEXT_BYTES", 1)
    rows, random = dataset.index.to_pylist(), np.random.default_rng(0)
    chosen = random.permutation(len(rows))
    travelled = pickle.loads(pickle.dumps(dataset.clip_index))
    for index in (dataset.clip_index, travelled, ClipIndex.of(dataset.index)):
        for row, clip in zip(chosen.tolist(), clips_of(index, chosen), strict=True):
            known = rows[row]
            assert clip[:6] == tuple(known[name] for name in ("key", "split", "set", "speaker", "frames", "text"))
            assert [list(word) for word in clip.words] == [list(word.values()) for word in known["words"]]
            assert (index.offsets["roi"][row], index.sizes["wav"][row]) == (known["roi_offset"], known["wav_size"])
        times = list(index.word_times())
        assert np.concatenate([part.start for _, part in times]).tolist() == [
            word["start"] for row in rows for word in row["words"]
        ]
    assert list(clips_of(dataset.clip_index, [])) == []


def test_clip_index_knows_whether_a_split_has_text(dataset: Dataset) -> None:
    rows = dataset.index.to_pylist()
    assert dataset.clip_index.has_text(["train"])
    changed = rewritten(dataset, [row | {"text": " " if row["split"] == "val" else row["text"]} for row in rows])
    assert changed.clip_index.has_text(["val", "train"])
    assert not changed.clip_index.has_text(["val"])
    with pytest.raises(ValueError, match="'nosuch': there is no clip in it"):
        changed.clip_index.has_text(["nosuch"])


def test_plan_is_the_same_whatever_groups_the_index_has(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(plan_epoch(dataset.clip_index, ["train"], 0, 1)) == list(plan_epoch(dataset.index, ["train"], 0, 1))
    monkeypatch.setattr(index_writer, "ROWS_OF_GROUP", 10**6)
    other = small_dataset(str(tmp_path / "other"), shards=6)
    assert list(plan_epoch(dataset.clip_index, ["train"], 0, 1)) == list(plan_epoch(other.clip_index, ["train"], 0, 1))


def test_words_that_cannot_be_are_refused_when_they_are_read(dataset: Dataset) -> None:
    rows = dataset.index.to_pylist()
    rows[6]["words"] = [{"word": "a", "start": 2.0, "end": 1.0}]
    index = rewritten(dataset, rows).clip_index
    with pytest.raises(DatasetError, match=rf"index\.parquet: '{rows[6]['key']}': words: times"):
        list(clips_of(index, [6]))
    with pytest.raises(DatasetError, match=rf"index\.parquet: '{rows[6]['key']}': words: times"):
        list(index.word_times())


def test_index_that_was_replaced_is_noticed_by_other_processes(dataset: Dataset) -> None:
    index = pickle.loads(pickle.dumps(dataset.clip_index))
    path = Path(dataset.store.path(INDEX_NAME))
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"index\.parquet: was replaced while it was read"):
        index.texts_of([0])


def test_index_of_a_remote_dataset_is_read_from_a_copy(dataset: Dataset) -> None:
    remote = small_dataset("memory://clip-index", shards=6)
    assert list(clips_of(remote.clip_index, [0, 3])) == list(clips_of(dataset.clip_index, [0, 3]))
