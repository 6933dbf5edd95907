"""The Mersenne Twister (Matsumoto and Nishimura, 1998), seeded by many keys at once, in numba.

Seeding takes 1,871 steps, each of which needs the one before: sixteen generators take theirs side by side, which keeps
a core's vector units busy and their states in its cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]

N, M = 624, 397
_LANES = 16
_SIGNATURE = "u4[:,::1](u4[:,::1], i8, u4[::1])"


def outputs_of_keys(keys: Array, count: int) -> Array:
    """uint32 (count, n): the first outputs of n generators.

    Args:
        keys: uint32 (words, n) the key of each, as `init_by_array` takes it: at most 624 words.
        count: of outputs, at most 226.
    """
    made: Array = _outputs(np.ascontiguousarray(keys, np.uint32), count, _INITIAL)
    return made


def _initial_state() -> Array:
    state = [19650218]
    for place in range(1, N):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + place) & 0xFFFFFFFF)
    return np.array(state, np.uint32)


_INITIAL = _initial_state()


def _seed_and_draw(keys: Array, count: int, initial: Array) -> Array:
    words, n = keys.shape
    made = np.empty((count, n), np.uint32)
    state = np.empty((N, _LANES), np.uint32)
    last = np.empty(_LANES, np.uint32)
    for first in range(0, n, _LANES):
        last[:] = initial[0]
        for step in range(N):  # all places but the first, then place 1 again
            place, word = step % (N - 1) + 1, step % words
            for lane in range(_LANES):
                before = initial[place] if step < N - 1 else state[1, lane]
                mixed = ((last[lane] ^ (last[lane] >> np.uint32(30))) * np.uint32(1664525)) ^ before
                last[lane] = mixed + keys[word, min(first + lane, n - 1)] + np.uint32(word)
                state[place, lane] = last[lane]
        for step in range(N - 1):
            place = step + 2 if step < N - 2 else 1
            for lane in range(_LANES):
                mixed = ((last[lane] ^ (last[lane] >> np.uint32(30))) * np.uint32(1566083941)) ^ state[place, lane]
                last[lane] = mixed - np.uint32(place)
                state[place, lane] = last[lane]
        state[0, :] = np.uint32(0x80000000)
        for number in range(count):
            for lane in range(min(_LANES, n - first)):
                both = (state[number, lane] & np.uint32(0x80000000)) | (state[number + 1, lane] & np.uint32(0x7FFFFFFF))
                bits = state[number + M, lane] ^ (both >> np.uint32(1))
                if both & np.uint32(1):
                    bits ^= np.uint32(0x9908B0DF)
                bits ^= bits >> np.uint32(11)
                bits ^= (bits << np.uint32(7)) & np.uint32(0x9D2C5680)
                bits ^= (bits << np.uint32(15)) & np.uint32(0xEFC60000)
                made[number, first + lane] = bits ^ (bits >> np.uint32(18))
    return made


try:
    _outputs: Any = njit(_SIGNATURE, nogil=True, cache=True)(_seed_and_draw)
except Exception:  # no folder can be written to, the disk is full, or what lies there is damaged
    _outputs = njit(_SIGNATURE, nogil=True)(_seed_and_draw)
