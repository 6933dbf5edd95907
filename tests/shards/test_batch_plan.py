"""An epoch is a pure function of index, seed, epoch and settings; each clip is in it once, on any number of ranks."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain, pairwise
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.segment_sampling import draw_words, whole_clip
from shards.format.index import INDEX_SCHEMA
from shards.loading.batch_plan import BatchSettings, plan_epoch, plan_evaluation
from shards.loading.distribute import distribute_from, steps_in_epoch
from shards.loading.draws import Segment, whole
from shards.loading.index_view import IndexedClip
from shards.loading.planned_batches import MicroBatch, PlannedClip, rows_at
from tests.shards.plain_plan import plain_plan

SETTINGS = BatchSettings(max_padded_frames=600, window_shards=3)


def make_index(clips: int = 400, per_shard: int = 25, val: int = 30) -> pa.Table:
    """Clips of 20 to 150 frames, every second one with a word each fifth of a second."""
    random = Random(1)
    rows: list[dict[str, Any]] = []
    for number in range(clips + val):
        corpus_set, split = ("pretrain" if number % 2 else "main"), ("train" if number < clips else "val")
        frames = random.randint(20, 150)
        words = [{"word": f"w{at}", "start": at / 5, "end": (at + 1) / 5} for at in range(frames // 5)]
        rows.append(
            {name: 1 for name in INDEX_SCHEMA.names if name.endswith(("offset", "size"))}
            | {
                "key": f"{corpus_set}/a/{number:05d}",
                "split": split,
                "set": corpus_set,
                "shard": f"{split}-{number // per_shard:06d}.tar",
                "frames": frames,
                "speaker": "a",
                "source": "a.mp4",
                "text": "" if number % 10 == 0 else f"text of {number}",
                "words": words if corpus_set == "pretrain" else [],
                "roi_member": "roi.npy",
            }
        )
    random.shuffle(rows)
    return pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)


INDEX = make_index()


def draw(clip: IndexedClip, random: Random) -> Segment:
    return draw_words(clip.words, clip.frames, random) if clip.words else whole_clip(clip.text, clip.frames)


def clips(planned: Sequence[MicroBatch]) -> list[PlannedClip]:
    return list(chain.from_iterable(micro_batch.clips for micro_batch in planned))


def test_plan_of_an_epoch_is_the_same_again_and_differs_for_other_epochs_and_seeds() -> None:
    first = plan_epoch(INDEX, ["train"], 0, 0, draw, SETTINGS)
    assert plan_epoch(INDEX, ["train"], 0, 0, draw, SETTINGS) == first
    chunked = pa.concat_tables([INDEX.slice(0, 100), INDEX.slice(100)])
    assert plan_epoch(chunked, ["train"], 0, 0, draw, SETTINGS) == first, "however the table is laid out in memory"
    for seed, epoch in [(0, 1), (1, 0)]:
        other = plan_epoch(INDEX, ["train"], seed, epoch, draw, SETTINGS)
        together = {frozenset(clip.row for clip in micro_batch.clips) for micro_batch in first}
        again = {frozenset(clip.row for clip in micro_batch.clips) for micro_batch in other}
        assert len(together & again) < len(first) / 10, "other clips come together"
        assert len(set(clips(first)) & set(clips(other))) < 0.65 * len(clips(first)), "other words are drawn"


def test_plan_is_the_same_in_another_process() -> None:
    program = (
        "import hashlib; from tests.shards.test_batch_plan import INDEX, SETTINGS, draw, plan_epoch;"
        "planned = plan_epoch(INDEX, ['train'], 3, 4, draw, SETTINGS);"
        "print(hashlib.sha256(repr(list(planned)).encode()).hexdigest())"
    )
    here = plan_epoch(INDEX, ["train"], 3, 4, draw, SETTINGS)
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == hashlib.sha256(repr(list(here)).encode()).hexdigest()


def test_plan_needs_no_torch() -> None:
    program = "import sys, shards, shards.loading.batch_plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_plan_has_every_clip_of_the_splits_once() -> None:
    splits = INDEX["split"].to_pylist()
    for chosen in (["train"], ["val"], ["train", "val"]):
        rows = sorted(clip.row for clip in clips(plan_epoch(INDEX, chosen, 0, 0, draw, SETTINGS)))
        assert rows == [row for row, split in enumerate(splits) if split in chosen]


def test_segment_depends_on_seed_epoch_and_key_alone() -> None:
    def parts(index: pa.Table, settings: BatchSettings) -> dict[str, PlannedClip]:
        keys = index["key"].to_pylist()
        planned = plan_epoch(index, ["train"], 5, 6, draw, settings)
        return {keys[clip.row]: clip._replace(row=0) for clip in clips(planned)}

    all_of_them = parts(INDEX, SETTINGS)
    some = parts(
        INDEX.filter(pa.array([row % 3 == 0 for row in range(len(INDEX))])), BatchSettings(max_padded_frames=900)
    )
    assert len(some) > 100
    assert some.items() <= all_of_them.items()


def test_plan_has_the_segments_that_are_drawn() -> None:
    frames, texts = INDEX["frames"].to_pylist(), INDEX["text"].to_pylist()
    keys, words = INDEX["key"].to_pylist(), INDEX["words"].to_pylist()
    for clip in clips(plan_epoch(INDEX, ["train"], 0, 0, draw, SETTINGS)):
        if words[clip.row]:
            timed = [tuple(word.values()) for word in words[clip.row]]
            part = draw_words(timed, frames[clip.row], Random(f"part 0 0 {keys[clip.row]}"))
            assert (clip.start, clip.stop, clip.text) == (part.start_frame, part.stop_frame, part.text)
            assert clip.whole == (clip.stop - clip.start == frames[clip.row])
        else:
            assert clip == PlannedClip(clip.row, 0, frames[clip.row], texts[clip.row] or None, True)


@given(
    max_padded_frames=st.integers(150, 2000),
    window_shards=st.integers(1, 20),
    max_clips=st.none() | st.integers(1, 10),
    round_frames=st.integers(1, 50),
)
def test_micro_batches_stay_within_their_bounds(
    max_padded_frames: int, window_shards: int, max_clips: int | None, round_frames: int
) -> None:
    settings = BatchSettings(max_padded_frames, window_shards, max_clips, round_frames)
    planned = plan_epoch(INDEX, ["train"], 0, 0, lambda clip, random: (0, min(clip.frames, 100), None), settings)
    assert [micro_batch.number for micro_batch in planned] == list(range(len(planned)))
    for micro_batch in planned:
        lengths = [clip.stop - clip.start for clip in micro_batch.clips]
        assert micro_batch.frames % round_frames == 0
        assert 0 <= micro_batch.frames - max(lengths) < round_frames
        assert len(lengths) * micro_batch.frames <= max_padded_frames
        assert 1 <= len(lengths) <= (max_clips or len(lengths))


def test_padding_is_little_and_lengths_are_not_sorted_in_time() -> None:
    planned = plan_epoch(INDEX, ["train"], 0, 0, draw, SETTINGS)
    padded = sum(micro_batch.frames * len(micro_batch.clips) for micro_batch in planned)
    assert sum(clip.stop - clip.start for clip in clips(planned)) > 0.9 * padded
    longer = [a.frames < b.frames for a, b in pairwise(planned)]
    assert 0.3 < sum(longer) / len(longer) < 0.7


def test_clips_of_a_window_are_read_before_the_next_windows() -> None:
    shards = INDEX["shard"].to_pylist()
    planned = plan_epoch(INDEX, ["train"], 0, 0, draw, SETTINGS)
    seen: list[set[str]] = []
    for micro_batch in planned:
        touched = {shards[clip.row] for clip in micro_batch.clips}
        if seen and touched & seen[-1]:
            seen[-1] |= touched
        else:
            seen.append(touched)
    assert [len(window) for window in seen] == [3, 3, 3, 3, 3, 1]
    assert len(set.union(*seen)) == 16


def _with_speakers(count: int) -> pa.Table:
    place = INDEX.schema.get_field_index("speaker")
    names = [f"speaker{int(key[-5:]) % count}" for key in INDEX["key"].to_pylist()]
    return INDEX.set_column(place, "speaker", pa.array(names))


def test_reference_is_another_clip_of_the_speaker_that_is_read_at_about_the_same_time() -> None:
    index = _with_speakers(5)
    speakers, shards, frames = (index[name].to_pylist() for name in ("speaker", "shard", "frames"))
    planned = plan_epoch(index, ["train"], 0, 0, draw, SETTINGS, reference_frames=50)
    windows: list[set[str]] = []
    for clip in clips(planned):
        voice = clip.reference
        assert voice is not None  # the last window has 25 clips
        assert voice.row != clip.row
        assert speakers[voice.row] == speakers[clip.row]
        assert voice.stop - voice.start == 50
        assert 0 <= voice.start < voice.stop <= 4 * frames[voice.row]
        windows.append({shards[clip.row], shards[voice.row]})
    together: dict[str, set[str]] = {}
    for pair in windows:
        for shard in pair:
            together.setdefault(shard, set()).update(pair)
    assert max(map(len, together.values())) <= SETTINGS.window_shards
    bare = plan_epoch(index, ["train"], 0, 0, draw, SETTINGS)
    assert [clip._replace(reference=None) for clip in clips(planned)] == clips(bare), "nothing else is changed"


def test_references_change_from_epoch_to_epoch_and_are_the_same_again() -> None:
    index = _with_speakers(20)
    voices = [
        {clip.row: clip.reference for clip in clips(plan_epoch(index, ["train"], 0, epoch, draw, SETTINGS, 50))}
        for epoch in (0, 0, 1)
    ]
    assert voices[0] == voices[1]
    assert sum(voices[0][row] == voices[2][row] for row in voices[0]) < 20


def test_reference_is_none_for_a_speakers_only_clip_and_all_of_a_short_clip() -> None:
    alone = _with_speakers(1_000_000)
    assert {clip.reference for clip in clips(plan_epoch(alone, ["train"], 0, 0, draw, SETTINGS, 50))} == {None}
    frames = INDEX["frames"].to_pylist()
    for clip in clips(plan_epoch(INDEX, ["train"], 0, 0, draw, SETTINGS, 500)):
        assert clip.reference is not None
        assert clip.reference.stop - clip.reference.start == min(500, 4 * frames[clip.reference.row])


def test_clips_of_the_same_length_come_with_others_in_every_epoch() -> None:
    """With one window and parts of one length, only the order of the clips decides who comes together."""

    def together(epoch: int) -> set[frozenset[int]]:
        settings = BatchSettings(max_padded_frames=100, window_shards=1000)
        planned = plan_epoch(INDEX, ["train"], 0, epoch, lambda clip, random: (0, 20, None), settings)
        return {frozenset(clip.row for clip in micro_batch.clips) for micro_batch in planned}

    assert len(together(0)) == 80
    assert len(together(0) & together(1)) < 3


def test_plan_is_small_to_send() -> None:
    """A PlannedClip is a few numbers: sending one to a worker costs nothing beside reading its pictures."""
    planned = plan_epoch(INDEX, ["train"], 0, 0, draw, SETTINGS)
    assert len(pickle.dumps(list(planned))) < 120 * len(clips(planned))


def test_clip_longer_than_a_micro_batch_is_refused_unless_it_is_cut() -> None:
    only = INDEX.filter(pc.equal(INDEX["split"], "train")).slice(7, 1)
    frames, key = only["frames"][0].as_py(), only["key"][0].as_py()
    settings = BatchSettings(max_padded_frames=frames - 1)
    with pytest.raises(ValueError, match=f"{key}: {frames} frames do not fit .* max_padded_frames"):
        plan_epoch(only, ["train"], 0, 0, settings=settings)
    plan_epoch(only, ["train"], 0, 0, settings=BatchSettings(max_padded_frames=frames))
    plan_epoch(INDEX, ["train"], 0, 0, lambda clip, random: (0, 20, None), settings)


def test_clip_too_long_for_a_micro_batch_may_have_one_of_its_own() -> None:
    longest = max(INDEX["frames"].to_pylist())
    settings = BatchSettings(max_padded_frames=longest - 1, long_alone=True)
    planned = plan_evaluation(INDEX, ["train"], settings=settings)
    for micro_batch in planned:
        assert len(micro_batch.clips) == 1 or micro_batch.frames * len(micro_batch.clips) < longest
    assert sum(len(micro_batch.clips) for micro_batch in planned) == INDEX["split"].to_pylist().count("train")


@pytest.mark.parametrize("span", [(-1, 5), (5, 5), (0, 1000)])
def test_segment_outside_of_its_clip_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"(main|pretrain)/a/\d+: frames {span[0]} to {span[1]} were drawn"):
        plan_epoch(INDEX, ["train"], 0, 0, lambda clip, random: (*span, None))


def test_clip_without_a_segment_is_skipped_and_the_others_are_as_before() -> None:
    def shorter(clip: IndexedClip, random: Random) -> Segment | None:
        return draw(clip, random) if clip.frames < 60 else None

    frames = INDEX["frames"].to_pylist()
    everything = clips(plan_epoch(INDEX, ["train"], 0, 0, draw, SETTINGS))
    planned = plan_epoch(INDEX, ["train"], 0, 0, shorter, SETTINGS)
    assert sorted(clips(planned)) == sorted(clip for clip in everything if frames[clip.row] < 60)
    assert len(clips(planned)) < len(everything) / 2
    assert all(micro_batch.clips for micro_batch in planned)
    assert [micro_batch.number for micro_batch in planned] == list(range(len(planned)))
    scored = clips(plan_evaluation(INDEX, ["val"], shorter, SETTINGS))
    assert sorted(clip.row for clip in scored) == [
        row for row in range(len(frames)) if INDEX["split"][row].as_py() == "val" and frames[row] < 60
    ]


def test_plan_is_empty_where_no_segment_is_drawn() -> None:
    assert plan_epoch(INDEX, ["train"], 0, 0, lambda clip, random: None, SETTINGS) == []
    assert plan_evaluation(INDEX, ["val"], lambda clip, random: None, SETTINGS) == []


def test_split_without_clips_is_refused_with_those_that_have_some() -> None:
    told = r"'nosuch'.*train \(400 clips\), val \(30 clips\)"
    with pytest.raises(ValueError, match=told):
        plan_epoch(INDEX, ["train", "nosuch"], 0, 0)
    with pytest.raises(ValueError, match=told):
        plan_evaluation(INDEX, ["nosuch"])
    with pytest.raises(ValueError, match=r"'train'.*none at all"):
        plan_epoch(INDEX.slice(0, 0), ["train"], 0, 0)


@pytest.mark.parametrize("setting", ["max_padded_frames", "window_shards", "max_clips", "round_frames"])
def test_batch_settings_that_make_no_sense_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        BatchSettings(**{setting: 0})  # type: ignore[arg-type]


def test_evaluation_plan_has_every_clip_whole_and_in_the_same_order() -> None:
    planned = plan_evaluation(INDEX, ["train", "val"], settings=SETTINGS)
    assert planned == plan_evaluation(INDEX, ["train", "val"], settings=SETTINGS)
    assert sorted(clip.row for clip in clips(planned)) == list(range(len(INDEX)))
    assert all(clip.whole for clip in clips(planned))
    padded = sum(micro_batch.frames * len(micro_batch.clips) for micro_batch in planned)
    assert sum(clip.stop for clip in clips(planned)) > 0.85 * padded


def test_evaluation_plan_of_some_clips_is_always_of_the_same_ones() -> None:
    def chosen(index: pa.Table, count: int) -> set[str]:
        keys = index["key"].to_pylist()
        return {keys[clip.row] for clip in clips(plan_evaluation(index, ["train"], settings=SETTINGS, clips=count))}

    reordered = INDEX.take(pa.array(range(len(INDEX))[::-1]))
    assert len(chosen(INDEX, 40)) == 40
    assert chosen(INDEX, 40) == chosen(reordered, 40)
    assert chosen(INDEX, 10) < chosen(INDEX, 40), "fewer are some of more"
    assert len(chosen(INDEX, 1000)) == 400


PLANNED = plan_epoch(INDEX, ["train"], 0, 0, draw, SETTINGS)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
def test_ranks_together_read_every_global_batch_whatever_their_number(world: int) -> None:
    per_step = 12
    steps = steps_in_epoch(len(PLANNED), per_step)
    assert len(PLANNED) % per_step, "the last one is not full"
    for step in range(steps):
        shares = [distribute_from(PLANNED, per_step, step, rank, world)[: per_step // world] for rank in range(world)]
        assert {len(share) for share in shares} == {per_step // world}
        found = [slot for turn in zip(*shares, strict=True) for slot in turn]
        expected = PLANNED[step * per_step : (step + 1) * per_step]
        assert found == [*expected, *[None] * (per_step - len(expected))]


def test_resumed_run_with_other_ranks_reads_what_is_left() -> None:
    for stopped in (0, 1, 3, steps_in_epoch(len(PLANNED), 4)):
        before = [slot for rank in range(2) for slot in distribute_from(PLANNED, 4, 0, rank, 2)[: 2 * stopped]]
        after = distribute_from(PLANNED, 4, stopped, 0, 1)
        seen = [slot.number for slot in [*before, *after] if slot is not None]
        assert sorted(seen) == list(range(len(PLANNED)))


def test_distribute_from_a_step_gives_the_tail_of_the_epoch() -> None:
    straight = distribute_from(PLANNED, 4, 0, 1, 2)
    for step in range(steps_in_epoch(len(PLANNED), 4) + 1):
        assert distribute_from(PLANNED, 4, step, 1, 2) == straight[2 * step :]


def test_distribute_leaves_slots_empty_where_ranks_outnumber_micro_batches() -> None:
    shares = [distribute_from(PLANNED[:2], 4, 0, rank, 4) for rank in range(4)]
    assert shares == [[PLANNED[0]], [PLANNED[1]], [None], [None]]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (([], 2, 0, 0, 1), "plan is empty"),
        ((PLANNED, 3, 0, 0, 2), "3 micro-batches a step .* 2 ranks"),
        ((PLANNED, 0, 0, 0, 1), "0 micro-batches"),
        ((PLANNED, 2, 0, 2, 2), "rank 2 of 2"),
        ((PLANNED, 2, -1, 0, 1), "step -1"),
        ((PLANNED, 2, 10_000, 0, 1), "step 10000"),
    ],
)
def test_distribute_refuses_what_has_no_step_or_rank(arguments: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        distribute_from(*arguments)


@pytest.mark.parametrize("settings", [SETTINGS, BatchSettings(2400, 5, 7, 8), BatchSettings(200, 100)])
@pytest.mark.parametrize("reference_frames", [0, 50])
def test_plan_is_the_one_that_is_written_plainly(settings: BatchSettings, reference_frames: int) -> None:
    index = _with_speakers(7)
    for splits in (["train"], ["val", "train"]):
        for one in (draw, whole, lambda clip, random: draw(clip, random) if clip.frames % 3 else None):
            expected = plain_plan(index, splits, 3, 2, one, settings, reference_frames)
            planned = plan_epoch(index, splits, 3, 2, one, settings, reference_frames)
            assert list(planned) == expected
            assert planned.clips == sum(len(micro_batch.clips) for micro_batch in expected)


def test_plan_that_travels_is_the_same_there() -> None:
    for one in (draw, whole):
        planned = plan_epoch(INDEX, ["train"], 0, 0, one, SETTINGS)[3:40:2]
        assert list(pickle.loads(pickle.dumps(planned))) == list(planned)
        assert [rows_at(planned, place) for place in range(len(planned))] == [
            [clip.row for clip in micro_batch.clips] for micro_batch in planned
        ]
