"""Collate: read the clips of a planned micro-batch into one padded `Batch`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from runtime.constants import MEL_FRAMES_PER_VIDEO_FRAME, N_MELS, SAMPLES_PER_FRAME
from shards.format.errors import DatasetError
from shards.format.sample import roi_side
from shards.format.store import Store
from shards.loading.cache import CacheSettings, ShardCache
from shards.loading.dataset import Dataset
from shards.loading.member_reader import MemberReader
from shards.loading.planned_batches import MicroBatch, PlannedClip
from shards.loading.reference_clips import Reference

SILENCE = -1.0
"""What stands in a mel beyond a clip's length."""


class ReadFailure(NamedTuple):
    """A clip that was planned and could not be used, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Clips of a micro-batch, B of them, padded to T video frames; none if every one was skipped.

    Attributes:
        number: of the micro-batch in its epoch.
        keys, speakers, texts: of each clip; the text is None where it is not known.
        lengths: int64 (B,) video frames. Stays on the CPU.
        roi: uint8 (B, T, R, R), 0 beyond a clip's length.
        mel: float32 (B, 80, 4T) of clips that are used whole, -1 beyond their length; -1 for the others.
        wav: float32 (n, 640T), samples of the n other clips, in step with their first frame, 0 beyond their length:
            their mel is to be computed of the very part that is used.
        wav_rows: int64 (n,) which clips these are.
        reference: float32 (B, 80, F), mel frames of another clip of the speaker where the plan says so, 0 elsewhere.
        reference_frames: int64 (B,) how many there are of each. Stays on the CPU.
        skipped: clips that could not be read.
    """

    number: int
    keys: list[str]
    speakers: list[str]
    texts: list[str | None]
    lengths: Tensor
    roi: Tensor
    mel: Tensor
    wav: Tensor
    wav_rows: Tensor
    reference: Tensor
    reference_frames: Tensor
    skipped: list[ReadFailure]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on a device; `lengths` and `reference_frames` stay where they are."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in memory that a GPU can fetch from by itself."""
        return self._mapped(lambda tensor: tensor.pin_memory() if tensor.numel() else tensor)

    def _mapped(self, change: Any) -> Batch:
        names = ("roi", "mel", "wav", "wav_rows", "reference")
        return replace(self, **{name: change(getattr(self, name)) for name in names})


@dataclass(frozen=True)
class Contents:
    """Which members are read: a task that needs no pictures, or no sound, does not wait for theirs.

    What is not read is empty: roi (B, 0, R, R), mel (B, 80, 0), wav (n, 0).

    Attributes:
        roi: lip regions.
        sound: mels of clips that are used whole, samples of the others.
        stored_mel: without it samples are read of every clip.
    """

    roi: bool = True
    sound: bool = True
    stored_mel: bool = True


class BatchReader:
    """Reads any micro-batch of a dataset. Only values until it reads: it travels to other processes, and opens files in
    the one that reads.

    Args:
        dataset: opened with `open_dataset`.
        contents: which members are read.
        skip: skip clips that are damaged or missing, and list them in the batch.
        cache: where shards of a remote dataset are kept; default: as `CacheSettings` says.
    """

    def __init__(
        self, dataset: Dataset, contents: Contents, skip: bool = False, cache: CacheSettings | None = None
    ) -> None:
        self._contents, self._skip = contents, skip
        self.cache = (
            None if dataset.store.is_local else ShardCache(dataset.store, dataset.manifest, cache or CacheSettings())
        )
        side = roi_side(dataset.manifest.features["crop"]["crop_radius"])
        where = Store(dataset.store.url).path  # of a store that is not open: connections do not survive a fork
        self._reader = MemberReader(dataset.clip_index, side, where, self.cache.open if self.cache else None)

    def read(self, micro_batch: MicroBatch) -> Batch:
        """The clips of a micro-batch, in memory.

        Raises:
            DatasetError: a clip is damaged or missing, and `skip` is off.
            StorageError: the disk or the store failed: the clips may be fine, so this is never skipped.
        """
        clips, reader, contents = micro_batch.clips, self._reader, self._contents
        frames = micro_batch.frames if contents.roi else 0
        sound_frames = micro_batch.frames if contents.sound else 0
        roi = torch.empty((len(clips), frames, reader.side, reader.side), dtype=torch.uint8)
        mel = torch.empty((len(clips), N_MELS, MEL_FRAMES_PER_VIDEO_FRAME * sound_frames), dtype=torch.float32)
        # of a clip that is not used whole the stored mel is of no use: its peak, to which a mel is scaled, is another
        has_mel = [clip.whole and contents.stored_mel for clip in clips]
        wav = torch.empty((len(clips) - sum(has_mel), SAMPLES_PER_FRAME * sound_frames), dtype=torch.float32)
        references = [clip.reference if contents.sound else None for clip in clips]
        longest = max((reference.stop - reference.start for reference in references if reference), default=0)
        reference_mel = torch.zeros(len(clips), N_MELS, longest)
        reference_frames: list[int] = []
        used: list[PlannedClip] = []
        wav_rows: list[int] = []
        skipped: list[ReadFailure] = []
        for clip, stored, reference in zip(clips, has_mel, references, strict=True):
            row, length, number = clip.row, clip.stop - clip.start, len(used)
            mel_length = MEL_FRAMES_PER_VIDEO_FRAME * length if stored else 0
            try:
                if contents.roi:
                    reader.roi(row, clip.start, roi[number, :length].numpy())
                if contents.sound and stored:
                    reader.mel(row, mel[number, :, :mel_length].numpy())
                elif contents.sound:
                    reader.wav(row, clip.start, wav[len(wav_rows), : SAMPLES_PER_FRAME * length].numpy())
            except DatasetError as error:
                if not self._skip:
                    raise
                skipped.append(ReadFailure(reader.key(row), str(error)))
                continue  # the next clip is read over it
            roi[number, length:] = 0
            mel[number, :, mel_length:] = SILENCE
            if not stored:
                wav[len(wav_rows), SAMPLES_PER_FRAME * length :] = 0
                wav_rows.append(number)
            used.append(clip)
            reference_frames.append(self._read_reference(reference, reference_mel[number]) if reference else 0)
        return Batch(
            number=micro_batch.number,
            keys=[reader.key(clip.row) for clip in used],
            speakers=[reader.speaker(clip.row) for clip in used],
            texts=[clip.text for clip in used],
            lengths=torch.tensor([clip.stop - clip.start for clip in used], dtype=torch.int64),
            roi=roi[: len(used)],
            mel=mel[: len(used)],
            wav=wav[: len(wav_rows)],
            wav_rows=torch.tensor(wav_rows, dtype=torch.int64),
            reference=reference_mel[: len(used)],
            reference_frames=torch.tensor(reference_frames, dtype=torch.int64),
            skipped=skipped,
        )

    def close(self) -> None:
        """Close what it has opened."""
        self._reader.close()

    def _read_reference(self, reference: Reference, out: Tensor) -> int:
        """Mel frames of a reference utterance into `out` (n_mels, F); their number, 0 if they cannot be read."""
        frames = MEL_FRAMES_PER_VIDEO_FRAME * int(self._reader.frames[reference.row])
        mel = np.empty((N_MELS, frames), np.float32)
        try:
            self._reader.mel(reference.row, mel)
        except DatasetError:
            if not self._skip:  # else the clip does without: the damaged one is reported where it is used itself
                raise
            return 0
        count = reference.stop - reference.start
        out[:, :count] = torch.from_numpy(mel[:, reference.start : reference.stop])
        return count
