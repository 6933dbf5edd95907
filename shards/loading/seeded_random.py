"""Random numbers of many `random.Random(text)`, as arrays: what each would give by itself.

What is drawn for a clip is drawn from its own `Random`, seeded by a text with its key, so that it does not depend on
what else is drawn. Each is seeded once here, and arrays are made of its first outputs of 32 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class SeededRandoms:
    """Random numbers of many generators, each of which goes on where it is.

    Args:
        seeds: what each is seeded by.
        outputs: of 32 bits, that are made of each; what needs more, as few do, is drawn one by one.
    """

    def __init__(self, seeds: Sequence[str], outputs: int = 8) -> None:
        self._seeds, self._outputs = seeds, _outputs(seeds, outputs)
        self._next = np.zeros(len(seeds), np.int64)

    def below(self, bounds: Array) -> Array:
        """int64 (n,) a whole number below each bound, 1 to 2**32 - 1, as `Random.randrange`."""
        shifts = 32 - np.frexp(bounds.astype(np.float64))[1].astype(np.int64)
        found = np.zeros(len(bounds), np.int64)
        left = np.arange(len(bounds))
        while len(left):
            found[left] = self._take(left) >> shifts[left]
            left = left[found[left] >= bounds[left]]
        return found

    def random(self) -> Array:
        """float64 (n,) in [0, 1), as `Random.random`."""
        everyone = np.arange(len(self._next))
        high, low = self._take(everyone) >> 5, self._take(everyone) >> 6
        return (high * 67108864.0 + low) * (1.0 / 9007199254740992.0)

    def _take(self, which: Array) -> Array:
        """int64: the next 32 bits of some of the generators."""
        places = self._next[which]
        self._next[which] += 1
        enough = places < self._outputs.shape[1]
        taken = np.zeros(len(which), np.int64)
        taken[enough] = self._outputs[which[enough], places[enough]]
        for at in np.flatnonzero(~enough).tolist():
            random = Random(self._seeds[which[at]])
            taken[at] = [random.getrandbits(32) for _ in range(places[at] + 1)][-1]
        return taken


def _outputs(seeds: Sequence[str], count: int) -> Array:
    """uint32 (n, count): the first outputs of generators."""
    random, size = Random(), 4 * count
    drawn = bytearray()
    for seed in seeds:
        random.seed(seed)
        drawn += random.getrandbits(8 * size).to_bytes(size, "little")  # the first output in the lowest bits
    return np.frombuffer(drawn, "<u4").reshape(-1, count)
