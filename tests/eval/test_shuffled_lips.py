"""Shuffled lips are another clip's, of the same speaker and of about the same length where there is one."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch

from eval.systems import fit_lips, partners_of, with_partners
from shards import INDEX_SCHEMA
from shards.loading.index_view import ClipIndex
from shards.loading.planned_batches import MicroBatch, PlannedClip


def index_of(clips: list[tuple[str, int]]) -> ClipIndex:
    others = {field.name: pa.scalar(0).cast(field.type).as_py() for field in INDEX_SCHEMA if field.name != "words"}
    rows = [
        others | {"key": f"main/{speaker}/{number}", "speaker": speaker, "frames": frames, "words": []}
        for number, (speaker, frames) in enumerate(clips)
    ]
    return ClipIndex.of(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA))


def test_partners_are_of_the_same_speaker_and_of_about_the_same_length() -> None:
    clips = [("a", 50), ("b", 90), ("a", 200), ("b", 91), ("a", 52), ("b", 30), ("a", 199), ("b", 33), ("b", 32)]
    partner = partners_of(index_of(clips), range(9))
    assert sorted(partner) == sorted(partner.values()) == list(range(9)), "each clip's lips are used once"
    for row, other in partner.items():
        assert row != other
        assert clips[row][0] == clips[other][0]
        assert abs(clips[row][1] - clips[other][1]) <= 3 or clips[row][0] == "b"


def test_partners_of_clips_that_are_alone_with_their_speaker_are_each_other() -> None:
    clips = [("a", 50), ("a", 60), ("x", 100), ("y", 20), ("z", 98), ("u", 22)]
    assert partners_of(index_of(clips), range(6)) == {0: 1, 1: 0, 2: 4, 4: 2, 3: 5, 5: 3}
    assert partners_of(index_of([*clips[:2], ("x", 58)]), range(3)) == {0: 1, 1: 0, 2: 1}
    with pytest.raises(ValueError, match="shuffled_lips"):
        partners_of(index_of(clips[:1]), [0])


def test_partners_are_cut_where_the_clip_itself_ends() -> None:
    index = index_of([("a", 50), ("a", 60)])
    micro_batch = MicroBatch(3, 55, (PlannedClip(0, 0, 50, "one", True), PlannedClip(1, 0, 55, "two", False)))
    expected = (PlannedClip(1, 0, 50, None, False), PlannedClip(0, 0, 50, None, False))
    assert with_partners(index, micro_batch, {0: 1, 1: 0}) == MicroBatch(3, 55, expected)


def test_lips_of_a_shorter_clip_hold_their_last_frame_and_end_with_the_clip() -> None:
    other = torch.randint(1, 256, (3, 12, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    theirs, lengths = torch.tensor([5, 12, 8]), torch.tensor([9, 12, 8])
    lips = fit_lips(other, theirs, lengths)
    assert lips.dtype == torch.uint8
    assert lips.shape == other.shape
    for number, (length, their) in enumerate(zip(lengths.tolist(), theirs.tolist(), strict=True)):
        assert torch.equal(lips[number, :their], other[number, :their])
        assert (lips[number, their:length] == other[number, their - 1]).all()
        assert not lips[number, length:].any()
