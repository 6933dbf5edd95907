"""Distributed training: the process group that torchrun's environment variables describe, and its collectives.

Gradients and batch-norm statistics go over NCCL on GPUs; control messages (stop
signals, sums for the log) go over gloo on the CPU, so that no GPU has to be synchronized for them.
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
_TIMEOUT = timedelta(minutes=30)
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class DistributedContext:
    """This process among the others.

    Attributes:
        rank: 0 to world_size - 1.
        world_size: processes of the run.
        device: that this one computes on.
        control: the gloo process group of control messages; None where there is one process.
    """

    rank: int
    world_size: int
    device: torch.device
    control: Any = None

    @property
    def is_rank0(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def all_reduce_sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all ranks, the same on each, in float64."""
        table = torch.tensor(values, dtype=torch.float64)
        if self.world_size > 1:
            dist.all_reduce(table, group=self.control)
        return [float(value) for value in table.tolist()]

    def all_gather(self, values: list[_T]) -> list[_T]:
        """The values of all ranks, one rank's after the other's."""
        if self.world_size == 1:
            return values
        found: list[list[_T]] = [[] for _ in range(self.world_size)]
        dist.all_gather_object(found, values, group=self.control)
        return [value for part in found for value in part]

    def on_rank0(self, work: Callable[[], _T]) -> _T:
        """Call `work` on rank 0 alone; every rank returns what it returned there, which must be small.

        Raises:
            OSError, ValueError: on every rank, what it raised on rank 0.
        """
        if self.world_size == 1:
            return work()
        box: list[Any] = [None]
        if self.is_rank0:
            try:
                box = [work()]
            except (OSError, ValueError) as error:
                box = [error]
        dist.broadcast_object_list(box, src=0, group=self.control)
        if isinstance(box[0], OSError | ValueError):
            raise box[0]
        result: _T = box[0]
        return result

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of rank 0."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


def fresh_store(store: dist.Store, rank: int, world_size: int, timeout: timedelta = _TIMEOUT) -> dist.Store:
    """A prefix of a store under which nothing is written yet, the same for all ranks that start together.

    torchrun keeps its store when it restarts ranks, addresses of dead ones included, and counts restarts per node
    (PyTorch 2.11 to 2.13): a rank that reads an old address waits for a dead process. So rank 0 draws a new prefix, and
    answers each rank that asks for it with a token of its own. A request that a dead rank left is answered in vain;
    rank 0 answers until the living one confirms.

    Raises:
        torch.distributed.DistStoreError: a rank does not come within rank 0's timeout; the others wait as long as their
            store does.
    """
    if rank:
        token = uuid4().hex
        store.set(f"asks/{rank}", token)
        name = store.get(f"answer/{token}").decode()
        store.set(f"{name}/knows/{rank}", "")
        return dist.PrefixStore(name, store)
    name = uuid4().hex
    began = time.monotonic()
    for other in range(1, world_size):
        while not store.check([f"{name}/knows/{other}"]):
            if store.check([f"asks/{other}"]):
                store.set(f"answer/{store.get(f'asks/{other}').decode()}", name)
            if time.monotonic() - began > timeout.total_seconds():
                raise dist.DistStoreError(f"rank {other} of {world_size} did not come within {timeout}")
            time.sleep(_POLL_SECONDS)
    return dist.PrefixStore(name, store)


def is_rank_lost(error: BaseException | None) -> bool:
    """Whether an error of a collective says that another rank has died, or did not answer in time."""
    # gloo's are plain RuntimeErrors that name its source
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def exit_process(status: int) -> NoReturn:
    """End this process without the process group's clean-up: after an error other ranks may be gone, and destructors
    would wait for them, or crash in their own threads and end with another status."""
    if dist.is_available() and dist.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


@contextmanager
def process_group(device: Device | None = None, timeout: timedelta = _TIMEOUT) -> Iterator[DistributedContext]:
    """Join the process group of torchrun, whose ranks wait so long for each other; without torchrun, the context of a
    single process.

    `ValueError`: cuda, and there is none, or fewer GPUs than ranks on this machine.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if kind == "cuda":
        gpus = torch.cuda.device_count()
        if local_rank >= gpus:
            raise ValueError(f"--device cuda: rank {local_rank} of this machine, which has {gpus} GPUs")
        torch.cuda.set_device(local_rank)
        # cuDNN's attention takes no bias that learns: it would run without gradients only, in validation and on one
        # side of the output content loss. It also plans anew for each shape
        torch.backends.cuda.enable_cudnn_sdp(False)
    chosen = torch.device(kind, local_rank) if kind == "cuda" else torch.device(kind)
    if "RANK" not in os.environ:
        yield DistributedContext(0, 1, chosen)
        return
    store, rank, world_size = next(dist.rendezvous("env://", timeout=timeout))
    ours = fresh_store(store, rank, world_size, timeout)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, store=ours, rank=rank, world_size=world_size, timeout=timeout)
    control = dist.new_group(backend="gloo", timeout=timeout)
    yield DistributedContext(dist.get_rank(), dist.get_world_size(), chosen, control)
    dist.destroy_process_group()  # not after an error: it could wait for a rank that is no more
