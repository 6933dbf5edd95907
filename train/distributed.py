"""The processes of a run: who this one is, and what they tell each other besides gradients.

`torchrun` says who is who by environment variables; without it there is one. Control messages (stop, totals) go over
gloo on the CPU, so that no GPU is waited for.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NoReturn, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor

Device = Literal["cpu", "cuda"]

_T = TypeVar("_T")
_PATIENCE = timedelta(minutes=30)
_A_MOMENT = timedelta(milliseconds=50)


@dataclass(frozen=True)
class Ranks:
    """This process among the others.

    Attributes:
        rank: 0 to world - 1.
        world: how many.
        device: that this one computes on.
    """

    rank: int
    world: int
    device: torch.device
    control: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def totals(self, values: Sequence[float]) -> list[float]:
        """The sums over all ranks, the same on each, in float64."""
        if self.world == 1:
            return [float(value) for value in values]
        table = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(table, group=self.control)
        return [float(value) for value in table.tolist()]

    def gathered(self, values: list[_T]) -> list[_T]:
        """The values of all ranks, one rank's after the other's."""
        if self.world == 1:
            return values
        found: list[list[_T]] = [[] for _ in range(self.world)]
        dist.all_gather_object(found, values, group=self.control)
        return [value for part in found for value in part]

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier(group=self.control)

    def first_does(self, work: Callable[[], _T]) -> _T:
        """What work comes to that the first rank alone does; it must be small.

        Raises:
            OSError, ValueError: on every rank, what it raised on the first.
        """
        if self.world == 1:
            return work()
        box: list[tuple[Any, OSError | ValueError | None]] = [(None, None)]
        if self.first:
            try:
                box = [(work(), None)]
            except (OSError, ValueError) as failure:
                box = [(None, failure)]
        dist.broadcast_object_list(box, src=0, group=self.control)
        value, error = box[0]
        if error is not None:
            raise error
        result: _T = value
        return result

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Give all ranks the first one's values."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


def fresh_store(store: dist.Store, rank: int, world: int, patience: timedelta = _PATIENCE) -> dist.Store:
    """A part of a store that nobody has written in, the same for all ranks that start together.

    torchrun keeps its store when it starts ranks again, addresses of those that are gone included, and counts restarts
    a node (PyTorch 2.11 to 2.13): whoever reads an old address waits for the dead. So the first rank names a part anew,
    and tells it to each rank that asks with a word of its own. An old question is answered in vain; it goes on until
    the rank says that it knows the name.

    Args:
        store: shared by all ranks.
        rank: of this process.
        world: number of ranks.
        patience: how long the first rank waits for the others, which wait as long as their store does.

    Raises:
        torch.distributed.DistStoreError: a rank does not come in that time.
    """
    if rank:
        word = uuid4().hex
        store.set(f"asks/{rank}", word)
        name = store.get(f"answer/{word}").decode()
        store.set(f"{name}/knows/{rank}", "")
        return dist.PrefixStore(name, store)
    name = uuid4().hex
    began = time.monotonic()
    for other in range(1, world):
        while not _comes(store, f"{name}/knows/{other}"):
            if store.check([f"asks/{other}"]):
                store.set(f"answer/{store.get(f'asks/{other}').decode()}", name)
            if time.monotonic() - began > patience.total_seconds():
                raise dist.DistStoreError(f"rank {other} of {world} did not come within {patience}")
    return dist.PrefixStore(name, store)


def _comes(store: dist.Store, key: str) -> bool:
    try:
        store.wait([key], _A_MOMENT)
    except dist.DistStoreError:
        return False
    return True


def leave(status: int) -> NoReturn:
    """End this process. After an error the others may be gone: what is tidied up between ranks at exit would wait for
    them, or trip over its own threads and end with another status."""
    if dist.is_available() and dist.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


@contextmanager
def joined(device: Device | None = None) -> Iterator[Ranks]:
    """Join the others that torchrun started, if it did.

    Args:
        device: None: cuda where there is one.

    Raises:
        ValueError: cuda, and there is none, or fewer than ranks on this machine.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise ValueError(f"--device cuda: rank {local} of this machine, which has {torch.cuda.device_count()} GPUs")
        torch.cuda.set_device(local)
    chosen = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if "RANK" not in os.environ:
        yield Ranks(0, 1, chosen)
        return
    store, rank, world = next(dist.rendezvous("env://", timeout=_PATIENCE))
    ours = fresh_store(store, rank, world)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, store=ours, rank=rank, world_size=world, timeout=_PATIENCE)
    control = dist.new_group(backend="gloo", timeout=_PATIENCE)
    yield Ranks(dist.get_rank(), dist.get_world_size(), chosen, control)
    dist.destroy_process_group()  # not after an error: it could wait for a rank that is no more
