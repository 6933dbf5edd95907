"""Curriculum: short segments first, in stages by epoch, of few words or few frames; later all clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.segment_sampling import Segment, SegmentSettings, draw_words, whole_clip
from shards import INDEX_SCHEMA, Dataset, open_dataset
from shards.loading.batch_plan import BatchSettings, plan_epoch
from shards.loading.index_view import ClipIndex, IndexedClip, clips_of
from shards.loading.planned_batches import MicroBatch, PlannedBatches
from tests.train.runs import flags, logged, task_flags, weights_of
from train.__main__ import main
from train.curriculum import segment_of, stage_at, whole_clips
from train.epochs import Epochs
from train.settings import Stage, TrainSettings

STAGES = (Stage(epochs=2, max_words=2, max_frames=15), Stage(epochs=1, max_words=3, max_frames=20))
SETTINGS = TrainSettings(curriculum=STAGES, segments=SegmentSettings(min_words=4, max_words=6))
UNVALIDATED: dict[str, Any] = {"validation.split": "null"}
WORDS = [(f"w{number}", number / 5, (number + 1) / 5) for number in range(12)]
TIMED = IndexedClip("pretrain/a/0", "train", "pretrain", "a", 60, "all of it", WORDS)
SHORT, LONG = (IndexedClip(f"main/a/{frames}", "train", "main", "a", frames, "a text", []) for frames in (15, 16))


@pytest.fixture
def dataset(shards: str) -> Dataset:
    return open_dataset(shards)


def drawn(clip: IndexedClip, epoch: int, settings: TrainSettings = SETTINGS) -> list[Segment]:
    """Two hundred draws; none where the clip is skipped."""
    found = [segment_of(settings, epoch)(clip, Random(number)) for number in range(200)]
    return [part for part in found if isinstance(part, Segment)]


def run_of(part: Segment) -> tuple[int, int]:
    """Numbers of the first of its words in WORDS and of the one after its last."""
    assert part.text
    numbers = [int(word.removeprefix("w")) for word in part.text.split(" ")]
    return numbers[0], numbers[-1] + 1


def test_stage_at_is_none_after_the_last_stage() -> None:
    assert [stage_at(STAGES, epoch) for epoch in range(1, 6)] == [STAGES[0], STAGES[0], STAGES[1], None, None]
    assert stage_at((), 1) is None


@pytest.mark.parametrize(("epoch", "most", "least"), [(1, 2, 1), (2, 2, 1), (3, 3, 1), (4, 6, 4)])
def test_segment_of_draws_runs_of_words_as_long_as_the_stage_says(epoch: int, most: int, least: int) -> None:
    parts = drawn(TIMED, epoch)
    runs = [run_of(part) for part in parts]
    counts = [stop - first for first, stop in runs]
    assert (len(parts), min(counts), max(counts)) == (200, least, most)
    assert {first for first, _ in runs} == set(range(12 - least + 1)), "from anywhere in the clip"
    for part, (first, stop) in zip(parts, runs, strict=True):
        assert part.text == " ".join(word for word, _, _ in WORDS[first:stop])
        assert (part.start_frame, part.stop_frame) == (5 * first, 5 * stop)


def test_segment_of_uses_clips_of_other_sets_whole_after_the_curriculum() -> None:
    timed = TIMED._replace(key="trainval/a/0", set="trainval")
    assert {(part.start_frame, part.stop_frame, part.text) for part in drawn(timed, 4)} == {(0, 60, "all of it")}
    assert {stop - first for first, stop in map(run_of, drawn(timed, 1))} == {1, 2}
    long = timed._replace(frames=400)
    assert {part.text for part in drawn(long, 4)} == {" ".join(word for word, _, _ in WORDS)}


def test_segment_of_never_draws_longer_than_the_settings_say() -> None:
    settings = dataclasses.replace(
        SETTINGS, segments=SegmentSettings(min_words=1, max_words=1), curriculum=(Stage(1, 9, 500),)
    )
    assert {stop - first for first, stop in map(run_of, drawn(TIMED, 1, settings))} == {1}
    assert {part.stop_frame for part in drawn(SHORT._replace(frames=400), 1, settings)} == {250}


def test_segment_of_cuts_long_words_to_the_frames_of_the_stage() -> None:
    slow = TIMED._replace(words=[("slow", 0.0, 0.5), ("words", 0.5, 1.2)])
    assert {(part.stop_frame, part.text) for part in drawn(slow, 1)} == {(13, "slow"), (27, None)}
    assert {part.stop_frame - part.start_frame for part in drawn(slow, 4)} == {30}


def test_segment_of_skips_long_clips_without_word_times_until_later() -> None:
    for epoch, short, long in ((1, 15, 0), (2, 15, 0), (3, 15, 16), (4, 15, 16)):
        for clip, frames in ((SHORT, short), (LONG, long)):
            whole = [Segment(0, frames, "a text")] * 200 if frames else []
            assert drawn(clip, epoch) == whole


def test_segment_of_without_curriculum_follows_the_settings_from_the_first_epoch() -> None:
    settings = TrainSettings()
    for clip in (TIMED, LONG, LONG._replace(frames=400)):
        for epoch in (1, 9):
            for number in range(20):
                plain = (
                    draw_words(clip.words, clip.frames, Random(number), settings.segments)
                    if clip.words
                    else whole_clip(clip.text, clip.frames, settings.segments)
                )
                assert segment_of(settings, epoch)(clip, Random(number)) == plain


def test_validation_uses_no_curriculum() -> None:
    for clip in (TIMED, SHORT, LONG):
        assert whole_clips(SETTINGS.segments)(clip, Random(0)) == (0, clip.frames, clip.text)


def test_validation_cuts_the_text_with_the_clip_where_word_times_are_known() -> None:
    ranges = SegmentSettings(max_frames=28)  # 1.12 s: five words of a fifth of a second, and a part of the sixth
    timed, untimed = whole_clips(ranges)(TIMED, Random(0)), whole_clips(ranges)(TIMED._replace(words=[]), Random(0))
    assert timed == (0, 28, "w0 w1 w2 w3 w4")
    assert untimed == (0, 28, None)


def _keys(dataset: Dataset, planned: Sequence[MicroBatch]) -> list[str]:
    keys = dataset.index["key"].to_pylist()
    return sorted(keys[clip.row] for micro_batch in planned for clip in micro_batch.clips)


def test_epoch_of_a_stage_has_every_clip_that_it_takes_once(dataset: Dataset) -> None:
    rows = [row for row in dataset.index.to_pylist() if row["split"] == "train"]
    for epoch, longest in ((1, 15), (3, 20), (4, 10**6)):
        draw = segment_of(SETTINGS, epoch)
        planned = plan_epoch(
            dataset.index, ["train"], 0, epoch, draw, BatchSettings(max_padded_frames=80, window_shards=2)
        )
        taken = sorted(row["key"] for row in rows if row["words"] or row["frames"] <= longest)
        assert _keys(dataset, planned) == taken
        assert (len(taken) < len(rows)) == (epoch < 4)
        for micro_batch in planned:
            assert micro_batch.clips, "no micro-batch without clips"
            assert all(clip.stop - clip.start <= longest for clip in micro_batch.clips)


def _curriculum(shards: str, out: Path, **settings: Any) -> list[str]:
    """Two stages of an epoch; windows and references as short as these clips."""
    stages = "[{epochs: 1, max_words: 2, max_frames: 15}, {epochs: 1, max_words: 3, max_frames: 25}]"
    words = "--segments={min_words: 3, max_words: 5}"
    given = {"steps": 8, "every": 1, "checkpoint.last": 20, "workers": 0, "validation.split": "null", **settings}
    return [*task_flags("vsr", shards, out, **given), f"--curriculum={stages}", words]


def _noted_plans(monkeypatch: pytest.MonkeyPatch) -> dict[int, PlannedBatches]:
    plans: dict[int, PlannedBatches] = {}
    plan = Epochs.plan

    def noted(epochs: Epochs, epoch: int) -> PlannedBatches:
        plans[epoch] = plan(epochs, epoch)
        return plans[epoch]

    monkeypatch.setattr(Epochs, "plan", noted)
    return plans


def test_resume_in_mid_curriculum_keeps_the_plan(shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = _noted_plans(monkeypatch)
    assert main(_curriculum(shards, tmp_path / "straight")) == 0
    straight_plans = dict(noted)
    ends = sorted(logged(tmp_path / "straight", "epoch"))
    assert len(ends) >= 2, "the third epoch has begun"
    longest = [max(micro_batch.frames for micro_batch in straight_plans[epoch]) for epoch in (1, 2, 3)]
    assert longest[0] <= 15 < longest[1] <= 25 < longest[2]
    stop = ends[0] + 1
    assert stop < ends[1], "inside the second stage"
    noted.clear()
    assert main(_curriculum(shards, tmp_path / "broken", steps=stop)) == 0
    assert main([*_curriculum(shards, tmp_path / "broken"), "--resume=auto"]) == 0
    assert noted == straight_plans
    assert logged(tmp_path / "broken") == logged(tmp_path / "straight")
    ours, theirs = weights_of(tmp_path / "broken", 8), weights_of(tmp_path / "straight", 8)
    assert [name for name, x in theirs.items() if not torch.equal(ours[name], x)] == []


def test_resume_with_another_curriculum_is_refused(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_curriculum(shards, tmp_path / "run", steps=1)) == 0
    other = [
        *_curriculum(shards, tmp_path / "run"),
        "--curriculum=[{epochs: 3, max_words: 2, max_frames: 250}]",
        "--resume=auto",
    ]
    assert main(other) == 2
    assert "curriculum was" in capsys.readouterr().err


def test_stage_without_clips_is_named_with_its_epoch(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = "--curriculum=[{epochs: 1, max_words: 5, max_frames: 250}, {epochs: 1, max_words: 2, max_frames: 5}]"
    untimed = ["--splits=[val]", "--micro_batches_per_step=1"]
    arguments = flags(shards, tmp_path / "run", steps=9, workers=0, **UNVALIDATED)
    assert main([*arguments, *untimed, stages]) == 1
    message = capsys.readouterr().err
    assert "0 micro-batches in epoch 2 for 1 ranks" in message
    assert "curriculum" in message
    assert sorted(logged(tmp_path / "run", "epoch")) == [1], "the first stage was trained"


def test_stage_of_fewer_frames_than_the_shortest_segment_is_refused(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = "--curriculum=[{epochs: 1, max_words: 5, max_frames: 250}, {epochs: 1, max_words: 2, max_frames: 4}]"
    arguments = flags(shards, tmp_path / "run", steps=40, workers=0, **UNVALIDATED)
    assert main([*arguments, stages]) == 2
    assert "curriculum" in capsys.readouterr().err
    assert not (tmp_path / "run/log.jsonl").exists(), "nothing was written"


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"max_words": 0}, {"max_frames": -1}])
def test_stage_settings_below_one_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"curriculum: {next(iter(wrong))} .* at least 1 was expected"):
        Stage(**({"epochs": 1, "max_words": 2, "max_frames": 250} | wrong))


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_lengths_of_many_segments_are_those_that_are_drawn(dataset: Dataset, epoch: int) -> None:
    rows = np.flatnonzero(np.arange(len(dataset.clip_index)) % 4)
    random = np.random.default_rng(0)
    table = dataset.index.to_pylist() * 20
    for number, row in enumerate(table):  # in any order, at any time: corpora write such words
        edges = random.integers(0, 60, (number % 9, 2)) / 10
        words = [{"word": f"w{at}", "start": min(pair), "end": max(pair)} for at, pair in enumerate(edges.tolist())]
        row |= {"key": f"{row['set']}/{number}", "words": words, "frames": 5 + number % 120}
    many = ClipIndex.of(pa.Table.from_pylist(table, schema=INDEX_SCHEMA))
    narrow = dataclasses.replace(SETTINGS, segments=SegmentSettings(min_words=2, max_words=6, max_frames=40))
    for index, chosen in ((dataset.clip_index, rows), (many, np.arange(1, len(many), 2))):
        for settings in (SETTINGS, narrow):
            draw = segment_of(settings, epoch)
            found = draw.lengths(index, chosen, "part 0 0").tolist()
            for row, clip, length in zip(chosen, clips_of(index, chosen), found, strict=True):
                segment = draw(clip, Random(f"part 0 0 {clip.key}"))
                assert length == (0 if segment is None else segment[1] - segment[0]), row
