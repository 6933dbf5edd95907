"""Metrics of synthesized speech: a pair of waveforms to figures, and a pair of texts to error counts.

speech.py     STOI, ESTOI, PESQ
spectral.py   log-spectral distance and mel-cepstral distortion; dtw.py: dynamic time warping
pitch.py      errors in F0 and in voicing
learned.py    speaker similarity and predicted MOS by pretrained networks
text.py       word and character errors, text normalization
registry.py   the metrics of waveforms by name, and how figures are displayed
pool.py       one pair scored, or many in a pool of processes
audio.py      checks of the waveforms
optional.py   packages of extras, imported on first use

Importing this is cheap: neither torch, Ray, librosa nor a package of an extra is imported.
"""

from eval.metrics.audio import MetricError, Wave
from eval.metrics.optional import PackageMissingError
from eval.metrics.pitch import f0_error, voicing_error
from eval.metrics.pool import PairScores, ScoringPool, score
from eval.metrics.registry import SPEECH_METRICS, Display, Metric, display_of, load_packages, metric_of
from eval.metrics.spectral import lsd, mcd
from eval.metrics.speech import estoi, pesq_narrow, pesq_wide, stoi
from eval.metrics.text import ErrorCount, character_errors, normalize_text, total_errors, word_errors

__all__ = [
    "SPEECH_METRICS",
    "Display",
    "ErrorCount",
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
    "total_errors",
    "voicing_error",
    "word_errors",
]
