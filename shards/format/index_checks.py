"""Check rows of an index: names, times, and that each member lies in a shard that the manifest names, in its bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
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
        index: columns of `INDEX_SCHEMA`, of all rows, without nulls. Only what they say is compared; key, split, shard,
            set and frames have to be among them, and both of each member's. Strings that repeat may be in dictionaries.
        manifest: of the same dataset.
    """
    yield from _shard_problems(index, manifest)
    yield from _named(index, _row_checks(index, manifest))
    yield from text_problems(index)


def text_problems(index: pa.Table) -> Iterator[str]:
    """The same of texts and words, of any rows; columns that the table does not have are not compared."""
    yield from _named(index, _text_checks(index))


def _named(index: pa.Table, checks: Iterator[tuple[str, Array]]) -> Iterator[str]:
    for what, good in checks:
        if not good.all():
            key, count = index["key"][int(np.flatnonzero(~good)[0])].as_py(), int((~good).sum())
            yield f"{key[:MAX_KEY_LENGTH]!r}: {what}" + (f" ({count} rows)" if count > 1 else "")


def _shard_problems(index: pa.Table, manifest: Manifest) -> Iterator[str]:
    """Rows of each shard against what the manifest says of it."""
    (splits, split_of), (shards, shard_of) = codes_of(index["split"]), codes_of(index["shard"])
    places, place_of, clips = np.unique(
        split_of.astype(np.int64) * len(shards) + shard_of, return_inverse=True, return_counts=True
    )
    # exact: a sum of 20 million clips of at most 2**31 frames has fewer than 53 bits where it is not refused below
    frames = np.bincount(place_of, index["frames"].to_numpy(), len(places)).astype(np.int64)
    found = {
        (splits[place // len(shards)], shards[place % len(shards)]): counted
        for place, *counted in zip(places.tolist(), clips.tolist(), frames.tolist(), strict=True)
    }
    listed = {
        (split, entry.name): [entry.clips, entry.frames]
        for split, entries in manifest.splits.items()
        for entry in entries
    }
    for split, shard in sorted(found.keys() - listed.keys()):
        yield f"has rows of {shard[:300]!r} in split {split[:300]!r}, which the manifest does not list"
    for place, expected in listed.items():
        if found.get(place, [0, 0]) != expected:
            clips_found, frames_found = found.get(place, [0, 0])
            said = f"the manifest says {expected[0]} of {expected[1]} frames"
            yield f"has {clips_found} clips of {frames_found} frames in {place[1]}, {said}"


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
    yield "the key does not begin with its set", _begins_with_set(keys, index["set"])
    yield "the key stands more than once", _first_of_each(keys)
    yield f"frames: 1 to {MAX_FRAMES:,} were expected", (frames > 0) & (frames <= MAX_FRAMES)
    members = of_values(index["roi_member"], lambda values: pc.is_in(values, _ROI_MEMBERS))
    yield f"roi_member: {' or '.join(ROI_MEMBERS)} was expected", members
    yield "speaker: " + _SHORT, of_values(index["speaker"], _is_short)
    yield from _place_checks(index, manifest, np.clip(frames, 1, MAX_FRAMES))


def _text_checks(index: pa.Table) -> Iterator[tuple[str, Array]]:
    if "source" in index.column_names:
        leaves = pc.match_substring_regex(index["source"], r"(?s)\A/|(?:\A|/)\.\.(?:/|\z)|\x00")
        long = pc.greater(pc.binary_length(index["source"]), 4 * MAX_PATH_LENGTH)
        yield "source: a path below the corpus's root was expected", ~_all(pc.or_(leaves, long))
    if "text" in index.column_names:
        yield "text: " + _SHORT, _all(_is_short(index["text"]))
    if "words" in index.column_names:
        yield "words: times in seconds, start before end, were expected", _words_in_order(index)


def _place_checks(index: pa.Table, manifest: Manifest, frames: Array) -> Iterator[tuple[str, Array]]:
    """Whether each member has a size that its frames allow, and lies in the bytes of its shard."""
    side = roi_side(manifest.features["crop"]["crop_radius"])
    bytes_of = {entry.name: entry.bytes for entries in manifest.splits.values() for entry in entries}
    shards, shard_of = codes_of(index["shard"])
    shard_bytes = np.array([bytes_of.get(name, 0) for name in shards], np.int64)[shard_of]
    lengths = np.flatnonzero(np.bincount(frames))
    of_row = np.zeros(lengths[-1] + 1 if len(lengths) else 1, np.int32)
    of_row[lengths] = np.arange(len(lengths))
    of_row = of_row[frames]
    allowed = [member_sizes(int(length), side) for length in lengths]
    video = of_values(index["roi_member"], lambda values: pc.equal(values, "roi.mkv"))
    for member in MEMBERS:
        if f"{member}_offset" not in index.column_names:
            continue
        offsets, sizes = (index[f"{member}_{what}"].to_numpy() for what in ("offset", "size"))
        least, most = (
            _either(
                video,
                *(
                    np.array([each[member_extension(member, kind)][bound] for each in allowed], np.int64)[of_row]
                    for kind in (("roi.mkv", "roi.npy") if member == "roi" else ("roi.npy",))
                ),
            )
            for bound in (0, 1)
        )
        yield f"{member}_size: its frames do not take that many bytes", (least <= sizes) & (sizes <= most)
        inside = (offsets >= BLOCKSIZE) & (offsets <= shard_bytes - np.clip(sizes, 0, most))
        yield f"{member}_offset: the member does not lie in its shard", inside


def codes_of(column: pa.ChunkedArray) -> tuple[list[str], Array]:
    """The distinct strings of a column, plain or in dictionaries, and int32 (rows,) which of them each row has."""
    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column)
    encoded = column.unify_dictionaries().combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def of_values(column: pa.ChunkedArray, check: Callable[[pa.Array], pa.Array]) -> Array:
    """bool (rows,) of a column of few distinct strings: each is checked once."""
    values, code_of = codes_of(column)
    good: Array = np.asarray(check(pa.array(values, pa.string())), bool)[code_of]
    return good


_SHORT = f"at most {MAX_TRANSCRIPT_BYTES:,} bytes are allowed"


def _is_short(values: pa.Array) -> pa.Array:
    return pc.less_equal(pc.binary_length(values), MAX_TRANSCRIPT_BYTES)


def _either(condition: Array, first: Array, second: Array | None = None) -> Array:
    return first if second is None else np.where(condition, first, second)


_ROI_MEMBERS = pa.array(ROI_MEMBERS)
_FEW_SETS = 16
_HASHED_AT_ONCE = 4096
_SECRET = int.from_bytes(os.urandom(8), "little")
"""So that nobody can make strings whose hashes are equal."""


def _all(*conditions: Any) -> Array:
    """Whether all Arrow conditions of each row hold; none of what they compare is null."""
    good: Array = np.logical_and.reduce([np.asarray(condition) for condition in conditions])
    return good


def _begins_with_set(keys: pa.ChunkedArray, sets: pa.ChunkedArray) -> Array:
    values, set_of = codes_of(sets)
    if len(values) > _FEW_SETS:
        return _all(pc.equal(pc.list_element(pc.split_pattern(keys, "/", max_splits=1), 0), sets.cast(pa.string())))
    good = np.zeros(len(keys), bool)
    for code, name in enumerate(values):
        good |= (set_of == code) & np.asarray(pc.starts_with(keys, f"{name}/")) & ("/" not in name)
    return good


def _first_of_each(values: pa.ChunkedArray) -> Array:
    """Whether each value is the first of those that are equal to it."""
    hashes = np.sort(_hashes(values))  # a table of 5 million keys is half a gigabyte, and takes four times as long
    if (hashes[1:] != hashes[:-1]).all():
        return np.ones(len(values), bool)
    codes = codes_of(values)[1]
    good = np.zeros(len(codes), bool)
    good[np.unique(codes, return_index=True)[1]] = True
    return good


def _hashes(values: pa.ChunkedArray) -> Array:
    """uint64 (rows,) that are equal for equal strings, and for others nearly never: words of 64 bits times random
    numbers, and those of the length, added up."""
    found = np.empty(len(values), np.uint64)
    first = 0
    for chunk in (part for whole in values.chunks for part in _slices(whole)):
        offsets = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        data, lengths = np.frombuffer(chunk.buffers()[2] or b"", np.uint8), np.diff(offsets)
        for length in np.unique(lengths).tolist():
            rows = np.flatnonzero(lengths == length)
            padded = np.zeros((len(rows), -(-length // 8) * 8 + 8), np.uint8)
            padded[:, :length] = data[offsets[rows][:, None] + np.arange(length)]
            padded[:, -1] = 1  # so that no string is nothing
            weights = np.random.default_rng(length + _SECRET).integers(
                1 << 63, size=padded.shape[1] // 8, dtype=np.uint64
            )
            found[first + rows] = padded.view(np.uint64) @ (2 * weights + 1)
        first += len(chunk)
    return found


def _slices(chunk: pa.Array) -> Iterator[pa.Array]:
    return (chunk.slice(first, _HASHED_AT_ONCE) for first in range(0, len(chunk), _HASHED_AT_ONCE))


def _words_in_order(index: pa.Table) -> Array:
    words = index["words"].combine_chunks()
    start, end = (pc.struct_field(words.values, name).to_numpy(zero_copy_only=False) for name in ("start", "end"))
    with np.errstate(invalid="ignore"):
        wrong = ~((start >= 0) & (start <= end) & (end <= MAX_SECONDS))  # not a number is none of these
    before = np.concatenate([[0], np.cumsum(wrong)])
    edges = words.offsets.to_numpy()
    good: Array = before[edges[1:]] == before[edges[:-1]]
    return good
