"""A clip is scored with another clip's voice: never its own, always the same speaker's, the same one every time."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pyarrow as pa

from shards.format.index import INDEX_SCHEMA
from shards.loading.reference_clips import reference_rows


def index_of(*clips: tuple[str, str, str]) -> pa.Table:
    """Of clips as (key, speaker, split)."""
    given = [dict(zip(("key", "speaker", "split"), clip, strict=True)) for clip in clips]
    others = {field.name: pa.scalar(0).cast(field.type).as_py() for field in INDEX_SCHEMA if field.name != "words"}
    return pa.Table.from_pylist([others | {"words": []} | clip for clip in given], schema=INDEX_SCHEMA)


def many() -> pa.Table:
    """Three speakers of twenty clips, in two splits."""
    return index_of(
        *(
            (f"main/{speaker}/{number:02}", speaker, "val" if number % 4 else "test")
            for number in range(20)
            for speaker in "abc"
        )
    )


INDEX = many()
ROWS = range(len(INDEX))


def named(index: pa.Table, rows: list[int], others: list[int | None]) -> dict[str, str | None]:
    keys = index["key"].to_pylist()
    return {keys[row]: None if other is None else keys[other] for row, other in zip(rows, others, strict=True)}


def test_reference_is_another_clip_of_the_speaker_never_the_clip_itself() -> None:
    rows = INDEX.to_pylist()
    for row, other in zip(ROWS, reference_rows(INDEX, ROWS), strict=True):
        assert other is not None
        assert other != row
        assert rows[other]["speaker"] == rows[row]["speaker"]
        assert rows[other]["split"] == rows[row]["split"]


def test_references_are_many_clips_not_one() -> None:
    drawn = Counter(reference_rows(INDEX, ROWS))
    assert len(drawn) > len(INDEX) / 3
    assert max(drawn.values()) < len(INDEX) / 6


def test_reference_is_the_same_whoever_else_asks_and_however_the_index_is_ordered() -> None:
    first = named(INDEX, list(ROWS), reference_rows(INDEX, ROWS))
    assert named(INDEX, list(ROWS), reference_rows(INDEX, ROWS)) == first
    some = [50, 7, 31]
    assert named(INDEX, some, reference_rows(INDEX, some)).items() <= first.items()
    turned = INDEX.take(pa.array(list(reversed(ROWS))))
    assert named(turned, list(ROWS), reference_rows(turned, ROWS)) == first


def test_references_are_the_same_in_another_process() -> None:
    """Python's own hashes of strings differ from process to process."""
    program = (
        "from tests.shards.test_reference_clips import INDEX, ROWS, reference_rows; print(reference_rows(INDEX, ROWS))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(reference_rows(INDEX, ROWS))


def test_speaker_of_one_clip_in_the_split_has_no_reference() -> None:
    index = index_of(
        ("main/a/0", "a", "val"), ("main/a/1", "a", "train"), ("main/b/0", "b", "val"), ("main/b/1", "b", "val")
    )
    assert reference_rows(index, [0, 2]) == [None, 3]
    assert reference_rows(index, []) == []
