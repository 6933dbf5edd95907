"""F0 tracks by pYIN (Mauch and Dixon, 2014): those of `librosa.pyin`, in a fraction of its time.

The steps are librosa's, and so are parts that it has as functions. But librosa goes from frame to frame through a
general distribution of SciPy's, and its Viterbi search tries every pair of states, of which nine in ten are out of
reach. Here the troughs of many frames are weighed at once, and the search tries neighbors.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from eval.metrics.waveforms import Wave
from runtime.constants import HOP_LENGTH, SAMPLE_RATE

FMIN, FMAX = 60.0, 500.0  # Hz
FRAME, HOP = 640, HOP_LENGTH
BINS_PER_SEMITONE = 5

_SHORTEST, _LONGEST = int(SAMPLE_RATE // FMAX), -int(-SAMPLE_RATE // FMIN)  # periods, in samples
_BINS = int(12 * BINS_PER_SEMITONE * np.log2(FMAX / FMIN)) + 1
# librosa's defaults: prior of the trough thresholds and of the troughs below one, weight of a frame's deepest trough
# under no threshold, octaves a second that a voice may change by, and how probably voicing changes from frame to frame
_THRESHOLDS, _BETA, _BOLTZMANN, _NO_TROUGH = 100, (2, 18), 2, 0.01
_OCTAVES_A_SECOND, _SWITCH = 35.92, 0.01
_REACH = BINS_PER_SEMITONE * round(_OCTAVES_A_SECOND * 12 * HOP / SAMPLE_RATE) // 2
"""Bins that F0 may change by from frame to frame."""

_FRAMES_AT_ONCE = 200
_TINY = float(np.finfo(np.float64).tiny)

Array = np.ndarray[Any, Any]
Track = np.ndarray[Any, np.dtype[np.float64]]


def pyin(wave: Wave) -> Track:
    """F0 in Hz, 0 where unvoiced: float32 (L,) -> (L // 160 + 1,), the n-th frame about sample 160 n."""
    difference = _normalized_difference(wave)
    parts = range(0, len(difference), _FRAMES_AT_ONCE)
    weights = np.concatenate([_trough_weights(difference[at : at + _FRAMES_AT_ONCE]) for at in parts])
    states = _most_probable_states(_observations(difference, weights))
    hz = FMIN * 2 ** (np.arange(_BINS) / (12 * BINS_PER_SEMITONE))
    return np.where(states < _BINS, hz[states % _BINS], 0.0)


def _normalized_difference(wave: Wave) -> Array:
    """(L,) -> (frames, lags) float32: the cumulative mean normalized difference function of YIN (de Cheveigne and
    Kawahara, 2002, equation 8), from the shortest period to the longest."""
    import librosa  # takes seconds

    frames = librosa.util.frame(np.pad(wave, FRAME // 2), frame_length=FRAME, hop_length=HOP)
    correlation = librosa.autocorrelate(frames, max_size=_LONGEST + 1, axis=0)
    energy = np.cumsum(np.square(frames[:_LONGEST]), axis=0)
    difference = 2 * (correlation[:1] - correlation[1:]) - energy
    mean = np.cumsum(difference, axis=0) / np.arange(1, _LONGEST + 1)[:, None]
    mean = mean[_SHORTEST - 1 :]
    return np.ascontiguousarray((difference[_SHORTEST - 1 :] / (mean + librosa.util.tiny(mean))).T)


class _Priors(NamedTuple):
    thresholds: Array  # (100,) upper edges
    beta: Array  # (100,) probability of each
    beta_below: Array  # (101,) sums of the first n
    boltzmann: Array  # (troughs, troughs + 1): of the k-th of n


@cache
def _priors() -> _Priors:
    from scipy import stats

    thresholds = np.linspace(0, 1, _THRESHOLDS + 1)
    beta = np.diff(stats.beta.cdf(thresholds, *_BETA))
    most = (_LONGEST - _SHORTEST) // 2 + 2
    boltzmann = stats.boltzmann.pmf(np.arange(most)[:, None], _BOLTZMANN, np.arange(most + 1))
    return _Priors(thresholds[1:], beta, np.array([beta[:n].sum() for n in range(_THRESHOLDS + 1)]), boltzmann)


def _trough_weights(difference: Array) -> Array:
    """Probability of each lag to be the period of its frame: (frames, lags) float64, 0 where there is no trough."""
    priors, found = _priors(), np.zeros(difference.shape)
    trough = np.empty(difference.shape, bool)
    inner = difference[:, 1:-1]
    trough[:, 1:-1] = (inner < difference[:, :-2]) & (inner <= difference[:, 2:])
    trough[:, 0], trough[:, -1] = (difference[:, a] < difference[:, b] for a, b in ((0, 1), (-1, -2)))
    frame, lag = np.nonzero(trough)
    if not len(frame):
        return found
    height = difference[frame, lag]
    first = np.flatnonzero(np.diff(frame, prepend=-1))  # trough of each frame that has one
    count = np.diff(first, append=len(frame))
    below = height[:, None] < priors.thresholds
    summed = np.zeros((len(below) + 1, _THRESHOLDS), np.int16)  # 200 frames have no 32,000 troughs
    np.cumsum(below, axis=0, out=summed[1:])
    before, after = summed[first], summed[first + count]
    place, those = (summed[:-1] - np.repeat(before, count, axis=0))[below], np.repeat(after - before, count, axis=0)
    prior = np.zeros(below.shape)
    prior[below] = priors.boltzmann[place, those[below]]
    weight = prior @ priors.beta
    # the deepest trough also has what no threshold leaves to any
    deepest = np.flatnonzero(height == np.repeat(np.minimum.reduceat(height, first), count))
    deepest = deepest[np.unique(frame[deepest], return_index=True)[1]]
    weight[deepest] += _NO_TROUGH * priors.beta_below[np.count_nonzero(~below[deepest], axis=1)]
    found[frame, lag] = weight
    return found


def _observations(difference: Array, weights: Array) -> Array:
    """Probability of each state in each frame, (2 x bins, frames): voiced at a pitch, then unvoiced."""
    frame, lag = np.nonzero(weights)
    before, here, after = (np.pad(difference, ((0, 0), (1, 1)))[frame, lag + step] for step in range(3))
    # parabola through three lags, in the precision that librosa has
    curve, slope = (after + before).astype(np.float64) - 2.0 * here, (after - before).astype(np.float64) / 2
    inside = (np.abs(slope) < np.abs(curve)) & (lag > 0) & (lag < difference.shape[1] - 1)
    shift = np.divide(-slope, curve, out=np.zeros_like(curve), where=inside).astype(np.float32)
    octaves = np.log2(SAMPLE_RATE / (_SHORTEST + lag + shift) / FMIN)
    place = np.clip(np.round(12 * BINS_PER_SEMITONE * octaves), 0, _BINS).astype(int)
    observed = np.zeros((2 * _BINS, len(difference)))
    observed[place, frame] = weights[frame, lag]
    observed[_BINS:] = (1 - np.clip(observed[:_BINS].sum(axis=0), 0, 1)) / _BINS
    return observed


class _Transitions(NamedTuple):
    every: Array  # (to, from) log probability
    near: Array  # (to, 2 x (2 reach + 1)): of those within reach, from voiced ones, then from unvoiced ones
    origin: Array  # as `near`: which state, 2 x bins where there is none


@cache
def _transitions() -> _Transitions:
    import librosa

    local = librosa.sequence.transition_local(_BINS, 2 * _REACH + 1, window="triangle", wrap=False)
    every = np.log(np.kron(librosa.sequence.transition_loop(2, 1 - _SWITCH), local) + _TINY).T
    pitch = np.arange(_BINS)[:, None] + np.arange(-_REACH, _REACH + 1)
    there = (pitch >= 0) & (pitch < _BINS)
    origin = np.concatenate([np.where(there, pitch + voicing, 2 * _BINS) for voicing in (0, _BINS)], axis=1)
    origin = np.concatenate([origin, origin])
    near = np.pad(every, ((0, 0), (0, 1)))[np.arange(2 * _BINS)[:, None], origin]
    return _Transitions(np.ascontiguousarray(every), near, origin)


def _most_probable_states(observed: Array) -> Array:
    """The Viterbi path through (2 x bins, frames) probabilities: a state a frame."""
    transitions, states = _transitions(), np.arange(2 * _BINS)
    log_probability = np.log(observed.T + _TINY)
    value = np.full(2 * _BINS + 1, -np.inf)  # the last stands for what lies outside of all pitches
    value[:-1] = log_probability[0] + np.log(1 / (2 * _BINS) + _TINY)
    pointers = np.empty((len(log_probability), 2 * _BINS), np.uint16)
    for frame in range(1, len(log_probability)):
        through = value[transitions.origin]
        through += transitions.near
        best = through.argmax(axis=1)
        reached = through[states, best]
        pointers[frame] = transitions.origin[states, best]
        if value.max() + np.log(_TINY) >= reached.min():  # what is out of reach might be less improbable still
            through = value[:-1] + transitions.every
            pointers[frame] = best = through.argmax(axis=1)
            reached = through[states, best]
        value[:-1] = log_probability[frame] + reached
    path = np.empty(len(log_probability), int)
    path[-1] = value[:-1].argmax()
    for frame in range(len(path) - 1, 0, -1):
        path[frame - 1] = pointers[frame, path[frame]]
    return path
