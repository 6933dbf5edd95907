"""Planned micro-batches: rows and lengths of an epoch in arrays, each micro-batch made when it is looked at."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NamedTuple, overload

import numpy as np

from shards.loading.draws import Draw, DrawsMany, length_of
from shards.loading.index_view import ClipIndex, clips_of
from shards.loading.reference_clips import Reference, nearby_references

Array = np.ndarray[Any, Any]


class PlannedClip(NamedTuple):
    """One clip of a micro-batch: its row in the index, video frames [start, stop), text; `whole`: all of its frames;
    a reference utterance of the same speaker, if one is wanted and there is one."""

    row: int
    start: int
    stop: int
    text: str | None
    whole: bool
    reference: Reference | None = None


class MicroBatch(NamedTuple):
    """What is read and run at once: its number in the epoch, the frames it is padded to, and its clips."""

    number: int
    frames: int
    clips: tuple[PlannedClip, ...]


@dataclass(frozen=True, eq=False, repr=False)
class PlannedBatches(Sequence[MicroBatch]):
    """The micro-batches of a plan, or some of them; each is made, and its texts are read, when it is taken out.

    It travels to other processes; with a `draw` that does not, as what it holds.

    Attributes:
        clip_index: of the dataset.
        all_rows: int (clips,) rows of the clips of all micro-batches, one after the other.
        edges: int64 (micro-batches + 1,) where in them the clips of each begin, and after the last end.
        frames: int64 (micro-batches,) that each is padded to.
        windows: int64 (windows + 1,) the first micro-batch of each window of shards, and after the last their number.
        draw, seed: as `plan_epoch` draws the parts; what is before a space and the key in the seed of a clip.
        references: what is before the key in the seed of a reference, and its mel frames; None: there are none.
        numbers: of the micro-batches that this holds, in order.
    """

    clip_index: ClipIndex
    all_rows: Array
    edges: Array
    frames: Array
    windows: Array
    draw: Draw
    seed: str
    references: tuple[str, int] | None
    numbers: range

    def __reduce__(self) -> Any:
        if isinstance(self.draw, DrawsMany):
            return PlannedBatches, self.parts()
        return list, (list(self),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> MicroBatch: ...

    @overload
    def __getitem__(self, place: slice) -> PlannedBatches: ...

    def __getitem__(self, place: int | slice) -> MicroBatch | PlannedBatches:
        if isinstance(place, slice):
            return replace(self, numbers=self.numbers[place])
        number, rows = self.numbers[place], self.rows_at(place)
        random, clips = Random(), []
        for row, clip, reference in zip(rows, clips_of(self.clip_index, rows), self.references_at(place), strict=True):
            random.seed(f"{self.seed} {clip.key}")
            segment = self.draw(clip, random)
            if segment is None:
                raise ValueError(f"{clip.key}: a part of it was planned, and now none is drawn")
            length = length_of(segment, clip)
            clips.append(PlannedClip(row, *segment, length == clip.frames, reference))
        return MicroBatch(number, int(self.frames[number]), tuple(clips))

    def parts(self) -> tuple[Any, ...]:
        """What it is made of again."""
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    @property
    def clips(self) -> int:
        """How many there are in all micro-batches that this holds."""
        return int(np.diff(self.edges)[self.numbers].sum())

    def rows_at(self, place: int) -> list[int]:
        """The rows of the clips of a micro-batch."""
        number = self.numbers[place]
        found: list[int] = self.all_rows[self.edges[number] : self.edges[number + 1]].tolist()
        return found

    def references_at(self, place: int) -> list[Reference | None]:
        """Their reference utterances, of clips of the same window of shards."""
        rows = self.rows_at(place)
        if self.references is None:
            return [None] * len(rows)
        window = int(np.searchsorted(self.windows, self.numbers[place], side="right")) - 1
        first, last = self.edges[self.windows[window : window + 2]]
        return nearby_references(self.clip_index, rows, self.all_rows[first:last], *self.references)


def rows_at(planned: Sequence[MicroBatch], place: int) -> list[int]:
    """The rows of the clips of a micro-batch; no text is read for them."""
    if isinstance(planned, PlannedBatches):
        return planned.rows_at(place)
    return [clip.row for clip in planned[place].clips]
