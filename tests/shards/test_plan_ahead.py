"""A plan that is made in the background is the one that would be made here, whatever becomes of its process."""

from __future__ import annotations

import os
import signal
from random import Random

import pytest

from shards.loading import plan_ahead
from shards.loading.batch_plan import plan_epoch
from shards.loading.draws import Segment, whole
from shards.loading.index_view import ClipIndex, IndexedClip
from shards.loading.plan_ahead import EpochArguments, PlanAhead
from tests.processes import descendants
from tests.shards.test_batch_plan import INDEX, SETTINGS

CLIPS = ClipIndex.of(INDEX)


def arguments(epoch: int) -> EpochArguments:
    return EpochArguments(CLIPS, ("train",), 0, epoch, whole, SETTINGS, 50)


@pytest.mark.parametrize("start_method", [None, "spawn"])
def test_plan_ahead_is_the_plan(monkeypatch: pytest.MonkeyPatch, start_method: str | None) -> None:
    expected = plan_epoch(*arguments(3))
    monkeypatch.setattr(plan_ahead, "FEWEST_CLIPS", 1)
    plans = PlanAhead(start_method)
    plans.begin(arguments(3))
    monkeypatch.delattr(plan_ahead, "plan_epoch")  # it is not made here
    assert plans.take(arguments(3)) == expected
    plans.close()


def test_plan_ahead_of_another_epoch_or_of_a_killed_process_is_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(descendants(os.getpid()))
    plans = PlanAhead()
    plans.begin(arguments(1))
    assert set(descendants(os.getpid())) == before, "few clips are planned when they are needed"
    monkeypatch.setattr(plan_ahead, "FEWEST_CLIPS", 1)
    plans.begin(arguments(1))
    assert plans.take(arguments(2)) == plan_epoch(*arguments(2))
    plans.begin(arguments(1))
    for process in set(descendants(os.getpid())) - before:
        os.kill(process, signal.SIGKILL)
    assert plans.take(arguments(1)) == plan_epoch(*arguments(1))
    plans.close()
    assert set(descendants(os.getpid())) == before


def test_plan_ahead_that_fails_raises_where_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def outside(clip: IndexedClip, random: Random) -> Segment:
        return 0, clip.frames + 1, None

    monkeypatch.setattr(plan_ahead, "FEWEST_CLIPS", 1)
    plans, wrong = PlanAhead(), arguments(1)._replace(draw=outside)
    plans.begin(wrong)
    with pytest.raises(ValueError, match="were drawn of a clip of"):
        plans.take(wrong)
