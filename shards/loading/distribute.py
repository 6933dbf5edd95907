"""Distribute global batches to ranks: equal numbers of slots for each, at every step, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

from shards.loading.planned_batches import MicroBatch, PlannedBatches


@dataclass(frozen=True, eq=False)
class Slots(Sequence[MicroBatch | None]):
    """Micro-batches that are looked up in a plan as they are taken out; from its end on there is None.

    Attributes:
        micro_batches: the plan's.
        numbers: which of them are here, in order.
    """

    micro_batches: Sequence[MicroBatch]
    numbers: range

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> MicroBatch | None: ...

    @overload
    def __getitem__(self, place: slice) -> Slots: ...

    def __getitem__(self, place: int | slice) -> MicroBatch | Slots | None:
        if isinstance(place, slice):
            return replace(self, numbers=self.numbers[place])
        number = self.numbers[place]
        return self.micro_batches[number] if number < len(self.micro_batches) else None

    @property
    def planned(self) -> Sequence[MicroBatch]:
        """The micro-batches without the empty slots behind them."""
        numbers = self.numbers
        return self.micro_batches[numbers.start : min(numbers.stop, len(self.micro_batches)) : numbers.step]


def rows_read(slots: Sequence[MicroBatch | None], place: int) -> list[int]:
    """The rows of the clips of a slot, and of their reference utterances; no text is read for them."""
    if isinstance(slots, Slots):
        number = slots.numbers[place]
        return rows_read(slots.micro_batches, number) if number < len(slots.micro_batches) else []
    if isinstance(slots, PlannedBatches):
        references = slots.references_at(place)
        return slots.rows_at(place) + [reference.row for reference in references if reference]
    slot = slots[place]
    clips = slot.clips if slot else ()
    return [row for clip in clips for row in (clip.row, *([clip.reference.row] if clip.reference else []))]


def steps_in_epoch(micro_batches: int, per_step: int) -> int:
    """Global batches in a number of micro-batches; the last one may not be full."""
    return -(-micro_batches // per_step)


def distribute_from(micro_batches: Sequence[MicroBatch], per_step: int, step: int, rank: int, world: int) -> Slots:
    """One rank's shares of all global batches from `step` on, one after the other: what its loader reads.

    Micro-batches go round the ranks, so that every rank gets `per_step // world` slots of each global batch, in the
    order of its accumulation steps. In an epoch's last global batch slots may be empty: None. From the step after the
    last, nothing is left.

    Args:
        micro_batches: the epoch's.
        per_step: G, micro-batches of a global batch over all ranks.
        step: which global batch of the epoch is the first.
        rank, world: whose share, of how many.

    Raises:
        ValueError: there are no micro-batches, no such step or rank, or G is not a multiple of `world`.
    """
    if not len(micro_batches):
        raise ValueError("there is no micro-batch to distribute: the plan is empty")
    if per_step < 1 or world < 1 or per_step % world:
        raise ValueError(
            f"{per_step} micro-batches a step cannot be distributed to {world} ranks: expected a multiple of it"
        )
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} of {world}: expected 0 to {world - 1}")
    steps = steps_in_epoch(len(micro_batches), per_step)
    if not 0 <= step <= steps:
        raise ValueError(f"step {step} of an epoch of {steps}: expected 0 to {steps}")
    return Slots(micro_batches, range(step * per_step + rank, steps * per_step, world))
