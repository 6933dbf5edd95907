"""Watch the tasks of a Ray job: which take too long, whether the cluster still answers, how many may be in flight."""

from __future__ import annotations

import socket
from collections.abc import Collection
from threading import Thread
from time import monotonic
from typing import Any

_LOOK_SECONDS = 2.0
_GONE_SECONDS = 15.0
"""A cluster may be silent for that long. After 60 Ray ends this process itself, and does not say what to do."""
_AGAIN = "run the same command again: what is finished is kept"


class ClusterLostError(ConnectionError):
    """The Ray cluster no longer answers in the middle of a job."""


class Watch:
    """Of the tasks of one job; what it asks of the cluster it asks every two seconds, and never of one that is gone.

    Args:
        ray: the module, connected.
        workers: tasks in flight at once; None: one a processor.
        timeout: seconds from when a task is handed to the cluster to its result, but for those in which the cluster has
            no processor.
    """

    def __init__(self, ray: Any, workers: int | None, timeout: float) -> None:
        self._ray, self._workers, self._timeout = ray, workers, timeout
        self._begun: dict[Any, float] = {}
        self._looked = self._answered = monotonic()
        self._processors = 1 if workers else processors_of(ray)
        self._here = True
        self._address: str | None = None
        self._counting: Thread | None = None

    def slots(self) -> int:
        """Tasks that may be in flight at once: a cluster may grow and shrink meanwhile."""
        return self._workers or max(1, self._processors)

    def begin(self, reference: Any) -> None:
        """A task was handed to the cluster, or begins anew."""
        self._begun[reference] = monotonic()

    def overdue(self, finished: Collection[Any]) -> list[Any]:
        """Tasks that take too long, each once; `finished` ones are forgotten.

        Raises:
            ClusterLostError: the cluster has not answered for some time, or is without this machine.
        """
        for reference in finished:
            self._begun.pop(reference, None)
        now = monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return []
        self._looked = now
        if not self._answers(now):
            return []
        if not self._here:
            raise ClusterLostError(
                f"Ray's process on this machine has ended (it was killed, or memory ran out): {_AGAIN}"
            )
        self._count_processors()
        if not self._processors:
            self._begun = dict.fromkeys(self._begun, now)
        late = [reference for reference, begun in self._begun.items() if now - begun > self._timeout]
        for reference in late:
            del self._begun[reference]
        return late

    def _answers(self, now: float) -> bool:
        if self._address is None:
            self._address = str(self._ray.get_runtime_context().gcs_address)
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK_SECONDS).close()
        except OSError as error:
            if now - self._answered > _GONE_SECONDS:
                raise ClusterLostError(
                    f"the Ray cluster at {self._address} no longer answers ({error}): its first node was stopped, or "
                    f"the network failed: {_AGAIN}"
                ) from error
            return False
        self._answered = now
        return True

    def _count_processors(self) -> None:
        def count() -> None:
            here = self._ray.get_runtime_context().get_node_id()
            alive = [node for node in self._ray.nodes() if node["Alive"]]
            self._processors = int(sum(node["Resources"].get("CPU", 0) for node in alive))
            self._here = any(node["NodeID"] == here for node in alive)

        # beside the job: of a cluster that is gone by now, it would wait for as long as Ray lets this process live
        if self._counting is None or not self._counting.is_alive():
            self._counting = Thread(target=count, daemon=True)
            self._counting.start()


def processors_of(ray: Any) -> int:
    """Processors of the cluster as it is now."""
    return int(ray.cluster_resources().get("CPU", 0))
