"""Worker processes of the loader: they read planned micro-batches, a few ahead, and hand them over in the plan's order.

By hand: torch's DataLoader hands tensors over by way of sockets that have names below TMPDIR, and of /dev/shm. A TMPDIR
too long for a socket's name, a /tmp that is cleaned while a run lasts, or the small /dev/shm of a container ends it, or
leaves it waiting. Here nothing has a name: each worker and its parent share a pair of sockets, over which go requests
one way, and the descriptors of memory that holds batches the other: a byte and a descriptor, so that no message can be
half there. The death of a worker is noticed at once.

A DataLoader whose workers return numpy arrays needs neither for its batches, which go through its result queue's pipe.
With torch 2.13, two busy cores and batches of 30 MB (16 clips of 150 frames) it gave 0.53 times the frames a second of
this file with two workers, 0.65 with one (medians of five). And it can hang: its timeout covers the wait for a message,
not reading one, and a batch is hundreds of times what a pipe holds. A worker that was stopped while it wrote one was
waited for without end; when one was killed there, closing the loader waited without end for its thread that pins
memory. That a worker was killed it raises wherever the main thread is, in a training step as well.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import signal
import struct
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from typing import IO, Any, NamedTuple

import numpy as np
import torch

from runtime.signals import exit_with_parent, outlive_sigterm
from shards.format.errors import DatasetError, StorageError
from shards.loading.collate import Batch, BatchReader
from shards.loading.planned_batches import MicroBatch

_ALIGNMENT = 64
_HEADER = struct.Struct("<Q")
_POLL_SECONDS = 1.0
_JOIN_SECONDS = 5.0
_LESS_MEMORY = "use fewer workers, a smaller max_padded_frames, or more memory"
_BROKEN = "its memory, or that of this machine, is broken; start the run again"


class LoaderError(RuntimeError):
    """Worker processes cannot be started, one has died, or gives nothing: the message says which, and what to do."""


class _Worker(NamedTuple):
    process: BaseProcess
    connection: Connection


class Workers:
    """Processes that read micro-batches. Make it before threads are started, since a fork copies locks but no threads.

    Args:
        reader: what reads them.
        planned: what is read, in order.
        count: of processes.
        prefetch: micro-batches that each reads ahead.
        start_method: of the processes; None: the platform's own.
        timeout: seconds that a batch is waited for.
        setting: what that is called where a user sets it.

    Raises:
        LoaderError: they cannot be started.
    """

    def __init__(
        self,
        reader: BatchReader,
        planned: Sequence[MicroBatch],
        count: int,
        prefetch: int,
        start_method: str | None,
        timeout: float,
        setting: str = "loader_timeout",
    ) -> None:
        self._timeout, self._setting, self._received = timeout, setting, 0
        self._workers: list[_Worker] = []
        context: Any = multiprocessing.get_context(start_method)
        try:
            for number in range(count):
                ours, theirs = context.Pipe()
                arguments = theirs, reader, planned[number::count]
                process = context.Process(target=_work, args=arguments, name="loader worker", daemon=True)
                process.start()
                theirs.close()  # before the next one is started: with its last holder's death the connection ends
                self._workers.append(_Worker(process, ours))
        except OSError as error:
            self.close()
            raise LoaderError(
                f"loader worker {len(self._workers) + 1} of {count} cannot be started: {error}"
            ) from error
        for worker in self._workers * prefetch:
            _request(worker)

    def next(self) -> Batch | Exception:
        """The next micro-batch of the plan, or the `DatasetError` or `StorageError` that says why it cannot be read.

        Raises:
            LoaderError: the worker that reads it has died, failed, or given nothing in time.
        """
        worker = self._workers[self._received % len(self._workers)]
        self._wait_for(worker)
        try:
            descriptor = recv_handle(worker.connection)
        except (EOFError, OSError, RuntimeError) as error:
            raise _death_of(worker) from error
        self._received += 1
        _request(worker)
        try:
            found = _unpacked(descriptor)
        except Exception as error:  # what a process whose memory is broken wrote may be anything
            what = f"has handed over what is no batch ({type(error).__name__}: {error}): {_BROKEN}"
            raise LoaderError(f"loader worker (pid {worker.process.pid}) {what}") from error
        if isinstance(found, LoaderError):
            raise found
        return found

    def close(self) -> None:
        """End the processes, one that hangs too. A batch that another thread waits for is then a `LoaderError`."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join(_JOIN_SECONDS)  # one that waits for a disk dies when that answers, if ever

    def _wait_for(self, worker: _Worker) -> None:
        waited = 0.0  # in short spans: while this process is stopped no time is to pass
        while not (ready := wait([worker.connection, worker.process.sentinel], _POLL_SECONDS)):
            waited += _POLL_SECONDS
            if waited >= self._timeout:
                raise LoaderError(
                    f"loader worker (pid {worker.process.pid}) is alive, but has given no batch for {self._timeout:g} s"
                    f": does the disk or store that it reads answer? A slow one takes a longer {self._setting}"
                )
        if worker.connection not in ready:
            raise _death_of(worker)


