"""Many generators at once give what Python's `random.Random` gives, one by one."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from shards.loading.seeded_random import SeededRandoms

SEEDS = [f"part 0 {number % 3} main/{'x' * (number % 70)}/é{number}" for number in range(400)]


@pytest.mark.parametrize("seeds", [SEEDS[:20], SEEDS, [*SEEDS, "a", "k" * 5000]], ids=["few", "many", "long"])
def test_seeded_randoms_draw_what_python_draws(seeds: list[str]) -> None:
    bounds = np.array([1 + number % 37 for number in range(len(seeds))])
    ours = SeededRandoms(seeds, outputs=6)  # some need more than these
    found = [ours.below(bounds), ours.random(), ours.below(bounds + 2**31 - 40)]
    for number, seed in enumerate(seeds):
        random, bound = Random(seed), int(bounds[number])
        expected = [random.randrange(bound), random.random(), random.randrange(bound + 2**31 - 40)]
        assert [values[number] for values in found] == expected


def test_seeded_randoms_may_be_none() -> None:
    none = SeededRandoms([])
    assert not len(none.random())
    assert not len(none.below(np.empty(0, np.int64)))
