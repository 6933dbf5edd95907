"""The voices that clips are spoken with: the loudest stretch of another clip of the same speaker.

The published evaluation takes the voice from the first frames of the very clip that is scored; clips often begin in
silence, and the true sound is not to be had where speech is wanted of silent video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from model.segments import SegmentSettings, loudest_windows, speaker_reference
from shards import Dataset
from shards.format.sample import MEL_PER_FRAME
from shards.reading.loader import Contents, LoaderSettings, load
from shards.reading.plan import MicroBatch, Visit
from shards.reading.speakers import other_clips


def voices_of(
    dataset: Dataset, planned: Sequence[MicroBatch], ranges: SegmentSettings, how: LoaderSettings
) -> dict[str, Tensor]:
    """Speaker references by key, (n_mels, reference_frames) on the CPU.

    Clips whose speaker has no other clip in the split, or whose other clip is damaged, are not in it.

    Args:
        dataset: of the clips.
        planned: micro-batches that the clips are in.
        ranges: how long a reference is.
        how: clips are read. Pictures are not, and a clip that is damaged is done without.
    """
    how = replace(how, on_damage="skip", contents=Contents(roi=False))
    rows = [visit.row for micro_batch in planned for visit in micro_batch.visits]
    found = zip(rows, other_clips(dataset.index, rows), strict=True)
    others = {row: other for row, other in found if other is not None}
    lent = sorted(set(others.values()))
    frames = dataset.index["frames"].take(lent).to_pylist() if lent else []
    single = [
        MicroBatch(number, length, (Visit(row, 0, length, None, True),))
        for number, (row, length) in enumerate(zip(lent, frames, strict=True))
    ]
    references = {}
    for row, batch in zip(lent, load(dataset, single, how), strict=True):
        if batch is not None and batch.keys:
            windows = loudest_windows(batch.mel, MEL_PER_FRAME * batch.lengths, ranges.reference_frames)
            references[row] = speaker_reference(batch.mel, windows, ranges.reference_frames)[0][0]
    keys = dataset.index["key"]
    return {keys[row].as_py(): references[other] for row, other in others.items() if other in references}
