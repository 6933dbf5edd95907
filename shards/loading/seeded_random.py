"""The first random numbers of many `random.Random(text)` at once: the very same.

What is drawn for a clip is drawn from its own `Random`, seeded by a text with its key; seeding takes most of the time.
A text becomes the Mersenne Twister's key as `random.seed` says: its bytes, then their SHA-512, as one large number.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha512
from random import Random
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_DIGEST_BYTES = 64

_FEW = 256
"""Seeds that are not worth importing numba for."""

_MOST_KEY_BYTES = 2496
"""Of a seed and its digest: the twister's keys have at most 624 words here."""


class SeededRandoms:
    """Random numbers of many generators, each of which goes on where it is.

    Args:
        seeds: what each is seeded by, UTF-8.
        outputs: of 32 bits, that are made of each; what needs more, as few do, is drawn one by one.
    """

    def __init__(self, seeds: Sequence[bytes], outputs: int = 24) -> None:
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
            random = Random(self._seeds[which[at]].decode())
            taken[at] = [random.getrandbits(32) for _ in range(places[at] + 1)][-1]
        return taken


def _outputs(seeds: Sequence[bytes], count: int) -> Array:
    """uint32 (n, count): the first outputs of generators."""
    made = np.empty((len(seeds), count), np.uint32)
    of_length: dict[int, list[int]] = {}
    for place, seed in enumerate(seeds):
        of_length.setdefault(len(seed) + _DIGEST_BYTES, []).append(place)
    for size, places in of_length.items():
        if len(seeds) < _FEW or size > _MOST_KEY_BYTES:
            for place in places:
                random = Random(seeds[place].decode())
                made[place] = [random.getrandbits(32) for _ in range(count)]
        else:
            from shards.loading.twister import outputs_of_keys

            made[places] = outputs_of_keys(_keys([seeds[place] for place in places], size), count).T
    return made


def _keys(seeds: Sequence[bytes], size: int) -> Array:
    """uint32 (words, n) the twister's keys of seeds of one length: a large number, its lowest 32 bits first. Seeds do
    not begin with a 0, so that its last word is none."""
    large = np.frombuffer(b"".join([seed + sha512(seed).digest() for seed in seeds]), np.uint8).reshape(-1, size)
    padded = np.zeros((len(seeds), -(-size // 4) * 4), np.uint8)
    padded[:, :size] = large[:, ::-1]
    return np.ascontiguousarray(padded.view("<u4").T)
