"""The rendezvous of ranks works at each start, whatever an earlier start has left in the launcher's store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from train.distributed import fresh_store

_WORLD = 3


@pytest.fixture
def server() -> dist.TCPStore:
    return dist.TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=20))


def _started(server: dist.TCPStore, ranks: range = range(_WORLD)) -> list[dist.Store]:
    """What each rank gets, all of them started at once."""

    def one(rank: int) -> dist.Store:
        client = dist.TCPStore("127.0.0.1", server.port, None, False, timedelta(seconds=20))
        return fresh_store(client, rank, _WORLD)

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(one, ranks))


def test_fresh_store_is_shared_by_ranks_that_start_together(server: dist.TCPStore) -> None:
    first, second, third = _started(server)
    second.set("address", "here")
    assert first.get("address") == third.get("address") == b"here"


def test_fresh_store_holds_nothing_of_an_earlier_start(server: dist.TCPStore) -> None:
    for store in _started(server):
        store.set("address", "of the dead")
    for store in _started(server):
        assert not store.check(["address"])


def test_fresh_store_survives_the_request_of_a_rank_that_died(server: dist.TCPStore) -> None:
    server.set("asks/1", "a question that nobody waits for any more")
    first, second, _ = _started(server)
    first.set("address", "here")
    assert second.get("address") == b"here"


def test_fresh_store_names_a_rank_that_does_not_come(server: dist.TCPStore) -> None:
    with pytest.raises(dist.DistStoreError, match="rank 1 of 3 did not come"):
        fresh_store(server, 0, _WORLD, timedelta(milliseconds=200))
