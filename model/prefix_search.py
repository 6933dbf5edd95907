"""The inner loops of the CTC prefix beam search, in numba: selecting a frame's symbols, and the search over one clip.

Prefixes are nodes of a trie, so that equal prefixes are one node however they came to be, and nothing is hashed. A beam
holds, for each of its prefixes, the probability of all alignments that end in a blank and of all that end in the
prefix's last symbol (Graves 2006; Hannun et al. 2014). Sums are in float64; the published decoder's are in float32, so
answers whose scores differ by less than 1e-4 may be in another order in it. Importing this compiles, or loads what an
earlier import compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]
Function = TypeVar("Function", bound=Callable[..., Any])

LOG_FLOOR = -87.3365447505531  # log of the smallest normal float32: no probability counts as less (as published)


def inlined(function: Function) -> Function:
    """Compile a function as part of the compiled ones that call it."""
    return cast(Function, njit(nogil=True)(function))


def compiled(signature: str) -> Callable[[Function], Function]:
    """Compile a function of this numba signature now, to run without the interpreter's lock; kept on disk where that is
    possible."""

    def compile_function(function: Function) -> Function:
        try:
            return cast(Function, njit(signature, nogil=True, cache=True)(function))
        except Exception:  # no folder can be written to, the disk is full, or what lies there is damaged
            return cast(Function, njit(signature, nogil=True)(function))

    return compile_function


@compiled("(f4[:,::1], i8)")
def top_symbols(log_probs: Array, width: int) -> tuple[Array, Array]:
    """The `width` likeliest symbols of each frame (T, V), in descending order; of equal ones the lower comes first.

    Returns:
        values float32 and symbols int32, both (T, width). A frame that holds NaN has it as its first value.
    """
    frames, vocabulary = log_probs.shape
    values = np.full((frames, width), -np.inf, np.float32)
    symbols = np.zeros((frames, width), np.int32)
    for frame in range(frames):
        row = log_probs[frame]
        found = 0
        for symbol in range(vocabulary):
            value = row[symbol]
            if found == width and value <= values[frame, width - 1]:
                continue
            if np.isnan(value):
                values[frame, 0] = value
                break
            at = found if found < width else width - 1
            while at > 0 and values[frame, at - 1] < value:
                values[frame, at] = values[frame, at - 1]
                symbols[frame, at] = symbols[frame, at - 1]
                at -= 1
            values[frame, at] = value
            symbols[frame, at] = symbol
            found = min(found + 1, width)
    return values, symbols


@inlined
def _log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))"""
    if a < b:
        a, b = b, a
    return a if b == -np.inf else a + np.log1p(np.exp(b - a))


@inlined
def _offer(best: Array, origin: Array, slot_of: Array, found: int, score: float, place: int, slot: int) -> int:
    """Insert a candidate into the descending list of the best so far if it is one of them; the list's new length."""
    size = len(best)
    if score == -np.inf or (found == size and score <= best[size - 1]):
        return found
    at = found if found < size else size - 1
    while at > 0 and best[at - 1] < score:
        best[at], origin[at], slot_of[at] = best[at - 1], origin[at - 1], slot_of[at - 1]
        at -= 1
    best[at], origin[at], slot_of[at] = score, place, slot
    return min(found + 1, size)


