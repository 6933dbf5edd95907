"""Check rows of an index: names, times, and that each member lies in a shard that the manifest names, in its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from tarfile import BLOCKSIZE
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runtime.limits import MAX_FRAMES, MAX_KEY_LENGTH, MAX_PATH_LENGTH, MAX_SECONDS, MAX_TRANSCRIPT_BYTES
from shards.format.manifest import Manifest
from shards.format.member_names import MEMBERS, ROI_MEMBERS, member_extension
from shards.format.member_sizes import member_sizes
from shards.format.sample import roi_side
from shards.format.schema import KEY_PATTERN

Array = np.ndarray[Any, Any]


def index_problems(index: pa.Table, manifest: Manifest) -> Iterator[str]:
    """What in an index cannot be, a line for each kind, which names the first clip; nothing where all is well.

    Args:
        index: of `INDEX_SCHEMA`, without nulls.
        manifest: of the same dataset.
    """
    yield from _shard_problems(index, manifest)
    for what, good in _row_checks(index, manifest):
        if not good.all():
            row = index.slice(int(np.flatnonzero(~good)[0]), 1)
            key, count = row["key"][0].as_py(), int((~good).sum())
            yield f"{key[:MAX_KEY_LENGTH]!r}: {what}" + (f" ({count} rows)" if count > 1 else "")


def _shard_problems(index: pa.Table, manifest: Manifest) -> Iterator[str]:
    """Rows of each shard against what the manifest says of it."""
    rows = index.group_by(["split", "shard"]).aggregate([("key", "count"), ("frames", "sum")]).to_pylist()
    found = {(row["split"], row["shard"]): (row["key_count"], row["frames_sum"]) for row in rows}
    listed = {
        (split, entry.name): (entry.clips, entry.frames)
        for split, entries in manifest.splits.items()
        for entry in entries
    }
    for split, shard in sorted(found.keys() - listed.keys()):
        yield f"has rows of {shard[:300]!r} in split {split[:300]!r}, which the manifest does not list"
    for place, expected in listed.items():
        if found.get(place, (0, 0)) != expected:
            clips, frames = found.get(place, (0, 0))
            said = f"the manifest says {expected[0]} of {expected[1]} frames"
            yield f"has {clips} clips of {frames} frames in {place[1]}, {said}"


def _row_checks(index: pa.Table, manifest: Manifest) -> Iterator[tuple[str, Array]]:
    """What was expected of each row, and whether it is so: bool (rows,)."""
    keys, frames = index["key"], index["frames"].to_numpy().astype(np.int64)
    yield (
        "no key: SET/NAME was expected, without dots, white space and controls",
        _all(
            pc.match_substring_regex(keys, rf"\A(?:{KEY_PATTERN})\z"),
            pc.less_equal(pc.utf8_length(keys), MAX_KEY_LENGTH),
        ),
    )
    first = pc.list_element(pc.split_pattern(keys, "/", max_splits=1), 0)
    yield "the key does not begin with its set", _all(pc.equal(first, index["set"]))
    yield "the key stands more than once", _first_of_each(keys)
    yield f"frames: 1 to {MAX_FRAMES:,} were expected", (frames > 0) & (frames <= MAX_FRAMES)
    yield f"roi_member: {' or '.join(ROI_MEMBERS)} was expected", _all(pc.is_in(index["roi_member"], _ROI_MEMBERS))
    leaves = pc.match_substring_regex(index["source"], r"(?s)\A/|(?:\A|/)\.\.(?:/|\z)|\x00")
    long = pc.greater(pc.binary_length(index["source"]), 4 * MAX_PATH_LENGTH)
    yield "source: a path below the corpus's root was expected", ~_all(pc.or_(leaves, long))
    for name in ("speaker", "text"):
        good = _all(pc.less_equal(pc.binary_length(index[name]), MAX_TRANSCRIPT_BYTES))
        yield f"{name}: at most {MAX_TRANSCRIPT_BYTES:,} bytes are allowed", good
    yield "words: times in seconds, start before end, were expected", _words_in_order(index)
    yield from _place_checks(index, manifest, np.clip(frames, 1, MAX_FRAMES))


def _place_checks(index: pa.Table, manifest: Manifest, frames: Array) -> Iterator[tuple[str, Array]]:
    """Whether each member has a size that its frames allow, and lies in the bytes of its shard."""
    side = roi_side(manifest.features["crop"]["crop_radius"])
    bytes_of = {entry.name: entry.bytes for entries in manifest.splits.values() for entry in entries}
    shard = pc.dictionary_encode(index["shard"].combine_chunks())
    known = np.array([bytes_of.get(name, 0) for name in shard.dictionary.to_pylist()], np.int64)
    shard_bytes = known[shard.indices.to_numpy()]
    lengths, of_row = np.unique(frames, return_inverse=True)
    allowed = [member_sizes(int(length), side) for length in lengths]
    video = _all(pc.equal(index["roi_member"], "roi.mkv"))
    for member in MEMBERS:
        offsets, sizes = (index[f"{member}_{what}"].to_numpy() for what in ("offset", "size"))
        least, most = (
            np.where(
                video,
                np.array([each[member_extension(member, "roi.mkv")][bound] for each in allowed], np.int64)[of_row],
                np.array([each[member_extension(member, "roi.npy")][bound] for each in allowed], np.int64)[of_row],
            )
            for bound in (0, 1)
        )
        yield f"{member}_size: its frames do not take that many bytes", (least <= sizes) & (sizes <= most)
        inside = (offsets >= BLOCKSIZE) & (offsets <= shard_bytes - np.clip(sizes, 0, most))
        yield f"{member}_offset: the member does not lie in its shard", inside


_ROI_MEMBERS = pa.array(ROI_MEMBERS)


def _all(*conditions: Any) -> Array:
    """Whether all Arrow conditions of each row hold; none of what they compare is null."""
    good: Array = np.logical_and.reduce([np.asarray(condition) for condition in conditions])
    return good


def _first_of_each(values: pa.ChunkedArray) -> Array:
    """Whether each value is the first of those that are equal to it."""
    codes = pc.dictionary_encode(values.combine_chunks()).indices.to_numpy()
    good = np.zeros(len(codes), bool)
    good[np.unique(codes, return_index=True)[1]] = True
    return good


def _words_in_order(index: pa.Table) -> Array:
    words = index["words"].combine_chunks()
    start, end = (pc.struct_field(words.values, name).to_numpy(zero_copy_only=False) for name in ("start", "end"))
    with np.errstate(invalid="ignore"):
        wrong = ~((start >= 0) & (start <= end) & (end <= MAX_SECONDS))  # not a number is none of these
    before = np.concatenate([[0], np.cumsum(wrong)])
    edges = words.offsets.to_numpy()
    good: Array = before[edges[1:]] == before[edges[:-1]]
    return good
