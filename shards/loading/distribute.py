"""Distribute global batches to ranks: equal numbers of slots for each, at every step, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Planned = TypeVar("Planned")
"""A micro-batch."""


def steps_in_epoch(micro_batches: int, per_step: int) -> int:
    """Global batches in a number of micro-batches; the last one may not be full."""
    return -(-micro_batches // per_step)


def distribute_from(
    micro_batches: Sequence[Planned], per_step: int, step: int, rank: int, world: int
) -> list[Planned | None]:
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
    if not micro_batches:
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
    slots = [*micro_batches, *[None] * (steps * per_step - len(micro_batches))]
    return slots[step * per_step + rank :: world]