@compiled("(f4[:,::1], i4[:,::1], i8, i8, i8, i8)")
def search_clip(
    values: Array, symbols: Array, vocabulary: int, blank: int, beam: int, n_best: int
) -> tuple[Array, Array, Array, Array]:
    """Prefix beam search over one clip.

    Args:
        values: float32 (T, K) log-probabilities of each frame's symbols, descending.
        symbols: int32 (T, K) which symbols they are of, each at most once a frame.
        vocabulary: V; symbols are below it.
        blank: the blank's symbol.
        beam: how many prefixes are kept after each frame.
        n_best: how many are returned, best first; fewer where the beam holds fewer.

    Returns:
        tokens int32 (n, T), of which the first lengths[i] count; frames int32 (n, T), likewise, at which each token was
        likeliest when the search appended it; lengths int32 (n,); and log-probabilities float64 (n,).
    """
    frame_count, width = values.shape
    capacity = 1 + frame_count * beam
    # the trie: node 0 is the empty prefix; children of a node are a chain from `child` along `sibling`
    parent, last = np.full(capacity, -1, np.int32), np.full(capacity, -1, np.int32)
    child, sibling = np.full(capacity, -1, np.int32), np.full(capacity, -1, np.int32)
    place = np.full(capacity, -1, np.int32)  # a node's place in the beam
    peak, peak_frame = np.full(capacity, -np.inf), np.zeros(capacity, np.int32)
    nodes = 1
    # the beam, best first: its nodes, and log-probabilities of alignments that end in a blank, in a symbol, in either
    beam_node = np.zeros(beam, np.int32)
    in_blank, in_symbol, total = np.zeros(beam), np.full(beam, -np.inf), np.zeros(beam)
    stay_blank, stay_symbol = np.empty(beam), np.empty(beam)
    place[0], held = 0, 1
    # candidates for the next beam: score, place they come from, slot of the symbol appended (-1: none)
    best, origin, appended = np.empty(beam), np.empty(beam, np.int32), np.empty(beam, np.int32)
    slot_of = np.full(vocabulary, -1, np.int32)  # where in this frame's list a symbol stands
    # the frame in which prefix + symbol was found to be in the beam itself
    known = np.full((beam, width), -1, np.int32)

    for frame in range(frame_count):
        value = np.maximum(values[frame], LOG_FLOOR)
        for slot in range(width):
            slot_of[symbols[frame, slot]] = slot
        found = 0
        for k in range(held):
            node = beam_node[k]
            stay_blank[k] = stay_symbol[k] = -np.inf
            slot = slot_of[blank]
            if slot >= 0:
                stay_blank[k] = total[k] + value[slot]
            slot = slot_of[last[node]] if node > 0 else -1
            if slot >= 0:
                stay_symbol[k] = in_symbol[k] + value[slot]
                shorter = place[parent[node]]
                if shorter >= 0:
                    known[shorter, slot] = frame
                    # only a blank between parts the same symbol twice
                    before = in_blank[shorter] if last[parent[node]] == last[node] else total[shorter]
                    stay_symbol[k] = _log_add(stay_symbol[k], before + value[slot])
                    if before > -np.inf and value[slot] > peak[node]:
                        peak[node], peak_frame[node] = value[slot], frame
            found = _offer(best, origin, appended, found, _log_add(stay_blank[k], stay_symbol[k]), k, -1)
        for k in range(held):
            for slot in range(width):
                if found == beam and total[k] + value[slot] <= best[beam - 1]:
                    break  # what follows is less likely still
                symbol = symbols[frame, slot]
                if symbol != blank and known[k, slot] != frame:
                    before = in_blank[k] if last[beam_node[k]] == symbol else total[k]
                    found = _offer(best, origin, appended, found, before + value[slot], k, slot)

        next_node, next_blank, next_symbol = np.empty(beam, np.int32), np.empty(beam), np.empty(beam)
        for i in range(found):
            k, slot = origin[i], appended[i]
            node = beam_node[k]
            if slot < 0:
                next_node[i], next_blank[i], next_symbol[i] = node, stay_blank[k], stay_symbol[k]
                continue
            symbol = symbols[frame, slot]
            longer = child[node]
            while longer >= 0 and last[longer] != symbol:
                longer = sibling[longer]
            if longer < 0:
                longer = nodes
                nodes += 1
                parent[longer], last[longer], sibling[longer] = node, symbol, child[node]
                child[node] = longer
            if value[slot] > peak[longer]:
                peak[longer], peak_frame[longer] = value[slot], frame
            next_node[i], next_blank[i], next_symbol[i] = longer, -np.inf, best[i]
        for k in range(held):
            place[beam_node[k]] = -1
        held, beam_node, in_blank, in_symbol = found, next_node, next_blank, next_symbol
        for i in range(held):
            place[beam_node[i]], total[i] = i, best[i]
        for slot in range(width):
            slot_of[symbols[frame, slot]] = -1

    count = min(n_best, held)
    tokens, frames = np.zeros((count, frame_count), np.int32), np.zeros((count, frame_count), np.int32)
    lengths = np.zeros(count, np.int32)
    for i in range(count):
        node = beam_node[i]
        while node > 0:
            lengths[i] += 1
            node = parent[node]
        node = beam_node[i]
        for at in range(lengths[i] - 1, -1, -1):
            tokens[i, at], frames[i, at], node = last[node], peak_frame[node], parent[node]
    return tokens, frames, lengths, total[:count].copy()
