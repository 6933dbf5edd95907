"""Read a clip's members (roi, mel, wav) at their byte offsets, straight into the arrays of a batch.

By hand: one read of known bytes into their place is twice as fast as `np.load` and padding.

An index row says where in which shard a member lies, how large it is and how many frames it has. So the length of a
`.npy` or wav header is known before it is read, and one `preadv` fills header and pictures; the header is then looked
at and has to say what the row says. Nothing is unpickled and nothing is allocated that the index did not announce.

The checks catch a shard that is missing, cut short or shifted, a member of other frames, size, type or rate, a video
that does not decode, a mel that is not finite. `pipeline verify` and the cache notice a changed picture or sample.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, N_MELS, SAMPLE_RATE, SAMPLES_PER_FRAME
from runtime.regular_file import IrregularFileError, regular_descriptor
from shards.format.errors import DatasetError, StorageError
from shards.format.member_names import member_extension
from shards.format.member_sizes import LONGEST_HEADER
from shards.format.npy import npy_header
from shards.format.roi import decode_roi
from shards.format.wav import wav_header
from shards.loading.index_view import READ_MEMBERS, ClipIndex

Array = np.ndarray[Any, Any]
_MOST_OPEN = 32  # shards
_ATTEMPTS = 3
PAUSE_SECONDS = 2.0
"""Before a read that failed is tried again; twice as long before the third attempt."""


class MemberReader:
    """Reads members of clips, keeping the shards that were used last open. Only values until it reads.

    Args:
        index: of the dataset (`Dataset.clip_index`).
        side: R, of the stored lip regions, pixels.
        where: the path of a shard, by its name; errors call it so.
        open_shard: gives a descriptor of a shard by its name (`ShardCache.open`); None: it is a local file.

    Attributes:
        index: as it was given.
        frames: video frames, of each row.

    Raises:
        DatasetError: a row of the index says what cannot be; it is named.
    """

    def __init__(
        self, index: ClipIndex, side: int, where: Callable[[str], str], open_shard: Callable[[str], int] | None
    ) -> None:
        self.index, self.side = index, side
        self._shards, self._shard_of = index.shard
        self._video, self._offsets, self._sizes, self.frames = index.video, index.offsets, index.sizes, index.frames
        possible = self.frames > 0
        for member in READ_MEMBERS:
            possible &= (self._offsets[member] >= 0) & (self._sizes[member] > 0)
        if not possible.all():
            row = int(np.flatnonzero(~possible)[0])
            raise DatasetError(f"{self.key(row)}: the index names {self.frames[row]} frames, or a member of no bytes")
        self._where, self._open_shard = where, open_shard
        self._open: OrderedDict[str, int] = OrderedDict()
        self._scratch = np.empty(0, np.uint8)

    def key(self, row: int) -> str:
        """Of a row of the index."""
        return str(self.index.keys[row].as_py())

    def speaker(self, row: int) -> str:
        """Of a row of the index."""
        names, of_row = self.index.speaker
        return str(names[of_row[row]])

    def roi(self, row: int, start: int, out: Array) -> None:
        """Frames [start, start + len(out)) of a lip region into `out`, uint8 (t, R, R), C order.

        Raises:
            DatasetError: naming shard and key, when the bytes are not what the index says.
            StorageError: they could not be read, and may be fine.
        """
        frames, side = int(self.frames[row]), self.side
        if self._video[row]:
            content = self._scratch_of(int(self._sizes["roi"][row]))
            self._read(row, "roi", [content], 0)
            roi = decode_roi(content.tobytes(), "roi.mkv", frames, side, self._place(row, "roi"))
            out[...] = roi[start : start + len(out)]
            return
        header = self._header(row, "roi", frames * side * side)
        if start == 0:
            self._read(row, "roi", [header, out], 0)
        else:
            self._read(row, "roi", [header], 0)
            self._read(row, "roi", [out], len(header) + start * side * side)
        self._check_npy(header, row, "roi", (frames, side, side), "|u1")

    def mel(self, row: int, out: Array) -> None:
        """The stored mel of a whole clip into `out`, float32 (80, 4T) of any strides. Raises as `roi`."""
        shape = (N_MELS, MEL_FRAMES_PER_VIDEO_FRAME * int(self.frames[row]))
        payload = 4 * shape[0] * shape[1]
        header, content = self._header(row, "mel", payload), self._scratch_of(payload)
        self._read(row, "mel", [header, content], 0)
        self._check_npy(header, row, "mel", shape, "<f4")
        mel = content.view("<f4").reshape(shape)
        if not np.isfinite(mel).all():
            raise DatasetError(f"{self._place(row, 'mel')}: holds values that are not finite")
        out[...] = mel

    def wav(self, row: int, start: int, out: Array) -> None:
        """Samples from frame `start` on into `out`, float32 (640 t,) in [-1, 1). Raises as `roi`."""
        samples = SAMPLES_PER_FRAME * int(self.frames[row])
        header, content = self._header(row, "wav", 2 * samples), self._scratch_of(2 * len(out))
        self._read(row, "wav", [header], 0)
        self._read(row, "wav", [content], len(header) + 2 * SAMPLES_PER_FRAME * start)
        found = wav_header(header.tobytes())
        if found != (1, 2, SAMPLE_RATE, samples):
            expected = f"expected 16 kHz mono PCM16 of {samples} samples"
            raise DatasetError(f"{self._place(row, 'wav')}: {expected}, found {found or 'no wav header'}")
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
        if self._open_shard:
            self._open[shard] = self._open_shard(shard)
        else:
            self._open[shard] = regular_descriptor(self._where(shard))
        return self._open[shard]

    def _shard(self, row: int) -> str:
        return self._where(self._shards[self._shard_of[row]])

    def _name(self, row: int, member: str) -> str:
        roi_member = "roi.mkv" if self._video[row] else "roi.npy"
        return f"{self.key(row)}.{member_extension(member, roi_member)}"

    def _place(self, row: int, member: str) -> str:
        """What errors call a member."""
        return f"{self._shard(row)}: {self._name(row, member)}"

    def _scratch_of(self, size: int) -> Array:
        if len(self._scratch) < size:
            self._scratch = np.empty(size, np.uint8)
        return self._scratch[:size]

    def _header(self, row: int, member: str, payload: int) -> Array:
        """Room for a member's header: what its size leaves beside its payload."""
        size = int(self._sizes[member][row])
        if not 0 < size - payload <= LONGEST_HEADER:
            raise DatasetError(
                f"{self._place(row, member)}: {size} bytes cannot be a header and the {payload} that "
                f"{self.frames[row]} frames take"
            )
        return np.empty(size - payload, np.uint8)

    def _read(self, row: int, member: str, into: Sequence[Array], begin: int) -> None:
        """Fill `into`, one after the other, with a member's bytes from `begin` on."""
        offset = int(self._offsets[member][row]) + begin
        expected = sum(array.nbytes for array in into)
        shard = self._shards[self._shard_of[row]]
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                count = _filled(self._descriptor(shard), into, offset)
                break
            except FileNotFoundError as error:
                raise DatasetError(f"{self._shard(row)}: the shard is missing ({self._name(row, member)})") from error
            except IrregularFileError as error:
                raise DatasetError(f"{error} ({self._name(row, member)})") from error
            except StorageError:  # of the cache, which has tried again
                raise
            except OSError as error:  # of a mounted disk, which may be back in a moment, with another handle
                if attempt == _ATTEMPTS:
                    what = f"reading {'its copy in the cache ' if self._open_shard else ''}failed: {error.strerror}"
                    raise StorageError(error.errno or 0, what, self._shard(row)) from error
                with suppress(KeyError):
                    os.close(self._open.pop(shard))
                time.sleep(PAUSE_SECONDS * attempt)
        if count != expected:
            raise DatasetError(
                f"{self._place(row, member)}: {expected} bytes were expected from byte {offset} on, the shard ends "
                f"after {count} of them"
            )

    def _check_npy(self, header: Array, row: int, member: str, shape: tuple[int, ...], dtype: str) -> None:
        found = npy_header(header.tobytes())
        if found != (shape, False, dtype):
            actual = f"{found[2]} {found[0]}{' in Fortran order' if found[1] else ''}" if found else "no .npy header"
            raise DatasetError(f"{self._place(row, member)}: expected {dtype} {shape}, found {actual}")


def _filled(descriptor: int, into: Sequence[Array], offset: int) -> int:
    """Fill `into`, uint8, one after the other, from `offset` on; how many bytes there were."""
    rest, done = [array.data.cast("B") for array in into], 0
    while rest:  # once, unless the file ends or this is more than one call gives
        count = os.preadv(descriptor, rest, offset + done)
        if not count:
            break
        done += count
        while rest and count >= len(rest[0]):
            count -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][count:]
    return done
