"""Scores, of sound against sound and of words against words. Neither torch nor Ray is imported, nor an extra.

speech.py     STOI, ESTOI, PESQ of a pair of waveforms
spectral.py   their log-spectral and mel-cepstral distance; warping.py: two sequences of frames aligned
pitch.py      errors in F0 and in voicing
judges.py     what others' networks think of a voice and of how natural it sounds
words.py      errors in words and in characters of a pair of texts
registry.py   the metrics of waveforms by name, and how figures are shown
scorers.py    a pair scored; many, in processes of their own, while the caller goes on
waves.py      what metrics of waveforms are given
packages.py   packages of the extras (eval, whisper, judges), imported when they are first used
"""

from eval.metrics.audio import MetricError, Wave
from eval.metrics.optional import PackageMissingError
from eval.metrics.pitch import f0_error, voicing_error
from eval.metrics.pool import PairScores, ScoringPool, score
from eval.metrics.registry import SPEECH_METRICS, Display, Metric, display_of, load_packages, metric_of
from eval.metrics.spectral import lsd, mcd
from eval.metrics.speech import estoi, pesq_narrow, pesq_wide, stoi
from eval.metrics.text import Errors, character_errors, normalize_text, total, word_errors

__all__ = [
    "SPEECH_METRICS",
    "Display",
    "Errors",
    "Metric",
    "MetricError",
    "PackageMissingError",
    "PairScores",
    "ScoringPool",
    "Wave",
    "character_errors",
    "display_of",
    "estoi",
    "f0_error",
    "load_packages",
    "lsd",
    "mcd",
    "metric_of",
    "normalize_text",
    "pesq_narrow",
    "pesq_wide",
    "score",
    "stoi",
    "total",
    "voicing_error",
    "word_errors",
]