def _request(worker: _Worker) -> None:
    """Ask for one more batch: a few bytes, so that it never waits."""
    with suppress(OSError):  # of one that has died, which `next` says, or has read all that is its to read
        worker.connection.send(None)


def _death_of(worker: _Worker) -> LoaderError:
    worker.process.join(_JOIN_SECONDS)
    status = worker.process.exitcode
    if status is None:
        what = "is alive, but its batch cannot be taken over: may this process open more files (ulimit -n)?"
    elif status == -signal.SIGKILL:
        what = f"was killed, as the system does where memory runs out: {_LESS_MEMORY}"
    else:
        what = f"ended with status {status}" if status >= 0 else f"died of signal {-status}"
    return LoaderError(f"loader worker (pid {worker.process.pid}) {what}")


def _work(connection: Connection, reader: BatchReader, planned: Sequence[MicroBatch]) -> None:
    """What a worker does: read a micro-batch whenever it is asked, and send what came of it."""
    outlive_sigterm()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent's to answer
    exit_with_parent(os.getppid())
    torch.set_num_threads(1)
    with suppress(EOFError, ConnectionError):  # the parent is gone
        for place in range(len(planned)):
            connection.recv()
            _send(connection, _read(reader, planned, place))


def _read(reader: BatchReader, planned: Sequence[MicroBatch], place: int) -> Batch | Exception:
    try:
        return reader.read(planned[place])
    except (DatasetError, StorageError) as error:
        return error
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return LoaderError(f"loader worker (pid {os.getpid()}): {why} (without workers, it says where in the code)")


def _send(connection: Connection, found: Batch | Exception) -> None:
    """Send the descriptor of the memory that a batch lies in: few bytes, so that it never waits."""
    with _memory() as memory:
        try:
            _pack(found, memory)
        except OSError as error:
            memory.truncate(0)
            why = f"no memory to hand over a batch: {error.strerror}: {_LESS_MEMORY}"
            _pack(LoaderError(f"loader worker (pid {os.getpid()}): {why}"), memory)
        send_handle(connection, memory.fileno(), None)


def _memory() -> IO[bytes]:
    """A file without a name, in memory where the platform has that."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("batch"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _pack(found: Batch | Exception, memory: IO[bytes]) -> None:
    """Write a batch to memory, each of its arrays as it is: first how many parts it is written in, and their sizes."""
    value: Any = found
    if isinstance(found, Batch):
        value = {name: part.numpy() if isinstance(part, torch.Tensor) else part for name, part in vars(found).items()}
    arrays: list[memoryview] = []
    content = pickle.dumps(value, protocol=5, buffer_callback=lambda array: arrays.append(array.raw()))
    parts = [memoryview(content), *arrays]
    sizes = np.array([len(part) for part in parts], "<u8").tobytes()
    parts = [memoryview(_HEADER.pack(len(parts)) + sizes), *parts]
    *places, end = _places([len(part) for part in parts])
    memory.truncate(end)
    for part, place in zip(parts, places, strict=True):
        while part:
            written = os.pwrite(memory.fileno(), part, place)
            part, place = part[written:], place + written


def _unpacked(descriptor: int) -> Batch | Exception:
    """What was packed; arrays are views of that memory, which lives as long as one of them."""
    try:
        memory = memoryview(mmap.mmap(descriptor, 0))
    finally:
        os.close(descriptor)
    (count,) = _HEADER.unpack_from(memory)
    sizes = np.frombuffer(memory, "<u8", count, _HEADER.size).tolist()
    (_, *places, end) = _places([_HEADER.size + 8 * count, *sizes])
    if end != len(memory):
        raise ValueError(f"{len(memory):,} bytes, where {end:,} were expected")
    content, *arrays = (memory[place : place + size] for place, size in zip(places, sizes, strict=True))
    value: Any = pickle.loads(content, buffers=arrays)
    if isinstance(value, Exception):
        return value
    parts: dict[str, Any] = {}
    for name, part in value.items():
        parts[name] = torch.from_numpy(part) if isinstance(part, np.ndarray) else part
    return Batch(**parts)


def _places(sizes: list[int]) -> list[int]:
    """Where parts of these sizes begin, and the last one ends: tensors want their numbers aligned."""
    return [0, *accumulate(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)]
