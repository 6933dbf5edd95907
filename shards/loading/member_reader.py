"""Read a clip's members (roi, mel, wav) at their byte offsets, straight into the arrays of a batch.

By hand: one read of known bytes into their place is twice as fast as `np.load` and padding.

An index row says where in which shard a member lies, how large it is and how many frames it has. So the length of a
`.npy` or wav header is known before it is read, and one `preadv` fills header and pictures; the header is then looked
at and has to say what the row says. Nothing is unpickled and nothing is allocated that the index did not announce.

What the checks catch: a shard that is missing, cut short or shifted, a member of other frames, size, type or rate, a
video that does not decode, a mel that is not finite. A changed picture or sample is noticed by `pipeline verify`, which
compares checksums, and by the cache of remote shards.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, N_MELS, SAMPLE_RATE, SAMPLES_PER_FRAME
from shards.format.errors import DatasetError, StorageError
from shards.format.index import member_extension
from shards.format.npy import npy_header
from shards.format.roi import decode_roi
from shards.format.wav import wav_header

Array = np.ndarray[Any, Any]
_MEMBERS = ("roi", "mel", "wav")
_LONGEST_HEADER = 1 << 16
_MOST_OPEN = 32  # shards
_ATTEMPTS = 3
PAUSE_SECONDS = 2.0
"""Before a read that failed is tried again; twice as long before the third attempt."""


@dataclass(frozen=True)
class MemberOffsets:
    """The columns of an index that reading needs, small enough to travel to every worker process.

    Attributes:
        keys, speakers: Arrow strings, a row a clip.
        shards: names of the shards.
        shard: of each row, which of `shards`.
        frames: of each row.
        video: whether its lip region is a video (`roi.mkv`).
        offsets, sizes: member (roi, mel, wav) -> bytes, of each row.
        side: R, of the stored lip regions, pixels.
    """

    keys: pa.StringArray
    speakers: pa.StringArray
    shards: list[str]
    shard: Array
    frames: Array
    video: Array
    offsets: dict[str, Array]
    sizes: dict[str, Array]
    side: int

    @classmethod
    def of(cls, index: pa.Table, side: int) -> MemberOffsets:
        """Where an index says they are.

        Raises:
            DatasetError: a row says what cannot be; it is named.
        """
        index = index.combine_chunks()
        shard = pc.dictionary_encode(index["shard"].combine_chunks())
        offsets = {member: index[f"{member}_offset"].to_numpy() for member in _MEMBERS}
        sizes = {member: index[f"{member}_size"].to_numpy() for member in _MEMBERS}
        frames = index["frames"].to_numpy()
        possible = frames > 0
        for member in _MEMBERS:
            possible &= (offsets[member] >= 0) & (sizes[member] > 0)
        if not possible.all():
            row = index.slice(int(np.flatnonzero(~possible)[0]), 1).to_pylist()[0]
            raise DatasetError(f"{row['key']}: the index names {row['frames']} frames, or a member of no bytes: {row}")
        return cls(
            keys=index["key"].combine_chunks(),
            speakers=index["speaker"].combine_chunks(),
            shards=shard.dictionary.to_pylist(),
            shard=shard.indices.to_numpy(),
            frames=frames,
            video=pc.equal(index["roi_member"], "roi.mkv").to_numpy(),
            offsets=offsets,
            sizes=sizes,
            side=side,
        )


class MemberReader:
    """Reads members of clips, keeping the shards that were used last open. One process's own: open it after a fork.

    Args:
        members: where they lie.
        open_shard: gives a descriptor of a shard by its name (`open_local`, `ShardCache.open`).
        where: what errors call a shard.
    """

    def __init__(self, members: MemberOffsets, open_shard: Callable[[str], int], where: Callable[[str], str]) -> None:
        self.members = members
        self._open_shard, self._where = open_shard, where
        self._open: OrderedDict[str, int] = OrderedDict()
        self._scratch = np.empty(0, np.uint8)

    def roi(self, row: int, start: int, out: Array) -> None:
        """Frames [start, start + len(out)) of a lip region into `out`, uint8 (t, R, R), C order.

        Raises:
            DatasetError: naming shard and key, when the bytes are not what the index says.
            StorageError: they could not be read, and may be fine.
        """
        frames, side = int(self.members.frames[row]), self.members.side
        size, name = int(self.members.sizes["roi"][row]), self._name(row, "roi")
        if self.members.video[row]:
            content = self._scratch_of(size)
            self._read(row, "roi", [content], 0)
            try:
                out[...] = decode_roi(content.tobytes(), "roi.mkv", frames, side, name)[start : start + len(out)]
            except DatasetError as error:
                raise DatasetError(f"{self._shard(row)}: {error}") from error
            return
        header = self._header(row, "roi", frames * side * side)
        if start == 0:
            self._read(row, "roi", [header, out], 0)
        else:
            self._read(row, "roi", [header], 0)
            self._read(row, "roi", [out], len(header) + start * side * side)
        self._check_npy(header, name, row, ((frames, side, side), "|u1"))

    def mel(self, row: int, out: Array) -> None:
        """The stored mel of a whole clip into `out`, float32 (80, 4T) of any strides. Raises as `roi`."""
        frames, name = int(self.members.frames[row]), self._name(row, "mel")
        shape = (N_MELS, MEL_FRAMES_PER_VIDEO_FRAME * frames)
        payload = 4 * shape[0] * shape[1]
        header, content = self._header(row, "mel", payload), self._scratch_of(payload)
        self._read(row, "mel", [header, content], 0)
        self._check_npy(header, name, row, (shape, "<f4"))
        mel = content.view("<f4").reshape(shape)
        if not np.isfinite(mel).all():
            raise DatasetError(f"{self._shard(row)}: {name}: holds values that are not finite")
        out[...] = mel

    def wav(self, row: int, start: int, out: Array) -> None:
        """Samples from frame `start` on into `out`, float32 (640 t,) in [-1, 1). Raises as `roi`."""
        frames, name = int(self.members.frames[row]), self._name(row, "wav")
        samples = SAMPLES_PER_FRAME * frames
        header, content = self._header(row, "wav", 2 * samples), self._scratch_of(2 * len(out))
        self._read(row, "wav", [header], 0)
        self._read(row, "wav", [content], len(header) + 2 * SAMPLES_PER_FRAME * start)
        expected = f"16 kHz mono PCM16 of {samples} samples"
        found = wav_header(header.tobytes())
        if found != (1, 2, SAMPLE_RATE, samples):
            raise DatasetError(f"{self._shard(row)}: {name}: expected {expected}, found {found or 'no wav header'}")
        np.multiply(content.view("<i2"), np.float32(1 / 32768), out=out)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _descriptor(self, shard: str) -> int:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        while len(self._open) >= _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[shard] = self._open_shard(shard)
        return self._open[shard]

    def _forget(self, shard: str) -> None:
        descriptor = self._open.pop(shard, None)
        if descriptor is not None:
            os.close(descriptor)

    def _shard(self, row: int) -> str:
        return self._where(self.members.shards[self.members.shard[row]])

    def _name(self, row: int, member: str) -> str:
        roi_member = "roi.mkv" if self.members.video[row] else "roi.npy"
        return f"{self.members.keys[row].as_py()}.{member_extension(member, roi_member)}"

    def _scratch_of(self, size: int) -> Array:
        if len(self._scratch) < size:
            self._scratch = np.empty(size, np.uint8)
        return self._scratch[:size]

    def _header(self, row: int, member: str, payload: int) -> Array:
        """Room for a member's header: what its size leaves beside its payload."""
        size = int(self.members.sizes[member][row])
        if not 0 < size - payload < _LONGEST_HEADER:
            raise DatasetError(
                f"{self._shard(row)}: {self._name(row, member)}: {size} bytes cannot be a header and the {payload} "
                f"that {self.members.frames[row]} frames take"
            )
        return np.empty(size - payload, np.uint8)

    def _read(self, row: int, member: str, into: Sequence[Array], begin: int) -> None:
        """Fill `into`, one after the other, with a member's bytes from `begin` on."""
        offset = int(self.members.offsets[member][row]) + begin
        expected = sum(array.nbytes for array in into)
        shard = self.members.shards[self.members.shard[row]]
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                count = _filled(self._descriptor(shard), into, offset)
                break
            except FileNotFoundError as error:
                raise DatasetError(f"{self._shard(row)}: the shard is missing ({self._name(row, member)})") from error
            except StorageError:  # of the cache, which has tried again
                raise
            except OSError as error:  # of a mounted disk, which may be back in a moment, with another handle
                if attempt == _ATTEMPTS:
                    what = f"reading failed: {error.strerror}"
                    raise StorageError(error.errno or 0, what, self._shard(row)) from error
                self._forget(shard)
                time.sleep(PAUSE_SECONDS * attempt)
        if count != expected:
            raise DatasetError(
                f"{self._shard(row)}: {self._name(row, member)}: {expected} bytes were expected from byte {offset} on, "
                f"the shard ends after {count} of them"
            )

    def _check_npy(self, header: Array, name: str, row: int, expected: tuple[tuple[int, ...], str]) -> None:
        found = npy_header(header.tobytes())
        if found != (expected[0], False, expected[1]):
            actual = f"{found[2]} {found[0]}{' in Fortran order' if found[1] else ''}" if found else "no .npy header"
            raise DatasetError(f"{self._shard(row)}: {name}: expected {expected[1]} {expected[0]}, found {actual}")


def open_local(path: str) -> int:
    """A descriptor of a local shard."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _filled(descriptor: int, into: Sequence[Array], offset: int) -> int:
    """Fill `into`, uint8, one after the other, from `offset` on; how many bytes there were."""
    expected = sum(array.nbytes for array in into)
    count = os.preadv(descriptor, [array.data for array in into], offset)
    if count in (0, expected):
        return count
    done = 0  # the end of the file, or more than one call gives
    for array in into:
        rest = array.data.cast("B")
        while rest:
            count = os.preadv(descriptor, [rest], offset + done)
            if not count:
                return done
            rest, done = rest[count:], done + count
    return done
